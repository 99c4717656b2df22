//! What Dovecot has confirmed and taken back itself, told apart from what ours has lost.
//!
//! Dovecot loses a confirmed STORE now and then, also when nobody else works on the Maildir, and what one of its processes
//! has expunged, another that is just copying it may put back under the same name, and the same UID. `cargo xtask soak` lets
//! strace keep a record of every link, rename and removal, and a loss is Dovecot's own only if that record and the file itself
//! say so; without a record every loss stops the test. What Dovecot has confirmed and not written to the file's name is not in
//! a copy that ours makes of the file.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::World;
use super::model::{Key, Look, Taken, WORDS, names};
use super::servers::USER;
use super::worker::SHARED;

/// The names of Dovecot's processes that rename message files; every other name in the record counts as ours.
const DOVECOTS: [&str; 4] = ["imap", "pop3", "lmtp", "doveadm"];
/// The letters of the flags in `WORDS`, in their order there.
const FLAGS: [char; 5] = ['R', 'F', 'D', 'T', 'S'];
/// How often Dovecot may lose a change of its own: once in each started span of this length.
const SPAN: Duration = Duration::from_secs(300);

/// What is not as it should be.
#[derive(Clone, Debug)]
pub struct Loss {
    pub key: Key,
    pub what: Lost,
    pub told: String,
}

#[derive(Clone, Copy, Debug)]
pub enum Lost {
    /// Words of a message.
    Words(u32),
    /// That it was taken away: it is there.
    Removal(Taken),
}

/// strace's record, of which only what was written in this round is looked at.
pub struct Renames {
    record: PathBuf,
    from: u64,
}

/// A rename of a message's file that was done, or a link to it that was made.
#[derive(Clone, Debug, PartialEq)]
struct Rename {
    by: String,
    at: Duration,
    from: String,
    to: String,
}

/// A message's file that was to be removed.
#[derive(Clone, Debug, PartialEq)]
struct Removal {
    by: String,
    at: Duration,
    path: String,
}

/// What was done to message files.
#[derive(Debug, Default)]
struct Deeds {
    links: Vec<Rename>,
    renames: Vec<Rename>,
    removals: Vec<Removal>,
}

impl Renames {
    pub fn from_environment() -> Option<Self> {
        let record = PathBuf::from(std::env::var_os("THEORIS_SOAK_RENAMES")?);
        Some(Self { record, from: 0 })
    }

    pub fn begin_round(&mut self) {
        self.from = fs::metadata(&self.record).unwrap().len();
    }

    fn all(&self) -> Deeds {
        let mut file = fs::File::open(&self.record).unwrap();
        file.seek(SeekFrom::Start(self.from)).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        parse(&String::from_utf8_lossy(&text))
    }
}

/// What was done in lines such as `17<imap> 1795369611.03 rename("A", "B") = 0`, of which two may be one call. A removal that
/// was begun counts as one.
fn parse(record: &str) -> Deeds {
    let mut deeds = Deeds::default();
    let mut begun: Vec<(&str, Rename)> = Vec::new();
    for line in record.lines() {
        let mut fields = line.splitn(3, ' ');
        let (Some(process), Some(at), Some(call)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let is_link = call.trim_start_matches("<... ").starts_with("link");
        let done = if is_link { &mut deeds.links } else { &mut deeds.renames };
        if call.starts_with("<... rename") || call.starts_with("<... link") {
            let call_begun = begun.iter().position(|(by, _)| *by == process);
            let rename = call_begun.map(|index| begun.swap_remove(index).1);
            done.extend(rename.filter(|_| call.ends_with(" = 0")));
            continue;
        }
        let Ok(at) = at.parse().map(Duration::from_secs_f64) else { continue };
        let by = process.split_once('<').map_or("", |(_, name)| name.trim_end_matches('>'));
        let by = by.to_owned();
        let paths: Vec<String> = call.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        let rename = match <[String; 2]>::try_from(paths) {
            Ok([from, to]) => Rename { by, at, from, to },
            Err(mut paths) => {
                if call.starts_with("unlink") {
                    deeds.removals.extend(paths.pop().map(|path| Removal { by, at, path }));
                }
                continue;
            }
        };
        if call.ends_with("<unfinished ...>") {
            begun.push((process, rename));
        } else if call.ends_with(" = 0") {
            done.push(rename);
        }
    }
    deeds
}

/// A mailbox's directory and base name of each message file of the record: `…/Maildir/.Shared/cur/BASE:2,S`.
fn place(path: &str) -> Option<(&str, &str)> {
    let (directory, file) = path.rsplit_once('/')?;
    let (mailbox, _) = directory.rsplit_once('/')?;
    let mailbox = mailbox.rsplit_once("Maildir").map_or("", |(_, name)| name);
    Some((mailbox.trim_start_matches('/'), file.split(':').next()?))
}

/// The renames that changed whether the message's file has the letter; an error if one of them is not Dovecot's.
fn changed_by_dovecot<'record>(
    renames: &'record [Rename],
    wanted: (&str, &str),
    letter: char,
    since: Duration,
) -> Result<Vec<&'record Rename>, String> {
    let changes = renames.iter().filter(|rename| rename.at >= since);
    let changes = changes.filter(|rename| is_it(&rename.from, wanted) || is_it(&rename.to, wanted));
    let changes: Vec<_> =
        changes.filter(|rename| has(&rename.from, letter) != has(&rename.to, letter)).collect();
    match changes.iter().find(|rename| !DOVECOTS.contains(&&*rename.by)) {
        Some(ours) => Err(format!("ours has changed it: {ours:?}")),
        None => Ok(changes),
    }
}

