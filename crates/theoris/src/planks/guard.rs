//! The guard: keeps what is ours ours while people, packages and Ansible work on the originals, and keeps the originals
//! alive where both want the same.
//!
//! Postfix's master takes the path of a live entry's socket in silence whenever it starts (`relay` stays live, see
//! [`config::postfix::STAYS_LIVE`]); an OpenDKIM that was started again takes its own. The guard sees that another
//! socket stands there and has our daemon take the path back. Dovecot, which would not start on a port that is ours, gets
//! its ports back as soon as our file has no effect in its configuration: whoever took it out wants Dovecot there.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::marks::{self, Key};
use super::postfix::{self, Holder};
use super::record::{self, Adopted, Record};
use super::services::Services;
use super::{Manner, Mishap, Outcome, Places, Plank, Step, dovecot, process};

/// What fails to start on our ports.
const DOVECOT: &str = "dovecot.service";

/// What an adopted plank holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// Sockets of ours.
    pub paths: Vec<PathBuf>,
    /// What stood at each of them when it was last seen to be ours: device and number.
    pub seen: BTreeMap<PathBuf, (u64, u64)>,
    /// The process of ours that had bound them.
    pub by: Option<(i32, u64)>,
    /// Postfix's queue directory, where its master may take them.
    pub queue: Option<PathBuf>,
    /// Entries of master.cf that have to be marked.
    pub marks: Option<(PathBuf, Vec<Key>)>,
    /// Our file in Dovecot's conf.d.
    pub file: Option<PathBuf>,
    /// The original's unit, which has to be stopped.
    pub original: Option<String>,
}

impl Held {
    /// Notes what stands at the paths now.
    #[must_use]
    pub fn seen(mut self, services: &mut dyn Services, daemon: &str) -> Self {
        self.seen =
            self.paths.iter().filter_map(|path| Some((path.clone(), number(path)?))).collect();
        self.by = identity(services, daemon);
        self
    }
}

fn number(path: &Path) -> Option<(u64, u64)> {
    let facts = std::fs::symlink_metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}

fn is_same((pid, started): (i32, u64)) -> bool {
    process::started(pid) == Some(started) && process::is_alive(pid)
}

fn identity(services: &mut dyn Services, daemon: &str) -> Option<(i32, u64)> {
    let pid = services.process(daemon)?;
    Some((pid, process::started(pid)?))
}

/// What one look leaves for the next.
#[derive(Debug, Default)]
pub struct Guard {
    /// When Dovecot's files were last written, and doveconf had our file in effect.
    proved: BTreeMap<Plank, SystemTime>,
}

impl Guard {
    /// One look at everything that is ours: takes back what can be taken back, gives back what an original would trip over,
    /// and tells what has drifted. Does nothing while a swap is under way.
    ///
    /// # Errors
    ///
    /// When the record cannot be read or written.
    pub fn look(
        &mut self,
        places: &Places,
        services: &mut dyn Services,
    ) -> Result<Vec<String>, Mishap> {
        if record::adopted(&places.state)?.is_empty() {
            return Ok(Vec::new());
        }
        let Some(record) = Record::open_for_guard(&places.state)? else { return Ok(Vec::new()) };
        if record.journal()?.is_some() {
            return Ok(vec!["a swap was interrupted; run theoris adopt or release again".into()]);
        }
        let mut adopted = record.adopted()?;
        let mut told = Vec::new();
        if keep(&mut adopted, services, &mut told) {
            record.set_adopted(&adopted)?;
        }
        let unwanted: Vec<Plank> = adopted
            .iter()
            .filter(|(plank, known)| self.is_unwanted(**plank, known, &mut told))
            .map(|(plank, _)| *plank)
            .collect();
        drop(record);
        for plank in unwanted {
            give_back(plank, places, services, &mut told)?;
        }
        Ok(told)
    }

    /// Somebody has taken our file out of Dovecot's configuration: with our daemon on its ports, Dovecot's next start fails.
    fn is_unwanted(&mut self, plank: Plank, known: &Adopted, told: &mut Vec<String>) -> bool {
        let part = known.back.iter().find_map(|step| match step {
            Step::ReturnDovecot(part) => Some(part),
            _ => None,
        });
        let Some(part) = part else { return false };
        if !part.file.exists() {
            told.push(format!("{}: is gone: {plank} goes back to Dovecot", part.file.display()));
            return true;
        }
        let written = last_written(part);
        if self.proved.get(&plank) == Some(&written) {
            return false;
        }
        match part.leaves() {
            Ok(true) => {
                self.proved.insert(plank, written);
                false
            }
            Ok(false) => {
                let file = part.file.display();
                told.push(format!(
                    "{file}: is not in effect any more: {plank} goes back to Dovecot"
                ));
                true
            }
            Err(why) => {
                told.push(why.0);
                false
            }
        }
    }
}

