//! An open queue file: its lock, and the few octets that are changed in place.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use mail_types::QueueId;
use protocol::postfix::record::{Header, RecordType};
use rustix::fs::FlockOperation;

use crate::content::Content;
use crate::directory::{Access, Queue, QueueDirectory};
use crate::envelope::EnvelopeReader;
use crate::records::{Damage, ReadError, Records};

/// Who may use the file at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Delivery agents and the bounce service, for as long as they work.
    Shared,
    /// The queue manager, while it reads the envelope.
    Exclusive,
    /// Tools that only look.
    None,
}

/// A queue file that is open for reading and for marks. The lock goes when it is dropped.
#[derive(Debug)]
pub struct QueueFile {
    file: File,
    access: Access,
}

impl QueueFile {
    /// # Errors
    ///
    /// As open(2); `WouldBlock` if another program holds the lock.
    pub fn open(
        directory: &QueueDirectory,
        queue: Queue,
        id: &QueueId,
        lock: Lock,
    ) -> io::Result<Self> {
        let access = if lock == Lock::None { Access::Read } else { Access::ReadWrite };
        let file = directory.open(queue, id, access)?;
        let operation = match lock {
            Lock::Shared => Some(FlockOperation::NonBlockingLockShared),
            Lock::Exclusive => Some(FlockOperation::NonBlockingLockExclusive),
            Lock::None => None,
        };
        if let Some(operation) = operation {
            rustix::fs::flock(&file, operation)?;
        }
        Ok(Self { file, access })
    }

    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// # Errors
    ///
    /// The length of the file cannot be learnt.
    pub fn records(&self) -> io::Result<Records<&File>> {
        Records::new(&self.file)
    }

    /// # Errors
    ///
    /// [`ReadError`] if the file does not begin as a queue file.
    pub fn envelope(&self) -> Result<EnvelopeReader<&File>, ReadError> {
        EnvelopeReader::new(&self.file)
    }

    /// The content from `data_offset`, as the delivery request names it.
    ///
    /// # Errors
    ///
    /// The length of the file cannot be learnt.
    pub fn content(&self, data_offset: u64) -> io::Result<Content<&File>> {
        Content::at(&self.file, data_offset)
    }

    /// Marks the recipient whose record stands at `offset` as done: one octet, `R` becomes `D`.
    ///
    /// # Errors
    ///
    /// [`Damage::Unexpected`] if no recipient stands there.
    pub fn mark_done(&self, offset: u64) -> Result<(), ReadError> {
        self.change_type(offset, &[RecordType::RECIPIENT, RecordType::DONE], RecordType::DONE)
    }

    /// Takes away the record of a one-time `trace_flags` attribute.
    ///
    /// # Errors
    ///
    /// [`Damage::Unexpected`] if no attribute stands there.
    pub fn kill_attribute(&self, offset: u64) -> Result<(), ReadError> {
        self.change_type(offset, &[RecordType::ATTRIBUTE, RecordType::KILLED], RecordType::KILLED)
    }

    /// Notes in the warn record at `offset` that the sender has been told of the delay.
    ///
    /// # Errors
    ///
    /// [`Damage::Unexpected`] if no warn record stands there.
    pub fn mark_warned(&self, offset: u64) -> Result<(), ReadError> {
        let mut beginning = [0; 2];
        self.file.read_exact_at(&mut beginning, offset)?;
        match Header::parse(&beginning, 15) {
            Ok(Some(Header { kind: RecordType::WARN_TIME, length: 15, size: 2 })) => {
                self.file.write_all_at(format!("{:15}", -1).as_bytes(), offset + 2)?;
                Ok(())
            }
            _ => Err(Damage::Unexpected(RecordType(beginning[0]), offset).into()),
        }
    }

    fn change_type(
        &self,
        offset: u64,
        from: &[RecordType],
        to: RecordType,
    ) -> Result<(), ReadError> {
        let mut kind = [0];
        self.file.read_exact_at(&mut kind, offset)?;
        let [kind] = kind;
        if !from.contains(&RecordType(kind)) {
            return Err(Damage::Unexpected(RecordType(kind), offset).into());
        }
        self.file.write_all_at(&[to.0], offset)?;
        Ok(())
    }

    /// Asks the queue manager to move this file to `corrupt/` (mode 0400).
    ///
    /// # Errors
    ///
    /// As fchmod(2).
    pub fn mark_damaged(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o400))
    }

    /// Clears the request to forget once that the destination is dead.
    ///
    /// # Errors
    ///
    /// As fchmod(2).
    pub fn clear_unthrottle(&self) -> io::Result<()> {
        let mode = self.file.metadata()?.permissions().mode() & 0o7777;
        self.file.set_permissions(Permissions::from_mode(mode & !0o040))
    }

    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PLAIN: &[u8] = include_bytes!("../tests/fixtures/two-recipients-one-done");

    fn queue() -> (tempfile::TempDir, QueueDirectory, QueueId) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("active")).unwrap();
        let directory = QueueDirectory::new(root.path());
        let id = QueueId::parse("958619A4924").unwrap();
        fs::write(directory.path(Queue::Active, &id), PLAIN).unwrap();
        (root, directory, id)
    }

    #[test]
    fn one_octet_marks_a_recipient_done() {
        let (_root, directory, id) = queue();
        let open = || QueueFile::open(&directory, Queue::Active, &id, Lock::Shared).unwrap();
        open().mark_done(740).unwrap();
        open().mark_done(740).unwrap();
        assert!(open().mark_done(741).is_err());
        assert!(open().mark_done(10_000).is_err());
        assert!(open().mark_warned(740).is_err());
        let mut expected = PLAIN.to_vec();
        expected[740] = b'D';
        assert_eq!(fs::read(directory.path(Queue::Active, &id)).unwrap(), expected);
        open().mark_damaged().unwrap();
        let state = directory.state(Queue::Active, &id).unwrap().0;
        assert_eq!(state, crate::FileState::Damaged);
    }

    #[test]
    fn agents_share_and_the_queue_manager_waits() {
        let (_root, directory, id) = queue();
        let open = |lock| QueueFile::open(&directory, Queue::Active, &id, lock);
        let (first, second) = (open(Lock::Shared).unwrap(), open(Lock::Shared).unwrap());
        assert_eq!(open(Lock::Exclusive).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop((first, second));
        let exclusive = open(Lock::Exclusive).unwrap();
        assert_eq!(open(Lock::Shared).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(exclusive);
    }
}
