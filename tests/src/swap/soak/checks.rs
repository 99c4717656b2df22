//! Between the rounds, when nobody works: both servers show exactly what the model knows.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::World;
use super::content::id_in;
use super::folders::validity;
use super::idler::Idler;
use super::imap::Session;
use super::model::Look;
use super::pop3;
use super::servers::{Side, USER};
use super::worker::{SHARED, Worker};

/// As long as a directory that has just changed may need to be looked at a second time, and no longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes the mailboxes of all.
pub fn prepare(world: &World) {
    let mut session = Session::open(world, Side::Theirs);
    for name in SHARED {
        if name != "INBOX" {
            session.must(&format!("CREATE {name}"));
        }
        let validity = validity(&mut session, name);
        world.model().folders.insert(name.to_owned(), validity);
    }
    session.close();
}

pub fn all<'world>(world: &World, workers: &mut [Worker<'world>], idlers: &mut [Idler<'world>]) {
    // Dovecot first: what a POP3 session of its own has read and left without QUIT is `\Seen` in Dovecot's log, and in the
    // file's name from the next look of Dovecot's on.
    for side in [Side::Theirs, Side::Ours] {
        let mut session = Session::open(world, side);
        mailboxes(world, &mut session);
        let folders = world.model().folders.clone();
        for name in folders.keys() {
            let there = session.select("EXAMINE", name);
            session.demand(there, name);
            look(world, &mut session);
        }
        session.close();
    }
    let sessions = workers.iter_mut().map(|worker| &mut worker.session);
    for session in sessions.chain(idlers.iter_mut().map(|idler| &mut idler.session)) {
        look(world, session);
    }
    listed_by_doveadm(world);
    maildrops(world);
    quota(world);
    left_behind(&world.servers.dovecot.maildir(USER));
    let complaints = world.servers.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// The operator's `doveadm` shows what the servers show.
fn listed_by_doveadm(world: &World) {
    let listed = world.servers.dovecot.doveadm(&["mailbox", "list", "-u", USER]);
    let listed: BTreeSet<&str> = listed.lines().collect();
    let model = world.model();
    let missing: Vec<_> =
        model.folders.keys().filter(|name| !listed.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} not in {listed:?}");
}

/// Both servers list the same mailboxes and subscriptions.
fn mailboxes(world: &World, session: &mut Session<'_>) {
    let wanted: BTreeSet<String> = world.model().folders.keys().cloned().collect();
    let subscribed = world.model().subscribed.clone();
    until(|| {
        let (mut listed, subscriptions) = (session.list("LIST"), session.list("LSUB"));
        let side = session.side;
        if world.servers.is_dovecot(side) {
            // Its list index does not notice that a mailbox is gone whose children stay, not even after its own DELETE
            // (docs/differences.md; with Dovecot alone, `THEORIS_SOAK_ALONE`, in every run).
            let has_children = |name: &str| wanted.iter().any(|other| is_below(other, name));
            listed.retain(|name| wanted.contains(name) || !has_children(name));
        }
        let wrong =
            (listed != wanted).then(|| format!("{side:?}: LIST {listed:?}, should be {wanted:?}"));
        let other = (subscriptions != subscribed)
            .then(|| format!("{side:?}: LSUB {subscriptions:?}, should be {subscribed:?}"));
        wrong.into_iter().chain(other).collect()
    });
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

/// The selected mailbox, exactly.
fn look(world: &World, session: &mut Session<'_>) {
    let selected = session.selected.as_ref().unwrap();
    let (validity, name, side) = (selected.validity, selected.name.clone(), session.side);
    let lost = Instant::now() + PATIENCE / 2;
    until(|| {
        session.must("NOOP");
        let seen = seen(session);
        let (mut wrong, losses) = world.model().wrong(validity, &seen);
        if !wrong.is_empty() && Instant::now() >= lost {
            world.renumber(validity, &seen);
        }
        if !session.selected.as_ref().unwrap().is_known() {
            wrong.push("a number without a message".to_owned());
        }
        if wrong.is_empty() && Instant::now() >= lost {
            wrong = world.charge(losses);
        } else {
            wrong.extend(losses.into_iter().map(|loss| loss.told));
        }
        if wrong.is_empty() {
            world.model().settle(validity, &seen);
        }
        wrong.into_iter().map(|problem| format!("{side:?}, {name}: {problem}")).collect()
    });
}

fn seen(session: &mut Session<'_>) -> Look {
    if session.selected.as_ref().unwrap().keys().is_empty() {
        return Look::new();
    }
    let answer = session.must("FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (X-SOAK)])");
    let lines = answer.fetched.into_iter().filter_map(|fetched| {
        Some((fetched.uid?, (id_in(&fetched.text)?.to_owned(), fetched.words?)))
    });
    lines.collect()
}

/// Both POP3 servers list the same, and it is what IMAP showed.
fn maildrops(world: &World) {
    let [ours, theirs] = Side::BOTH.map(|side| pop3::open(world, side).1);
    assert_eq!(ours, theirs);
    let known: Vec<_> = ours.iter().map(|(_, key)| *key).collect();
    assert_eq!(known, world.model().keys_of("INBOX"));
}

/// Both tell the same usage, and after a count it is what lies there. Until then it may be off: whoever counts anew does
/// not see what others add meanwhile, with Dovecot alone as well.
fn quota(world: &World) {
    let told = |world: &World| {
        let used = Side::BOTH.map(|side| {
            let mut session = Session::open(world, side);
            let answer = session.must("GETQUOTAROOT INBOX");
            session.close();
            answer.lines.into_iter().find(|line| line.starts_with("* QUOTA ")).unwrap()
        });
        assert_eq!(used[0], used[1]);
        used[0].clone()
    };
    let before = told(world);
    world.servers.dovecot.doveadm(&["quota", "recalc", "-u", USER]);
    let after = told(world);
    if before != after {
        world.model().count("quota counts that were off");
    }
    let lies = stated(&world.servers.dovecot.maildir(USER)).div_ceil(1024);
    assert!(after.contains(&format!("(STORAGE {lies} ")), "{after}: {lies} kB are there");
}

/// The sum of the sizes that file names state, of all mailboxes.
fn stated(maildir: &Path) -> u64 {
    let sizes = files(maildir).into_iter().filter_map(|path| {
        let in_place = path.parent()?.ends_with("cur") || path.parent()?.ends_with("new");
        let name = String::from_utf8_lossy(path.file_name()?.as_bytes()).into_owned();
        let digits = name.split_once(",S=").filter(|_| in_place)?.1.to_owned();
        digits.split([',', ':']).next()?.parse::<u64>().ok()
    });
    sizes.sum()
}

/// Nothing half-done lies about, no lock is held.
fn left_behind(maildir: &Path) {
    until(|| {
        let left = files(maildir).into_iter().filter(|path| {
            path.parent().is_some_and(|parent| parent.ends_with("tmp"))
                || path.extension().is_some_and(|end| end == "lock" || end == "tmp")
        });
        left.map(|path| path.display().to_string()).collect()
    });
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.map(|entry| entry.path());
    below.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Looks again until nothing is wrong; after a while, what is wrong stops the test.
#[track_caller]
fn until(mut wrong: impl FnMut() -> Vec<String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let problems = wrong();
        if problems.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{problems:#?}");
        std::thread::yield_now();
    }
}