/// Follows the file back through the copies that ours has made of it: each has what the name of its source had, and none of
/// ours has changed that. Gives those copies.
fn copied_as_it_was<'record>(
    deeds: &'record Deeds,
    mut wanted: (&'record str, &'record str),
    (on, since): (bool, Duration),
    letter: impl Fn(&Path) -> Option<char>,
) -> Result<Vec<&'record Rename>, String> {
    let ours = |deed: &&Rename| !DOVECOTS.contains(&&*deed.by);
    let mut made = deeds.renames.iter().filter(ours).filter(|rename| rename.at >= since);
    if let Some(rename) = made.find(|one| one.from.contains("/tmp/") && is_it(&one.to, wanted)) {
        return Err(format!("ours has written it: {rename:?}"));
    }
    let (mut copies, mut before) = (Vec::new(), Duration::MAX);
    let links = || deeds.links.iter().rev().filter(ours);
    while let Some(link) = links().find(|link| link.at < before && is_it(&link.to, wanted)) {
        let directory = Path::new(&link.from).parent().and_then(Path::parent);
        let letter = directory.and_then(&letter).ok_or("the letter of its source is not known")?;
        let source = place(&link.from).ok_or("its source is not known")?;
        if has(&link.from, letter) == on {
            return Err(format!("ours has lost it: {link:?}"));
        }
        changed_by_dovecot(&deeds.renames, source, letter, since)?;
        copies.push(link);
        (wanted, before) = (source, link.at);
    }
    Ok(copies)
}

fn is_it(path: &str, (folder, base): (&str, &str)) -> bool {
    place(path).is_some_and(|(seen, of)| of == base && may_be(seen, folder))
}

fn has(path: &str, letter: char) -> bool {
    path.rsplit_once(":2,").is_some_and(|(_, info)| info.contains(letter))
}

impl World {
    /// Those losses that are not proved to be Dovecot's own, each with the reason; the others are counted.
    pub fn charge(&self, losses: Vec<Loss>) -> Vec<String> {
        let mut charged = Vec::new();
        for loss in losses {
            match self.dovecots_own(&loss) {
                Ok((since, evidence)) => {
                    self.model().concede(loss.key, loss.what, since, evidence);
                }
                Err(reason) => charged.push(format!("{} ({reason})", loss.told)),
            }
        }
        let most = 1 + self.began.elapsed().as_secs() / SPAN.as_secs();
        if self.model().losses.len() as u64 > most {
            charged.push(format!(
                "Dovecot has lost more than {most} changes: {:#?}",
                self.model().losses
            ));
        }
        charged
    }

