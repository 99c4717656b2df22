//! What stands on disk between two runs: the lock that keeps two runs apart, the journal of a run that is under way,
//! and the planks that are ours, with the way back of each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::rewrite::sync_directory;
use super::steps::Step;
use super::{Mishap, Plank};

const LOCK: &str = "lock";
/// Of two guards one looks at a time.
const GUARD: &str = "guard.lock";
const JOURNAL: &str = "run.json";
const ADOPTED: &str = "adopted.json";
const LARGEST: u64 = 1 << 20;

/// The state directory, held by one run at a time.
#[derive(Debug)]
pub struct Record {
    directory: PathBuf,
    _locks: Vec<Flock<File>>,
}

/// A run that is under way. It is written before each step, so that the next run knows of it whatever happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal {
    pub adopts: bool,
    /// Those begun so far, in order.
    pub planks: Vec<Undertaking>,
    /// The step being done, for people.
    pub step: String,
}

/// A plank whose swap has begun, and what gives it back; every step may be done again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Undertaking {
    pub plank: Plank,
    pub back: Vec<Step>,
}

/// A plank that is ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adopted {
    pub back: Vec<Step>,
    /// What the guard holds.
    pub held: super::guard::Held,
}

impl Record {
    /// Takes the lock, or says that another run has it. A guard that is just looking is waited for.
    ///
    /// # Errors
    ///
    /// [`Mishap`] when another run is under way or the directory cannot be written.
    pub fn open(directory: &Path) -> Result<Self, Mishap> {
        let path = directory.join(LOCK);
        let taken = Flock::lock(lock_file(directory, LOCK)?, FlockArg::LockExclusiveNonblock);
        let lock = taken.or_else(|(file, _)| {
            // Guards share it.
            let shared =
                Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno)?;
            shared.relock(FlockArg::LockExclusive)?;
            Ok::<_, nix::errno::Errno>(shared)
        });
        match lock {
            Ok(lock) => Ok(Self { directory: directory.to_owned(), _locks: vec![lock] }),
            Err(_) => Err(Mishap(format!(
                "{}: another theoris adopt or release is at work; wait until it has ended",
                path.display()
            ))),
        }
    }

    /// Takes the guard's lock, beside which no run begins; nothing while one is under way.
    ///
    /// # Errors
    ///
    /// [`Mishap`] when the directory cannot be written.
    pub fn open_for_guard(directory: &Path) -> Result<Option<Self>, Mishap> {
        let path = directory.join(GUARD);
        let guard = Flock::lock(lock_file(directory, GUARD)?, FlockArg::LockExclusive);
        let guard = guard.map_err(|(_, errno)| Mishap::file(&path, &errno.into()))?;
        let lock = Flock::lock(lock_file(directory, LOCK)?, FlockArg::LockSharedNonblock).ok();
        Ok(lock.map(|lock| Self { directory: directory.to_owned(), _locks: vec![lock, guard] }))
    }

    /// The run that was interrupted.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn journal(&self) -> Result<Option<Journal>, Mishap> {
        under_way(&self.directory)
    }

    /// # Errors
    ///
    /// As [`write()`].
    pub fn set_journal(&self, journal: &Journal) -> Result<(), Mishap> {
        write(&self.directory.join(JOURNAL), journal)
    }

    /// The run has ended.
    ///
    /// # Errors
    ///
    /// If the file cannot be removed.
    pub fn end_journal(&self) -> Result<(), Mishap> {
        let path = self.directory.join(JOURNAL);
        super::rewrite::remove(&path).map_err(|error| Mishap::file(&path, &error))
    }

    /// # Errors
    ///
    /// As [`read`].
    pub fn adopted(&self) -> Result<BTreeMap<Plank, Adopted>, Mishap> {
        adopted(&self.directory)
    }

    /// # Errors
    ///
    /// As [`write()`].
    pub fn set_adopted(&self, planks: &BTreeMap<Plank, Adopted>) -> Result<(), Mishap> {
        write(&self.directory.join(ADOPTED), planks)
    }
}

fn lock_file(directory: &Path, name: &str) -> Result<File, Mishap> {
    fs::create_dir_all(directory).map_err(|error| Mishap::file(directory, &error))?;
    let path = directory.join(name);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.map_err(|error| Mishap::file(&path, &error))
}

/// The planks that are ours, for who only wants to know.
///
/// # Errors
///
/// If the record cannot be read or is none.
pub fn adopted(directory: &Path) -> Result<BTreeMap<Plank, Adopted>, Mishap> {
    Ok(read(&directory.join(ADOPTED))?.unwrap_or_default())
}

/// The run that is under way or was interrupted, for who only wants to know.
///
/// # Errors
///
/// As [`adopted`].
pub fn under_way(directory: &Path) -> Result<Option<Journal>, Mishap> {
    read(&directory.join(JOURNAL))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Mishap> {
    let text = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Mishap::file(path, &error)),
        Ok(file) => {
            let mut text = Vec::new();
            let read = io::Read::read_to_end(&mut io::Read::take(file, LARGEST), &mut text);
            read.map_err(|error| Mishap::file(path, &error))?;
            text
        }
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Mishap(format!("{}: {error}", path.display()))),
    }
}

/// By rename, and durable: what stands there is always whole.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Mishap> {
    let failed = |error: io::Error| Mishap::file(path, &error);
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let mut file = file.map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).and_then(|()| sync_directory(path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_exclude_each_other_and_a_journal_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("theoris");
        let record = Record::open(&state).unwrap();
        assert!(Record::open(&state).unwrap_err().0.contains("another theoris"));
        let back = vec![Step::Stop { daemon: "dkim-milter".into() }];
        let journal = Journal {
            adopts: true,
            planks: vec![Undertaking { plank: Plank::Dkim, back: back.clone() }],
            step: "start dkim-milter".into(),
        };
        record.set_journal(&journal).unwrap();
        assert!(Record::open_for_guard(&state).unwrap().is_none());
        drop(record);
        let guard = Record::open_for_guard(&state).unwrap().unwrap();
        let waits = std::thread::spawn({
            let state = state.clone();
            move || Record::open(&state).map(drop)
        });
        drop(guard);
        waits.join().unwrap().unwrap();
        let record = Record::open(&state).unwrap();
        assert_eq!(record.journal().unwrap().unwrap().planks[0].back, back);
        record.end_journal().unwrap();
        assert!(record.journal().unwrap().is_none() && record.adopted().unwrap().is_empty());
    }
}
