//! STATUS: a mailbox in numbers, without opening it for a session.

use mail_types::{Flag, UidValidity};

use crate::error::StoreError;
use crate::mailbox::Access;
use crate::store::Store;

/// The numbers of one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub messages: u32,
    pub recent: u32,
    pub unseen: u32,
    pub next_uid: u32,
    pub uid_validity: UidValidity,
    pub guid: Option<String>,
}

impl Store {
    /// Counts a mailbox. Leaves `new` as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMailbox`], a bad name, or the system's error.
    pub fn status(&self, name: &str) -> Result<Status, StoreError> {
        let mailbox = self.open(name, Access::Peek)?;
        let count = |wanted: fn(&crate::mailbox::Message) -> bool| {
            let number = mailbox.messages().iter().filter(|message| wanted(message)).count();
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        Ok(Status {
            messages: count(|_| true),
            recent: count(|message| message.recent),
            unseen: count(|message| !message.flags.has(Flag::Seen)),
            next_uid: mailbox.next_uid(),
            uid_validity: mailbox.uid_validity(),
            guid: mailbox.guid().map(str::to_owned),
        })
    }

    /// The sum of all messages' sizes with CRLF (STATUS=SIZE).
    ///
    /// # Errors
    ///
    /// As [`Self::status`].
    pub fn size(&self, name: &str) -> Result<u64, StoreError> {
        let mut mailbox = self.open(name, Access::Peek)?;
        let uids: Vec<_> = mailbox.messages().iter().map(|message| message.uid).collect();
        uids.into_iter().try_fold(0_u64, |sum, uid| match mailbox.wire_size(uid) {
            Ok(size) => Ok(sum.saturating_add(size)),
            Err(StoreError::Expunged(_)) => Ok(sum),
            Err(error) => Err(error),
        })
    }
}