/// When somebody last wrote Dovecot's configuration, as far as directories and files beside ours tell.
fn last_written(part: &dovecot::Part) -> SystemTime {
    let directories = [part.configuration.parent(), part.file.parent()].into_iter().flatten();
    let files = directories.flat_map(|directory| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).chain([directory.to_owned()])
    });
    let times = files.filter_map(|file| std::fs::metadata(file).ok()?.modified().ok());
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Takes lost sockets back. Whether there is news to be recorded.
fn keep(
    adopted: &mut BTreeMap<Plank, Adopted>,
    services: &mut dyn Services,
    told: &mut Vec<String>,
) -> bool {
    let mut changed = false;
    for (plank, known) in adopted {
        let daemon = plank.daemon();
        told.extend(drift(&known.held, services));
        let Some(now) =
            known.held.by.filter(|by| is_same(*by)).or_else(|| identity(services, daemon))
        else {
            told.push(format!("{daemon} does not run"));
            continue;
        };
        if !services.is_ready(daemon) {
            continue; // it binds its paths by itself now
        }
        let lost = lost(&known.held, now);
        if lost.is_empty() && known.held.by == Some(now) {
            continue;
        }
        for path in &lost {
            told.push(format!("{}: taken back for {daemon}", path.display()));
        }
        if !lost.is_empty()
            && let Err(why) = retake(&lost, &known.held, now.0)
        {
            told.push(why.0);
            continue;
        }
        known.held = known.held.clone().seen(services, daemon);
        changed = true;
    }
    changed
}

/// The whole way out of one plank, and Dovecot started again if it has tripped over us meanwhile.
fn give_back(
    plank: Plank,
    places: &Places,
    services: &mut dyn Services,
    told: &mut Vec<String>,
) -> Result<(), Mishap> {
    let mut tell = |line: &str| told.push(line.to_owned());
    match super::release(&[plank], places, Manner::default(), services, &mut tell)? {
        Outcome::Done => {}
        Outcome::Refused(why) => why.iter().for_each(|why| tell(why)),
        Outcome::RolledBack(why) | Outcome::HalfWay(why) => tell(&why),
    }
    if services.revive(DOVECOT)? {
        tell(&format!("{DOVECOT} had failed and was started again"));
    }
    Ok(())
}

/// What has drifted, plank by plank; changes nothing, so it needs no lock.
///
/// # Errors
///
/// When the record cannot be read.
pub fn drifted(state: &Path, services: &mut dyn Services) -> Result<Vec<(Plank, String)>, Mishap> {
    let mut told = Vec::new();
    for (plank, known) in record::adopted(state)? {
        let mut lines = drift(&known.held, services);
        if let Some(file) = known.held.file.as_ref().filter(|file| !file.exists()) {
            lines.push(format!(
                "{}: is gone: Dovecot opens its ports again at its next restart",
                file.display()
            ));
        }
        if let Some(now) = identity(services, plank.daemon()) {
            let taken = |path: &PathBuf| {
                format!("{}: leads to somebody else than {}", path.display(), plank.daemon())
            };
            lines.extend(lost(&known.held, now).iter().map(taken));
        }
        told.extend(lines.into_iter().map(|line| (plank, line)));
    }
    Ok(told)
}

/// The planks that are ours; none when the record cannot be read.
pub fn adopted(state: &Path) -> Vec<Plank> {
    record::adopted(state).unwrap_or_default().into_keys().collect()
}

/// The step at which a swap stands that has not ended.
///
/// # Errors
///
/// When the journal cannot be read.
pub fn under_way(state: &Path) -> Result<Option<String>, Mishap> {
    Ok(record::under_way(state)?.map(|journal| journal.step))
}

