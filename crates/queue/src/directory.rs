//! The queue directory: which file lies where, and how files move.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mail_types::QueueId;
use serde::{Deserialize, Serialize};

use crate::state::FileState;

/// The queues that hold messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Queue {
    Maildrop,
    Incoming,
    Active,
    Deferred,
    Hold,
    Corrupt,
}

impl Queue {
    /// In the order of showq.
    pub const LISTED: [Self; 5] =
        [Self::Maildrop, Self::Active, Self::Incoming, Self::Deferred, Self::Hold];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maildrop => "maildrop",
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Corrupt => "corrupt",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::LISTED.into_iter().chain([Self::Corrupt]).find(|queue| queue.name() == name)
    }
}

/// A host's `queue_directory` and how it is laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDirectory {
    pub root: PathBuf,
    /// `hash_queue_names`.
    pub hashed: Vec<String>,
    /// `hash_queue_depth`.
    pub depth: usize,
    /// `enable_long_queue_ids`.
    pub long_ids: bool,
}

impl QueueDirectory {
    /// With Postfix's defaults.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let hashed = vec![String::from("deferred"), String::from("defer")];
        Self { root: root.into(), hashed, depth: 1, long_ids: false }
    }

    /// How deep a directory of the queue is hashed.
    #[must_use]
    pub fn depth_of(&self, directory: &str) -> usize {
        if self.hashed.iter().any(|name| name == directory) { self.depth } else { 0 }
    }

    /// Where a file of this name belongs; `directory` is a queue or a log directory.
    #[must_use]
    pub fn path_in(&self, directory: &str, id: &QueueId) -> PathBuf {
        let mut path = self.root.join(directory);
        path.push(id.hash_directory(self.depth_of(directory)));
        path.push(id.as_str());
        path
    }

    #[must_use]
    pub fn path(&self, queue: Queue, id: &QueueId) -> PathBuf {
        self.path_in(queue.name(), id)
    }

    /// Moves a message; makes the hash directory if it is missing.
    ///
    /// # Errors
    ///
    /// As rename(2); `NotFound` if the message is not there.
    pub fn rename(&self, id: &QueueId, from: Queue, to: Queue) -> io::Result<()> {
        let (old, new) = (self.path(from, id), self.path(to, id));
        with_parent(&new, || fs::rename(&old, &new))
    }

    /// Takes a damaged file out of the way, to `corrupt/`. Nothing deletes it there.
    ///
    /// # Errors
    ///
    /// As rename(2).
    pub fn set_aside(&self, id: &QueueId, from: Queue) -> io::Result<()> {
        self.rename(id, from, Queue::Corrupt)
    }

    /// # Errors
    ///
    /// As unlink(2).
    pub fn remove(&self, queue: Queue, id: &QueueId) -> io::Result<()> {
        fs::remove_file(self.path(queue, id))
    }

    /// The state of a message, and when it was last changed: the time of its next retry.
    ///
    /// # Errors
    ///
    /// As lstat(2).
    pub fn state(&self, queue: Queue, id: &QueueId) -> io::Result<(FileState, SystemTime)> {
        let metadata = fs::symlink_metadata(self.path(queue, id))?;
        Ok((FileState::of(&metadata), metadata.modified()?))
    }

    /// Opens without waiting on a pipe and without following a link.
    ///
    /// # Errors
    ///
    /// As open(2).
    pub fn open(&self, queue: Queue, id: &QueueId, access: Access) -> io::Result<File> {
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
        OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .custom_flags(flags)
            .open(self.path(queue, id))
    }

    /// Sets the time of the next retry.
    ///
    /// # Errors
    ///
    /// As utimensat(2).
    pub fn set_time(&self, queue: Queue, id: &QueueId, time: SystemTime) -> io::Result<()> {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let stamp =
            Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        utimensat(CWD, self.path(queue, id), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Puts all of `active/` back into `incoming/`: what a queue manager does when it starts,
    /// since it cannot know how far its forerunner came. Gives the number of messages.
    ///
    /// # Errors
    ///
    /// `active/` cannot be read, or a file cannot be moved.
    pub fn recover_active(&self, now: SystemTime) -> io::Result<usize> {
        let mut count = 0;
        for id in self.scan(Queue::Active)?.collect::<Vec<_>>() {
            self.set_time(Queue::Active, &id, now)?;
            self.rename(&id, Queue::Active, Queue::Incoming)?;
            count += 1;
        }
        Ok(count)
    }

    /// Removes files of `queue` that were never completed and are older than `age`.
    ///
    /// # Errors
    ///
    /// The queue cannot be read.
    pub fn purge_incomplete(
        &self,
        queue: Queue,
        now: SystemTime,
        age: Duration,
    ) -> io::Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for entry in fs::read_dir(self.root.join(queue.name()))? {
            let entry = entry?;
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            let old = metadata
                .modified()
                .is_ok_and(|time| now.duration_since(time).is_ok_and(|passed| passed > age));
            if old
                && FileState::of(&metadata) == FileState::Incomplete
                && fs::remove_file(entry.path()).is_ok()
            {
                removed.push(entry.path());
            }
        }
        Ok(removed)
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// Does `action`; if a directory on the way to `path` is missing, makes it and tries again.
pub(crate) fn with_parent<T>(
    path: &Path,
    mut action: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match action() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error)?;
            fs::DirBuilder::new().mode(0o700).recursive(true).create(parent)?;
            action()
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    pub(crate) fn queue() -> (tempfile::TempDir, QueueDirectory) {
        let root = tempfile::tempdir().unwrap();
        for name in ["maildrop", "incoming", "active", "deferred", "hold", "corrupt"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let directory = QueueDirectory::new(root.path());
        (root, directory)
    }

    fn put(directory: &QueueDirectory, queue: Queue, name: &str, mode: u32) -> QueueId {
        let id = QueueId::parse(name).unwrap();
        let path = directory.path(queue, &id);
        with_parent(&path, || fs::write(&path, b"x")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        id
    }

    #[test]
    fn messages_move_and_missing_hash_directories_are_made() {
        let (_root, directory) = queue();
        let id = put(&directory, Queue::Active, "640A99A4A51", 0o700);
        directory.rename(&id, Queue::Active, Queue::Deferred).unwrap();
        assert!(directory.root.join("deferred/6/640A99A4A51").exists());
        let retry = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        directory.set_time(Queue::Deferred, &id, retry).unwrap();
        let ready = FileState::Ready { unthrottle: false, force_expire: false };
        assert_eq!(directory.state(Queue::Deferred, &id).unwrap(), (ready, retry));
        directory.set_aside(&id, Queue::Deferred).unwrap();
        assert!(directory.root.join("corrupt/640A99A4A51").exists());
        let gone = directory.rename(&id, Queue::Deferred, Queue::Active).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_start_puts_active_mail_back() {
        let (_root, directory) = queue();
        put(&directory, Queue::Active, "AAAAA1", 0o700);
        put(&directory, Queue::Active, "AAAAA2", 0o700);
        fs::write(directory.root.join("active/not.an.id"), b"").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(directory.recover_active(now).unwrap(), 2);
        let id = QueueId::parse("AAAAA1").unwrap();
        assert_eq!(directory.state(Queue::Incoming, &id).unwrap().1, now);
        assert!(directory.root.join("active/not.an.id").exists());
    }

    #[test]
    fn only_what_was_never_completed_is_purged() {
        let (_root, directory) = queue();
        put(&directory, Queue::Incoming, "AAAAA1", 0o600);
        put(&directory, Queue::Incoming, "AAAAA2", 0o700);
        let week = Duration::from_secs(7 * 86_400);
        let later = SystemTime::now() + week + Duration::from_secs(60);
        let now = SystemTime::now();
        assert!(directory.purge_incomplete(Queue::Incoming, now, week).unwrap().is_empty());
        let removed = directory.purge_incomplete(Queue::Incoming, later, week).unwrap();
        assert_eq!(removed, [directory.root.join("incoming/AAAAA1")]);
    }

    #[test]
    fn modes_are_states() {
        let (_root, directory) = queue();
        let ready = |unthrottle, force_expire| FileState::Ready { unthrottle, force_expire };
        for (mode, state) in [
            (0o600, FileState::Incomplete),
            (0o700, ready(false, false)),
            (0o744, ready(true, false)),
            (0o740, ready(true, false)),
            (0o710, ready(false, true)),
            (0o400, FileState::Damaged),
        ] {
            let id = put(&directory, Queue::Incoming, "AAAAA3", 0o600);
            let path = directory.path(Queue::Incoming, &id);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(directory.state(Queue::Incoming, &id).unwrap().0, state, "{mode:o}");
            fs::remove_file(path).unwrap();
        }
        let link = directory.root.join("incoming/AAAAA4");
        std::os::unix::fs::symlink("/etc/passwd", link).unwrap();
        let id = QueueId::parse("AAAAA4").unwrap();
        assert_eq!(directory.state(Queue::Incoming, &id).unwrap().0, FileState::Foreign);
        assert!(directory.open(Queue::Incoming, &id, Access::Read).is_err());
    }
}