    /// Messages to which Dovecot has given a new UID, as its log says, have that one from now on.
    pub fn renumber(&self, validity: u32, seen: &Look) {
        let Some(name) = self.model().name_of(validity) else { return };
        let directory = self.directory(&name).0;
        for (place, base) in self.servers.renumbered() {
            if let Some(uid) = uid_of(&directory, &base).filter(|_| place == directory) {
                let evidence = format!("{name}: {base} has the new UID {uid}, as Dovecot says");
                self.model().renumbered((validity, uid), seen, evidence);
            }
        }
    }

    /// A mailbox's directory, and its name there.
    fn directory(&self, name: &str) -> (PathBuf, String) {
        let folder = if name == "INBOX" { String::new() } else { format!(".{name}") };
        let maildir = self.servers.dovecot.maildir(USER);
        (if folder.is_empty() { maildir } else { maildir.join(&folder) }, folder)
    }

    /// Gives since when, and the evidence.
    fn dovecots_own(&self, loss: &Loss) -> Result<(Duration, String), String> {
        let renames = self.renames.lock().unwrap();
        let deeds = renames.as_ref().ok_or("no record of renames")?.all();
        let name = self.model().name_of(loss.key.0).ok_or("its mailbox is gone")?;
        let (directory, folder) = self.directory(&name);
        let base = base_of(&directory, loss.key.1).ok_or("its UID is not listed")?;
        let file = file_of(&directory, &base).ok_or("its file is not there")?;
        let (since, evidence) = match loss.what {
            Lost::Words(words) => {
                self.not_stored(loss.key, words, &deeds, (&folder, &base), &file)?
            }
            Lost::Removal(taken) => self.not_taken(taken, &deeds, (&folder, &base), &file)?,
        };
        Ok((since, format!("{}; {file}; {evidence}", loss.told)))
    }

    /// Every server that confirmed these words is Dovecot; the file says what is seen now, so it is lost; and no rename by
    /// ours has changed one of the letters since the first of those STOREs began.
    fn not_stored(
        &self,
        key: Key,
        words: u32,
        deeds: &Deeds,
        (folder, base): (&str, &str),
        file: &str,
    ) -> Result<(Duration, String), String> {
        let (mut evidence, mut store) = (Vec::new(), Duration::MAX);
        let directory = self.servers.dovecot.maildir(USER).join(folder);
        for place_of_word in (0..WORDS.len()).filter(|place| words & (1 << place) != 0) {
            let word = WORDS[place_of_word];
            let letter =
                letter(&directory, place_of_word).ok_or(format!("{word} has no letter"))?;
            let (on, since) = self.confirmed_by_dovecot(key, 1 << place_of_word)?;
            if has(file, letter) == on {
                return Err(format!("{file} has {word} as it should be"));
            }
            let changes = changed_by_dovecot(&deeds.renames, (folder, base), letter, since)?;
            let there = |directory: &Path| self::letter(directory, place_of_word);
            let copies = copied_as_it_was(deeds, (folder, base), (on, since), there)?;
            store = store.min(since);
            evidence.push(format!(
                "{word} ({letter}) was {on}, changed by {changes:?}, copied by {copies:?}"
            ));
        }
        Ok((store, evidence.join("; ")))
    }

    /// Dovecot has confirmed it, and since then nobody else has done anything to the file, which is removed here at last.
    fn not_taken(
        &self,
        taken: Taken,
        deeds: &Deeds,
        wanted: (&str, &str),
        file: &str,
    ) -> Result<(Duration, String), String> {
        if !self.servers.is_dovecot(taken.side) {
            return Err("ours has confirmed it".into());
        }
        let since = taken.began.duration_since(UNIX_EPOCH).unwrap();
        let renames = deeds.renames.iter().filter(|rename| rename.at >= since);
        let renames: Vec<_> = renames
            .filter(|rename| is_it(&rename.from, wanted) || is_it(&rename.to, wanted))
            .collect();
        let removals = deeds.removals.iter().filter(|removal| removal.at >= since);
        let removals: Vec<_> = removals.filter(|removal| is_it(&removal.path, wanted)).collect();
        let mut all = renames.iter().map(|one| &one.by).chain(removals.iter().map(|one| &one.by));
        let evidence = format!("removed by {removals:?}, renamed by {renames:?}");
        if all.any(|by| !DOVECOTS.contains(&&**by)) {
            return Err(format!("ours was at it: {evidence}"));
        }
        let cur = self.servers.dovecot.maildir(USER).join(wanted.0).join("cur");
        fs::remove_file(cur.join(file)).map_err(|error| format!("{file}: {error}"))?;
        Ok((since, evidence))
    }