/// Wakes when somebody writes where the guard looks.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// # Errors
    ///
    /// If the system has no more watches.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?))
    }

    /// Watches what matters to the planks that are adopted now. A directory that came back needs a new watch; one that
    /// has it keeps it.
    pub fn over(&self, places: &Places) {
        use inotify::WatchFlags as On;
        let names = On::CREATE | On::DELETE | On::MOVED_TO | On::MOVED_FROM;
        // Locks are opened for writing all the time; what matters is written by rename.
        let _ = inotify::add_watch(&self.0, &places.state, names);
        for known in record::adopted(&places.state).unwrap_or_default().into_values() {
            let held = known.held;
            let files =
                held.marks.iter().map(|(file, _)| file).chain(&held.file).chain(&held.paths);
            let mut directories: Vec<&Path> = files.filter_map(|file| file.parent()).collect();
            if held.file.is_some() {
                directories.extend(places.dovecot.parent());
            }
            for directory in directories {
                let _ = inotify::add_watch(&self.0, directory, names | On::CLOSE_WRITE);
            }
        }
    }

    /// Waits until something has happened there, or the time is over.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn wait(&self, limit: Duration) -> std::io::Result<()> {
        let limit = Timespec::try_from(limit).map_err(std::io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The paths that lead to somebody else.
fn lost(held: &Held, now: (i32, u64)) -> Vec<PathBuf> {
    let is_lost = |path: &&PathBuf| match (held.seen.get(*path), number(path)) {
        (Some(before), Some(there)) if *before == there => false,
        // A process of ours that started since has bound them anew; only asking tells.
        (_, Some(_)) if held.by != Some(now) => postfix::answers(path) != Some(now.0),
        _ => true,
    };
    held.paths.iter().filter(is_lost).cloned().collect()
}

/// Has our daemon bind the paths again. The original's sockets keep a second name, for the release.
fn retake(paths: &[PathBuf], held: &Held, pid: i32) -> Result<(), Mishap> {
    if let Some(queue) = &held.queue {
        postfix::keep(paths, &Holder::Master(queue.clone()))?;
    }
    let before: Vec<_> = paths.iter().map(|path| number(path)).collect();
    kill(Pid::from_raw(pid), Signal::SIGUSR2)
        .map_err(|error| Mishap(format!("cannot signal pid {pid}: {error}")))?;
    let bound = || paths.iter().zip(&before).all(|(path, before)| number(path) != *before);
    super::steps::until(std::time::Duration::from_secs(5), bound)
        .map(drop)
        .map_err(|_| Mishap(format!("pid {pid} does not take its sockets back; see its log")))
}

/// What somebody has changed beside us.
fn drift(held: &Held, services: &mut dyn Services) -> Vec<String> {
    let mut told = Vec::new();
    if let Some((file, keys)) = &held.marks {
        match std::fs::read(file) {
            Ok(text) => told.extend(marks_lost(file, &text, keys)),
            Err(error) => told.push(Mishap::file(file, &error).0),
        }
    }
    if let Some(unit) = &held.original
        && services.original(unit).is_some()
    {
        told.push(format!("{unit} runs again"));
    }
    told
}

fn marks_lost(file: &Path, text: &[u8], keys: &[Key]) -> Vec<String> {
    let entries = marks::entries(text);
    let mut told = Vec::new();
    for key in keys {
        let mut named = entries.iter().filter(|entry| entry.key == *key);
        if let Some(live) = named.clone().find(|entry| !entry.marked) {
            let line = live.lines.first().map_or(0, |line| line + 1);
            told.push(format!(
                "{}:{line}: {key} is live again: Postfix takes it over at its next reload; remove the line, or theoris release",
                file.display()
            ));
        } else if named.next().is_none() {
            told.push(format!("{}: the marked entry {key} is gone", file.display()));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::Plank;
    use super::super::record::Adopted;
    use super::*;

    /// A daemon that runs, and may not be ready yet.
    struct One {
        pid: i32,
        ready: bool,
    }

    impl Services for One {
        fn prepared(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn start(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn stop(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn begin_stop(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn process(&mut self, _: &str) -> Option<i32> {
            Some(self.pid)
        }
        fn is_ready(&mut self, _: &str) -> bool {
            self.ready
        }
        fn original(&mut self, _: &str) -> Option<i32> {
            None
        }
        fn end_original(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn prepare_original(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn start_original(&mut self, _: &str) -> Result<(), Mishap> {
            Ok(())
        }
        fn revive(&mut self, _: &str) -> Result<bool, Mishap> {
            Ok(false)
        }
        fn guard(&mut self, _: bool) -> Result<(), Mishap> {
            Ok(())
        }
        fn start_original_with(&mut self, _: &str, _: &Path) -> Result<(), Mishap> {
            Ok(())
        }
    }

    #[test]
    fn a_daemon_that_starts_gets_no_signal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let places = Places { state: directory.path().join("state"), ..Places::default() };
        let held = Held { paths: vec![path.clone()], ..Held::default() };
        let adopted = [(Plank::Dkim, Adopted { back: Vec::new(), held })];
        Record::open(&places.state).unwrap().set_adopted(&adopted.into()).unwrap();
        // What a supervisor is before it handles signals; SIGUSR2 ends it.
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        let told = Guard::default().look(&places, &mut One { pid, ready: false }).unwrap();
        assert_eq!((told, process.try_wait().unwrap()), (vec![], None));
        // A ready one is asked to bind the path.
        let signalled = std::thread::spawn(move || {
            let ended = process.wait().unwrap();
            std::fs::write(path, "").unwrap();
            std::os::unix::process::ExitStatusExt::signal(&ended)
        });
        let told = Guard::default().look(&places, &mut One { pid, ready: true }).unwrap();
        assert!(told[0].ends_with("socket: taken back for dkim-milter"), "{told:?}");
        assert_eq!(signalled.join().unwrap(), Some(Signal::SIGUSR2 as i32));
    }
}
