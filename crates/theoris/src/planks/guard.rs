//! The guard: keeps what is ours ours while people, packages and Ansible work on the originals.
//!
//! Postfix's master takes the path of a live entry's socket in silence whenever it starts (`relay` stays live, see
//! [`config::postfix::STAYS_LIVE`]); an OpenDKIM that was started again takes its own. The guard sees that another
//! socket stands there and has our daemon take the path back.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::marks::{self, Key};
use super::postfix::{self, Holder};
use super::record::{self, Record};
use super::services::Services;
use super::{Mishap, Places, Plank, process};

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

fn identity(services: &mut dyn Services, daemon: &str) -> Option<(i32, u64)> {
    let pid = services.process(daemon)?;
    Some((pid, process::started(pid)?))
}

/// One look at everything that is ours: takes back what can be taken back, and tells what has drifted. Does nothing
/// while a swap is under way.
///
/// # Errors
///
/// When the record cannot be read or written.
pub fn look(places: &Places, services: &mut dyn Services) -> Result<Vec<String>, Mishap> {
    if record::adopted(&places.state)?.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(record) = Record::open(&places.state) else { return Ok(Vec::new()) };
    if record.journal()?.is_some() {
        return Ok(vec!["a swap was interrupted; run theoris adopt or release again".into()]);
    }
    let mut adopted = record.adopted()?;
    let mut told = Vec::new();
    let mut changed = false;
    for (plank, known) in &mut adopted {
        let daemon = plank.daemon();
        told.extend(drift(&known.held, services));
        let Some(now) = identity(services, daemon) else {
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
        if !lost.is_empty() {
            retake(&lost, &known.held, now.0)?;
        }
        known.held = known.held.clone().seen(services, daemon);
        changed = true;
    }
    if changed {
        record.set_adopted(&adopted)?;
    }
    Ok(told)
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
    if let Some(file) = &held.file
        && !file.exists()
    {
        told.push(format!(
            "{}: is gone: Dovecot opens its ports again at its next restart",
            file.display()
        ));
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
        let told = look(&places, &mut One { pid, ready: false }).unwrap();
        assert_eq!((told, process.try_wait().unwrap()), (vec![], None));
        // A ready one is asked to bind the path.
        let signalled = std::thread::spawn(move || {
            let ended = process.wait().unwrap();
            std::fs::write(path, "").unwrap();
            std::os::unix::process::ExitStatusExt::signal(&ended)
        });
        let told = look(&places, &mut One { pid, ready: true }).unwrap();
        assert!(told[0].ends_with("socket: taken back for dkim-milter"), "{told:?}");
        assert_eq!(signalled.join().unwrap(), Some(Signal::SIGUSR2 as i32));
    }
}