    /// What the word was set to, and since when Dovecot has said so.
    fn confirmed_by_dovecot(&self, key: Key, word: u32) -> Result<(bool, Duration), String> {
        let model = self.model();
        let changes = model.last_changes(key, word);
        let last = changes.first().ok_or(format!("nobody has stored {}", names(word)))?;
        if let Some(ours) = changes.iter().find(|change| !self.servers.is_dovecot(change.side)) {
            return Err(format!("ours has confirmed it: {ours:?}"));
        }
        let first = changes.iter().map(|change| change.began).min().unwrap_or(last.began);
        Ok((last.on, first.duration_since(UNIX_EPOCH).unwrap()))
    }

    pub fn tell_losses(&self) {
        let losses = self.model().losses.clone();
        println!("Dovecot's own losses: {}", losses.len());
        losses.values().flatten().for_each(|loss| println!("  {loss}"));
    }
}

/// Whether the mailbox directory `seen` of the record may be what is now `folder`: those of a worker get other names.
fn may_be(seen: &str, folder: &str) -> bool {
    let shared = SHARED
        .iter()
        .any(|name| *name == "INBOX" && folder.is_empty() || folder == format!(".{name}"));
    if shared { seen == folder } else { seen.get(..3) == folder.get(..3) }
}

fn uid_of(directory: &Path, base: &str) -> Option<u32> {
    let list = fs::read_to_string(directory.join("dovecot-uidlist")).ok()?;
    let mut lines = list.lines().rev().filter_map(|line| line.split_once(" :"));
    let (id, _) = lines.find(|(_, listed)| *listed == base)?;
    id.split(' ').next()?.parse().ok()
}

fn base_of(directory: &Path, uid: u32) -> Option<String> {
    let list = fs::read_to_string(directory.join("dovecot-uidlist")).ok()?;
    let uid = uid.to_string();
    let lines = list.lines().rev().filter_map(|line| line.split_once(" :"));
    let mut bases = lines.filter(|(id, _)| id.split(' ').next() == Some(&*uid));
    bases.next().map(|(_, base)| base.to_owned())
}

/// The name of the message's file.
fn file_of(directory: &Path, base: &str) -> Option<String> {
    let entries = ["new", "cur"].iter().filter_map(|name| fs::read_dir(directory.join(name)).ok());
    let names =
        entries.flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.into_iter().find(|name| name.split(':').next() == Some(base))
}

