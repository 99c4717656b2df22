//! Reading the directories `new` and `cur`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::error::{At, StoreError};
use crate::file_name;
use crate::mailbox::Directory;
use crate::permissions::entry;

/// A directory whose last change is younger than this may change again without a new time stamp.
const GRAIN: Duration = Duration::from_secs(1);

/// When `new` and `cur` had last changed before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    new: SystemTime,
    cur: SystemTime,
    read_at: SystemTime,
}

impl Stamps {
    pub(crate) fn take(mail: &Path) -> Result<Self, StoreError> {
        let read_at = SystemTime::now();
        let changed = |name| {
            let path = mail.join(name);
            fs::metadata(&path).and_then(|metadata| metadata.modified()).at("stat", &path)
        };
        Ok(Self { new: changed("new")?, cur: changed("cur")?, read_at })
    }

    pub(crate) fn same_times(&self, other: &Self) -> bool {
        (self.new, self.cur) == (other.new, other.cur)
    }

    /// Whether a reading at these stamps still holds, `now` being the stamps of this moment.
    pub(crate) fn hold(&self, now: &Self) -> bool {
        let settled = |changed: SystemTime| {
            self.read_at.duration_since(changed).is_ok_and(|age| age >= GRAIN)
        };
        self.same_times(now) && settled(self.new) && settled(self.cur)
    }
}

/// A message file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub directory: Directory,
    pub name: Box<[u8]>,
}

/// Files by base name, and those that share one with a different file.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub by_base: HashMap<Box<[u8]>, Found>,
    pub clashes: Vec<Found>,
    /// Names that cannot be a message's: they have CR or LF.
    pub odd: usize,
}

impl Files {
    /// Reads both directories, `new` first: mail moves from `new` to `cur`, never back.
    pub(crate) fn read(mail: &Path) -> Result<Self, StoreError> {
        let mut files = Self::default();
        files.add(mail, Directory::New)?;
        files.add(mail, Directory::Cur)?;
        Ok(files)
    }

    fn add(&mut self, mail: &Path, directory: Directory) -> Result<(), StoreError> {
        let path = mail.join(directory.name());
        for file in fs::read_dir(&path).at("opendir", &path)? {
            let file = file.at("readdir", &path)?;
            let name = file.file_name();
            let name = name.as_bytes();
            if !file_name::is_message(name) {
                self.odd += usize::from(!name.starts_with(b"."));
                continue;
            }
            if file.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            self.insert(mail, Found { directory, name: name.into() });
        }
        Ok(())
    }

    fn insert(&mut self, mail: &Path, found: Found) {
        match self.by_base.entry(file_name::base(&found.name).into()) {
            Entry::Vacant(free) => {
                free.insert(found);
            }
            Entry::Occupied(mut taken) => {
                // Seen on its way from new to cur: the later sight is where it is now.
                let identity = |found: &Found| {
                    let path = entry(&mail.join(found.directory.name()), &found.name);
                    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
                };
                let (before, now) = (identity(taken.get()), identity(&found));
                if before.is_none() || (before == now && found.directory == Directory::Cur) {
                    taken.insert(found);
                } else if now.is_some() && before != now {
                    self.clashes.push(found);
                }
            }
        }
    }
}
