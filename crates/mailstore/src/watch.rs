//! Waiting for a mailbox to change, for IDLE.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use inotify::{Inotify, WatchMask};

use crate::mailbox::Mailbox;

/// Becomes readable when something in a mailbox's directories changes. It says only that there is
/// something to look for; [`Mailbox::refresh`] tells what.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// Watches `new`, `cur` and the directories that hold them and the UID list.
    ///
    /// # Errors
    ///
    /// The system's, when the user's inotify limits are reached among others: poll then.
    pub fn new(mailbox: &Mailbox) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let moves =
            WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        for directory in ["new", "cur"] {
            inotify
                .watches()
                .add(mailbox.place.mail.join(directory), moves | WatchMask::DELETE_SELF)?;
        }
        // Keywords and the UID list are replaced by rename; the mailbox itself may be renamed or deleted.
        // Both directories can be one, of which the last mask holds.
        for directory in [&mailbox.place.mail, &mailbox.place.control] {
            inotify.watches().add(
                directory,
                WatchMask::MOVED_TO | WatchMask::MOVE_SELF | WatchMask::DELETE_SELF,
            )?;
        }
        Ok(Self { inotify })
    }

    /// Takes all events that are there, without waiting; whether there were any.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut any = false;
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => any |= events.count() > 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