/// The letter that stands for a word in the file names of this mailbox.
fn letter(directory: &Path, word: usize) -> Option<char> {
    if let Some(flag) = FLAGS.get(word) {
        return Some(*flag);
    }
    let list = fs::read_to_string(directory.join("dovecot-keywords")).ok()?;
    let number = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, name)| *name == WORDS[word])?
        .0;
    char::from_u32('a' as u32 + number.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"7<imap> 100.5 rename("/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,S", "/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,Sa") = 0
7<imap> 100.6 rename("/v/Maildir/.Shared/cur/9.M2P3.vm,S=4:2,", "/v/Maildir/.Shared/cur/9.M2P3.vm,S=4:2,a") = -1 ENOENT (No such file or directory)
7<imap> 101.5 rename("/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,Sa", "/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,Sab" <unfinished ...>
8<mailbox> 101.5 rename("/v/Maildir/cur/1.M2P3.vm,S=4:2,a", "/v/Maildir/cur/1.M2P3.vm,S=4:2,") = 0
7<imap> 101.6 <... rename resumed>)      = 0
8<mailbox> 102.5 rename("/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,Sab", "/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,Sb") = 0
7<imap> 103.5 unlink("/v/Maildir/.Shared/cur/1.M2P3.vm,S=4:2,Sb" <unfinished ...>
7<imap> 103.6 <... unlink resumed>)      = 0
"#;

    #[test]
    fn who_has_renamed_or_removed_a_file_is_read_from_the_record() {
        let Deeds { renames, removals, .. } = parse(RECORD);
        assert_eq!(removals.len(), 1);
        assert_eq!(removals[0].by, "imap");
        assert!(is_it(&removals[0].path, (".Shared", "1.M2P3.vm,S=4")));
        let by: Vec<&str> = renames.iter().map(|rename| &*rename.by).collect();
        assert_eq!(by, ["imap", "mailbox", "imap", "mailbox"]);
        let changes = |folder, letter, since| {
            let since = Duration::from_secs(since);
            changed_by_dovecot(&renames, (folder, "1.M2P3.vm,S=4"), letter, since)
        };
        // `b` has come by Dovecot alone, `a` was taken by ours, in both mailboxes.
        assert_eq!(changes(".Shared", 'b', 100).unwrap(), [&renames[2]]);
        assert!(changes(".Shared", 'a', 100).is_err());
        assert!(changes("", 'a', 101).is_err());
        assert!(changes("", 'b', 100).unwrap().is_empty());
        assert!(changes(".Shared", 'a', 103).unwrap().is_empty());
        assert!(changes(".Shared.Deep", 'a', 100).unwrap().is_empty());
    }

    /// One of ours, as it was; one that has lost its `S`; one of a file whose `S` ours has taken away.
    #[test]
    fn what_a_copy_of_ours_had_is_what_its_source_had() {
        let deeds = parse(
            r#"8<mailbox> 100.5 linkat(AT_FDCWD, "/v/Maildir/cur/1.M2P3.vm:2,F", AT_FDCWD, "/v/Maildir/.W0/cur/1.M2P3.vm:2,F", 0 <unfinished ...>
8<mailbox> 100.6 <... linkat resumed>)      = 0
8<mailbox> 101.5 linkat(AT_FDCWD, "/v/Maildir/.W0/cur/1.M2P3.vm:2,F", AT_FDCWD, "/v/Maildir/.W1/cur/1.M2P3.vm:2,F", 0) = 0
8<mailbox> 100.5 linkat(AT_FDCWD, "/v/Maildir/cur/2.M2P3.vm:2,S", AT_FDCWD, "/v/Maildir/.W0/cur/2.M2P3.vm:2,", 0) = 0
8<mailbox> 100.4 rename("/v/Maildir/cur/3.M2P3.vm:2,S", "/v/Maildir/cur/3.M2P3.vm:2,") = 0
8<mailbox> 100.5 linkat(AT_FDCWD, "/v/Maildir/cur/3.M2P3.vm:2,", AT_FDCWD, "/v/Maildir/.W0/cur/3.M2P3.vm:2,", 0) = 0
8<mailbox> 100.5 linkat(AT_FDCWD, "/v/Maildir/cur/4.M2P3.vm:2,", AT_FDCWD, "/v/Maildir/.W0/cur/4.M2P3.vm:2,", 0) = -1 EEXIST (File exists)
8<mailbox> 100.5 rename("/v/Maildir/.W0/tmp/4.M2P3.vm", "/v/Maildir/.W0/cur/4.M2P3.vm:2,") = 0
"#,
        );
        assert_eq!(deeds.links.len(), 4);
        let copies = |folder, base| {
            let since = Duration::from_secs(100);
            copied_as_it_was(&deeds, (folder, base), (true, since), |_| Some('S'))
        };
        assert_eq!(copies(".W1", "1.M2P3.vm").unwrap(), [&deeds.links[1], &deeds.links[0]]);
        assert!(copies(".W0", "2.M2P3.vm").unwrap_err().contains("ours has lost it"));
        assert!(copies(".W0", "3.M2P3.vm").unwrap_err().contains("ours has changed it"));
        assert!(copies(".W0", "4.M2P3.vm").unwrap_err().contains("ours has written it"));
        assert!(copies(".W0", "5.M2P3.vm").unwrap().is_empty());
    }

    #[test]
    fn a_mailbox_of_a_worker_may_have_had_another_name() {
        assert!(may_be(".W1.a", ".W1.b.deep"));
        assert!(!may_be(".W1.a", ".W2.a"));
        assert!(!may_be(".Shared.Deep", ".Shared"));
        assert!(!may_be(".Shared", ""));
        assert!(may_be("", ""));
    }
}
