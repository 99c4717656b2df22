//! The directories of the queue, and what lies in them.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use queue::QueueDirectory;

use super::{Fatal, fatal};
use crate::classic::why;

/// One directory that the command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: &'static str,
    /// It holds messages, not logs about them.
    pub messages: bool,
    /// It may be hashed into directories of one letter.
    pub hashed: bool,
}

const fn queue(name: &'static str) -> Name {
    Name { name, messages: true, hashed: true }
}

const fn logs(name: &'static str) -> Name {
    Name { name, messages: false, hashed: true }
}

pub const MAILDROP: Name = Name { name: "maildrop", messages: true, hashed: false };
pub const INCOMING: Name = queue("incoming");
pub const ACTIVE: Name = queue("active");
pub const DEFERRED: Name = queue("deferred");
pub const HOLD: Name = queue("hold");
pub const LOGS: [Name; 3] = [logs("bounce"), logs("defer"), logs("trace")];
pub const ALL: &[Name] =
    &[MAILDROP, INCOMING, ACTIVE, DEFERRED, HOLD, LOGS[0], LOGS[1], LOGS[2], logs("flush")];

impl Name {
    pub fn of(name: &str) -> Option<Self> {
        ALL.iter().find(|known| known.name == name).copied()
    }
}

/// The directories that the operator named, or else the usual ones.
pub fn chosen(named: &[Name], usual: &[Name]) -> Vec<Name> {
    if named.is_empty() { usual.to_vec() } else { named.to_vec() }
}

/// A file in a directory of the queue.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    pub name: String,
    pub metadata: Metadata,
}

impl Found {
    /// Complete, so that somebody has answered for it.
    pub fn is_ready(&self) -> bool {
        is_ready(&self.metadata)
    }
}

pub fn is_ready(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.mode() & 0o700 == 0o700
}

/// Every file of a directory, however deep it lies. What is moved away meanwhile is passed over.
///
/// # Errors
///
/// The directory cannot be read.
pub fn files(directory: &QueueDirectory, queue: Name) -> Result<Vec<Found>, Fatal> {
    let mut found = Vec::new();
    walk(&directory.root.join(queue.name), queue, 0, &mut found)
        .map_err(|error| fatal(format!("scan directory {}: {}", queue.name, why(&error))))?;
    Ok(found)
}

/// As deep as any queue was ever hashed.
const DEEPEST: usize = 16;

fn walk(path: &Path, queue: Name, depth: usize, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            if name.len() == 1 && queue.hashed && depth < DEEPEST {
                walk(&entry.path(), queue, depth + 1, found)?;
            }
            continue;
        }
        found.push(Found { path: entry.path(), name, metadata });
    }
    Ok(())
}

/// Renames within the queue, making the directory that the new name needs.
///
/// # Errors
///
/// As rename(2), in the original's words; a file that has gone is none.
pub fn rename(root: &Path, from: &Path, to: &Path) -> Result<bool, Fatal> {
    let mut renamed = fs::rename(from, to);
    if renamed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        && let Some(parent) = to.parent()
        && !parent.exists()
    {
        use std::os::unix::fs::DirBuilderExt as _;
        let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        renamed = fs::rename(from, to);
    }
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let (from, to) = (shown(root, from), shown(root, to));
            Err(fatal(format!("rename file {from} as {to}: {}", why(&error))))
        }
    }
}

/// # Errors
///
/// As unlink(2); a file that has gone is none.
pub fn remove(root: &Path, path: &Path) -> Result<bool, Fatal> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fatal(format!("remove file {}: {}", shown(root, path), why(&error)))),
    }
}

/// A path below the queue directory.
pub fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
