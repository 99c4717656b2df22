//! A queue file while it is written: it is either completed and on disk, or it goes away.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mail_types::{Clock, QueueId, Timestamp};

use crate::directory::{Queue, QueueDirectory};
use crate::log::LogKind;

/// Dropped before [`NewFile::complete`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    directory: QueueDirectory,
    queue: Queue,
    id: QueueId,
    file: File,
    path: PathBuf,
    created: Timestamp,
    completed: bool,
}

/// How often a name that is taken is replaced by another.
const ATTEMPTS: u32 = 1_000;

impl NewFile {
    /// Creates an invisible file, learns its inode, and gives it the id made from both.
    ///
    /// # Errors
    ///
    /// As open(2) and rename(2): no space, no inodes, no permission.
    pub fn create(directory: &QueueDirectory, queue: Queue, clock: &dyn Clock) -> io::Result<Self> {
        let (file, temporary) = create_invisible(&directory.root.join(queue.name()), clock)?;
        match name_it(directory, queue, clock, &file, &temporary) {
            Ok((id, path, created)) => {
                let directory = directory.clone();
                Ok(Self { directory, queue, id, file, path, created, completed: false })
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    #[must_use]
    pub const fn id(&self) -> &QueueId {
        &self.id
    }

    /// When its id was made.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// Appends.
    ///
    /// # Errors
    ///
    /// As write(2): a full disk among them.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Writes over what is there already, such as the size record at 0.
    ///
    /// # Errors
    ///
    /// As pwrite(2).
    pub fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// The file itself, to read and edit what is there already.
    ///
    /// # Errors
    ///
    /// As dup(2).
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Removes logs of an earlier message of the same name.
    pub fn remove_stale_logs(&self) {
        for kind in LogKind::ALL {
            let _ = fs::remove_file(self.directory.path_in(kind.directory(), &self.id));
        }
    }

    /// Makes the message deliverable: moved to `queue` first if that is another one, then mode
    /// 0700 and `extra`, then fsync. When this returns the message survives a power cut.
    ///
    /// # Errors
    ///
    /// As rename(2), fchmod(2), fsync(2); the file is gone then.
    pub fn complete(mut self, queue: Queue, extra: u32) -> io::Result<QueueId> {
        if queue != self.queue {
            self.directory.rename(&self.id, self.queue, queue)?;
            self.queue = queue;
            self.path = self.directory.path(queue, &self.id);
        }
        self.file.set_permissions(Permissions::from_mode(0o700 | extra))?;
        self.file.sync_all()?;
        self.completed = true;
        Ok(self.id.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.completed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The point in its name hides it from every scan.
fn create_invisible(directory: &Path, clock: &dyn Clock) -> io::Result<(File, PathBuf)> {
    let (pid, start) = (std::process::id(), clock.timestamp().micros);
    for attempt in 0..ATTEMPTS {
        let path = directory.join(format!("{}.{pid}", u64::from(start) + u64::from(attempt)));
        let mut options = OpenOptions::new();
        match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a queue file"))
}

fn name_it(
    directory: &QueueDirectory,
    queue: Queue,
    clock: &dyn Clock,
    file: &File,
    temporary: &Path,
) -> io::Result<(QueueId, PathBuf, Timestamp)> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let inode = file.metadata()?.ino();
    for attempt in 0..ATTEMPTS {
        let now = clock.timestamp();
        let micros = now.micros + attempt;
        let id = if directory.long_ids {
            QueueId::long(u64::try_from(now.seconds).unwrap_or(0), micros, inode)
        } else {
            QueueId::short(micros, inode)
        };
        let path = directory.path(queue, &id);
        let renamed = crate::directory::with_parent(&path, || {
            renameat_with(CWD, temporary, CWD, &path, RenameFlags::NOREPLACE)
                .map_err(io::Error::from)
        });
        match renamed {
            Ok(()) => return Ok((id, path, now)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A file system that cannot promise not to replace: ask first.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                if !path.exists() {
                    fs::rename(temporary, &path)?;
                    return Ok((id, path, now));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free queue id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn queue() -> (tempfile::TempDir, QueueDirectory, SystemTime) {
        let root = tempfile::tempdir().unwrap();
        for name in ["incoming", "hold"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let directory = QueueDirectory::new(root.path());
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_296_579_290_644);
        (root, directory, time)
    }

    fn names(directory: &QueueDirectory, queue: &str) -> Vec<String> {
        let read = fs::read_dir(directory.root.join(queue)).unwrap();
        read.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_named_after_its_inode_and_completed_by_its_mode() {
        let (_root, mut directory, clock) = queue();
        for long in [false, true] {
            directory.long_ids = long;
            let mut file = NewFile::create(&directory, Queue::Incoming, &clock).unwrap();
            let path = directory.path(Queue::Incoming, file.id());
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(file.id().inode(), Some(metadata.ino()));
            assert_eq!((file.id().is_long(), metadata.mode() & 0o7777), (long, 0o600));
            file.append(b"C\x00E\x00").unwrap();
            file.overwrite(0, b"E").unwrap();
            let id = file.complete(Queue::Incoming, 0).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"E\x00E\x00");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
            assert_eq!(names(&directory, "incoming"), [id.to_string()]);
            directory.remove(Queue::Incoming, &id).unwrap();
        }
    }

    #[test]
    fn an_abandoned_file_goes_away_and_a_held_one_moves() {
        let (_root, directory, clock) = queue();
        drop(NewFile::create(&directory, Queue::Incoming, &clock).unwrap());
        assert!(names(&directory, "incoming").is_empty());
        let held = NewFile::create(&directory, Queue::Incoming, &clock).unwrap();
        let id = held.complete(Queue::Hold, 0).unwrap();
        assert!(names(&directory, "incoming").is_empty());
        assert_eq!(names(&directory, "hold"), [id.to_string()]);
    }

    #[test]
    fn many_at_one_instant_get_their_own_names() {
        let (_root, directory, clock) = queue();
        let files: Vec<NewFile> = (0..20)
            .map(|_| NewFile::create(&directory, Queue::Incoming, &clock).unwrap())
            .collect();
        assert_eq!(names(&directory, "incoming").len(), 20);
        drop(files);
    }
}
