//! Reading and replacing the small files beside the mail, never in place.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::dotlock::DotLock;
use crate::error::{At, StoreError, present};
use crate::permissions::{Inherited, sync_directory};

/// Which version of a file was read: replaced, changed or grown ones differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    pub(crate) fn at(path: &Path) -> Result<Option<Self>, StoreError> {
        Ok(present(fs::metadata(path)).at("stat", path)?.as_ref().map(Self::of))
    }

    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Opens a regular file to read it; a FIFO or a device in its place never blocks us.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Reads a file of at most `limit` bytes; `None` where there is none.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<(Vec<u8>, Stamp)>, StoreError> {
    Ok(read_open(path, limit)?.map(|(text, stamp, _)| (text, stamp)))
}

/// As [`read`], and the file itself.
pub(crate) fn read_open(
    path: &Path,
    limit: u64,
) -> Result<Option<(Vec<u8>, Stamp, File)>, StoreError> {
    let Some(file) = present(open_regular(path)).at("open", path)? else { return Ok(None) };
    let metadata = file.metadata().at("stat", path)?;
    if metadata.len() > limit {
        return Err(StoreError::TooLarge { path: path.to_owned(), limit });
    }
    let mut text = Vec::new();
    (&file).take(limit).read_to_end(&mut text).at("read", path)?;
    let stamp = Stamp { size: text.len() as u64, ..Stamp::of(&metadata) };
    Ok(Some((text, stamp, file)))
}

/// Writes `text` to `temporary` and renames it over `path`; durable when it returns. Gives the new file.
pub(crate) fn replace(
    path: &Path,
    temporary: &Path,
    text: &[u8],
    inherited: Inherited,
) -> Result<(Stamp, File), StoreError> {
    replace_later(path, temporary, text, inherited, None)
}

/// As [`replace`], with a modification time that is later than that of the version `before`, in whole seconds: Dovecot
/// takes a file for unchanged while they are the same.
fn replace_later(
    path: &Path,
    temporary: &Path,
    text: &[u8],
    inherited: Inherited,
    before: Option<Stamp>,
) -> Result<(Stamp, File), StoreError> {
    present(fs::remove_file(temporary)).at("unlink", temporary)?;
    let mut file = inherited.create_file(temporary).at("open", temporary)?;
    let written = file.write_all(text).and_then(|()| {
        later_than(&file, before)?;
        file.sync_data()
    });
    if let Err(error) = written {
        let _ = fs::remove_file(temporary);
        return Err(error).at("write", temporary);
    }
    let stamp = Stamp::of(&file.metadata().at("stat", temporary)?);
    fs::rename(temporary, path).at("rename", path)?;
    if let Some(directory) = path.parent() {
        sync_directory(directory).at("fsync", directory)?;
    }
    Ok((stamp, file))
}

fn later_than(file: &File, before: Option<Stamp>) -> io::Result<()> {
    let Some(before) = before.and_then(|before| u64::try_from(before.changed.0).ok()) else {
        return Ok(());
    };
    let at_least = SystemTime::UNIX_EPOCH + Duration::from_secs(before.saturating_add(1));
    if file.metadata()?.modified()? < at_least { file.set_modified(at_least) } else { Ok(()) }
}

/// Changes a file that Dovecot writes through its own lock file (`FILE.lock`): whoever creates
/// that name may write the new content into it and rename it over the file.
pub(crate) fn change<T>(
    path: &Path,
    host: &str,
    inherited: Inherited,
    patience: Duration,
    edit: impl FnOnce(Option<&[u8]>) -> Result<Option<(Vec<u8>, T)>, StoreError>,
    limit: u64,
) -> Result<Option<T>, StoreError> {
    let lock = DotLock::acquire(path, host, inherited, patience)?;
    let current = read(path, limit)?;
    let Some((text, value)) = edit(current.as_ref().map(|(text, _)| text.as_slice()))? else {
        return Ok(None);
    };
    let temporary = suffixed(path, ".new");
    replace_later(path, &temporary, &text, inherited, current.map(|(_, stamp)| stamp))?;
    drop(lock);
    Ok(Some(value))
}

pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
