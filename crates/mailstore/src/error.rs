//! What can go wrong in a store, one variant for each thing a caller does about it.

use std::io;
use std::path::{Path, PathBuf};

use mail_types::Uid;
use nix::errno::Errno;

/// Why the store did not do what it was asked. The texts are Dovecot's where a client sees them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("Mailbox doesn't exist: {0}")]
    NoMailbox(String),
    #[error("Mailbox already exists")]
    Exists,
    #[error("Invalid mailbox name: {0}")]
    Name(#[from] crate::name::NameError),
    #[error("INBOX can't be deleted.")]
    DeleteInbox,
    #[error("Renaming INBOX isn't supported")]
    RenameInbox,
    #[error("Mailbox is read-only")]
    ReadOnly,
    /// Another process expunged it.
    #[error("Message {0} was expunged")]
    Expunged(Uid),
    #[error("Quota exceeded (mailbox for user is full)")]
    OverQuota,
    /// Dovecot's Maildir has room for 26 keywords in a mailbox.
    #[error("Too many keywords in this mailbox")]
    TooManyKeywords,
    #[error("Invalid keyword")]
    InvalidKeyword,
    #[error("Mailbox is locked by another process")]
    Locked,
    #[error("Mailbox has no free UIDs left")]
    NoUidsLeft,
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{action}({}) failed: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl StoreError {
    /// The disk or its quota is full: the caller answers with a temporary failure.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        let full = [Errno::ENOSPC, Errno::EDQUOT].map(|errno| errno as i32);
        source.raw_os_error().is_some_and(|errno| full.contains(&errno))
    }

    /// The file is not there: for the store's own retries.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Turns an `io::Result` into a [`StoreError`] that names the system call and the path.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { action, path: path.to_owned(), source })
    }
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(io::Error::from).at(action, path)
    }
}

/// `Ok(None)` where the file is not there.
pub(crate) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
