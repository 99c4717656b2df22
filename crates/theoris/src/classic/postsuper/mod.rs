//! `postsuper`: deletes, holds, releases, requeues and expires queued mail, and puts the queue directory
//! in order.

mod one;
mod queues;
mod repair;

use std::io::BufRead as _;

use mail_types::QueueId;

use super::options::{Word, parse};
use super::{Fatal, Site, config_directory};
use queues::Name;

const USAGE: &str = "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] \
    [-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] \
    [-p (purge temporary files)] [-r queue_id (requeue)] [-s (structure fix)] \
    [-S (redundant structure fix)][-v (verbose)] [queue...]";
/// How the original ends whatever went wrong.
const FAILED: u8 = 1;

/// What is done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Delete,
    Hold,
    Release,
    Requeue,
    Expire,
    ExpireAndRelease,
}

/// One step of a run, in the order of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Message(Act, String),
    /// The ids on standard input.
    Listed(Act),
    All(Act),
    /// `told`: with a word about names that are no ids, which a repair says anyway.
    Purge {
        told: bool,
    },
    /// Long names are made to fit their inode, too.
    Repair {
        long: bool,
    },
}

/// How many messages were touched; nothing for what was not asked.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requeued: Option<usize>,
    deleted: Option<usize>,
    held: Option<usize>,
    expired: Option<usize>,
    released: Option<usize>,
    renamed: usize,
}

/// `postsuper`.
///
/// # Errors
///
/// [`Fatal`], as the original ends. An id that is not there is no error.
pub fn run(words: Vec<String>) -> Result<(), Fatal> {
    let (directory, steps, named) = read(&words)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(fatal("use of this command is reserved for the superuser"));
    }
    let site = Site::read(&config_directory(directory.as_deref()), FAILED)?;
    let named = named
        .iter()
        .map(|name| Name::of(name).ok_or_else(|| fatal(format!("invalid directory name: {name}"))))
        .collect::<Result<Vec<_>, _>>()?;
    become_owner(&site.mail_owner)?;
    let mut tally = Tally::default();
    for step in &steps {
        perform(&site, step, &named, &mut tally)?;
    }
    tell(&tally);
    Ok(())
}

type Words = (Option<String>, Vec<Step>, Vec<String>);

fn read(words: &[String]) -> Result<Words, Fatal> {
    let (options, named) = parse(words, "c:d:e:f:h:H:pr:sSv");
    let (mut directory, mut steps) = (None, Vec::new());
    for option in options {
        let (act, id) = match option {
            Word::Value('c', value) => {
                directory = Some(value);
                continue;
            }
            Word::Flag('v') => continue,
            Word::Flag('p') => {
                steps.push(Step::Purge { told: true });
                continue;
            }
            Word::Flag(letter @ ('s' | 'S')) => {
                steps.push(Step::Repair { long: letter == 'S' });
                continue;
            }
            Word::Value('d', id) => (Act::Delete, id),
            Word::Value('e', id) => (Act::Expire, id),
            Word::Value('f', id) => (Act::ExpireAndRelease, id),
            Word::Value('h', id) => (Act::Hold, id),
            Word::Value('H', id) => (Act::Release, id),
            Word::Value('r', id) => (Act::Requeue, id),
            _ => return Err(fatal(USAGE)),
        };
        steps.push(match id.as_str() {
            "ALL" => Step::All(act),
            "-" => Step::Listed(act),
            _ => Step::Message(act, id),
        });
    }
    if steps.is_empty() {
        steps = vec![Step::Purge { told: false }, Step::Repair { long: false }];
    }
    Ok((directory, steps, named))
}

/// Nothing in the queue needs root: its owner does the work.
fn become_owner(owner: &str) -> Result<(), Fatal> {
    let user = nix::unistd::User::from_name(owner).ok().flatten();
    let user = user.ok_or_else(|| fatal(format!("no user {owner}: mail_owner")))?;
    let dropped = nix::unistd::setgroups(&[user.gid])
        .and_then(|()| nix::unistd::setresgid(user.gid, user.gid, user.gid))
        .and_then(|()| nix::unistd::setresuid(user.uid, user.uid, user.uid));
    dropped.map_err(|error| fatal(format!("become user {owner}: {error}")))
}

fn perform(site: &Site, step: &Step, named: &[Name], tally: &mut Tally) -> Result<(), Fatal> {
    match step {
        Step::Message(act, id) => one(site, *act, id, named, tally),
        Step::Listed(act) => {
            tally.begin(*act);
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(|error| fatal(format!("read standard input: {error}")))?;
                one(site, *act, &line, named, tally)?;
            }
            Ok(())
        }
        Step::All(act) => {
            tally.begin(*act);
            one::all(site, *act, &queues::chosen(named, one::every(*act)), tally)
        }
        Step::Purge { told } => repair::purge(site, &queues::chosen(named, queues::ALL), *told),
        Step::Repair { long } => {
            tally.renamed += repair::structure(site, &queues::chosen(named, queues::ALL), *long)?;
            Ok(())
        }
    }
}

fn one(site: &Site, act: Act, id: &str, named: &[Name], tally: &mut Tally) -> Result<(), Fatal> {
    tally.begin(act);
    match QueueId::parse(id) {
        Ok(id) => one::message(site, act, &id, &queues::chosen(named, one::SEARCHED), tally),
        Err(_) => {
            warn(&format!("invalid mail queue id: {id}"));
            Ok(())
        }
    }
}

impl Tally {
    /// Something was asked: its sum is told, even if it is none.
    fn begin(&mut self, act: Act) {
        let sums = match act {
            Act::Delete => [Some(&mut self.deleted), None],
            Act::Hold => [Some(&mut self.held), None],
            Act::Release => [Some(&mut self.released), None],
            Act::Requeue => [Some(&mut self.requeued), None],
            Act::Expire => [Some(&mut self.expired), None],
            Act::ExpireAndRelease => [Some(&mut self.expired), Some(&mut self.released)],
        };
        for sum in sums.into_iter().flatten() {
            sum.get_or_insert(0);
        }
    }
}

fn tell(tally: &Tally) {
    for (what, count) in [
        ("Requeued", tally.requeued),
        ("Deleted", tally.deleted),
        ("Placed on hold", tally.held),
        ("Force-expired", tally.expired),
        ("Released from hold", tally.released),
        ("Renamed to match inode number", (tally.renamed > 0).then_some(tally.renamed)),
    ] {
        if let Some(count) = count {
            let plural = if count == 1 { "" } else { "s" };
            say(&format!("{what}: {count} message{plural}"));
        }
    }
    if tally.renamed > 0 {
        warn("QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS");
    }
}

fn say(text: &str) {
    eprintln!("postsuper: {text}");
}

fn warn(text: &str) {
    say(&format!("warning: {text}"));
}

fn fatal(text: impl std::fmt::Display) -> Fatal {
    Fatal::new(FAILED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(words: &str) -> Vec<Step> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        read(&words).unwrap().1
    }

    #[test]
    fn steps_keep_the_order_of_the_command_line() {
        assert_eq!(
            steps("-h A -d ALL -r - -p"),
            [
                Step::Message(Act::Hold, "A".into()),
                Step::All(Act::Delete),
                Step::Listed(Act::Requeue),
                Step::Purge { told: true }
            ]
        );
        assert_eq!(steps(""), [Step::Purge { told: false }, Step::Repair { long: false }]);
        assert_eq!(read(&["-x".to_owned()]).unwrap_err().code, 1);
    }
}
