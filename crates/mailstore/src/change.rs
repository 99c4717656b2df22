//! Changing flags and keywords, and expunging.

use std::fs;

use mail_types::{Flag, Flags, Uid};

use crate::dotlock::DotLock;
use crate::error::{At, StoreError, present};
use crate::file_name::{Info, KeywordBits};
use crate::mailbox::Mailbox;
use crate::permissions::entry;
use crate::save::signed;

/// How given flags and keywords meet those that a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Add,
    Remove,
    Replace,
}

impl Mailbox {
    /// Changes flags and keywords of those of `uids` that are there. Gives the ones that changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyKeywords`], [`StoreError::InvalidKeyword`], [`StoreError::Locked`], or
    /// the system's error; messages before the failing one have changed.
    pub fn store_flags(
        &mut self,
        uids: &[Uid],
        how: How,
        flags: Flags,
        keywords: &[String],
    ) -> Result<Vec<Uid>, StoreError> {
        self.changing_messages(|mailbox, lock| {
            let keywords = match how {
                How::Remove => mailbox.keywords.bits_of(keywords),
                How::Add | How::Replace => mailbox.letters_for(keywords)?,
            };
            let mut changed = Vec::new();
            for &uid in uids {
                let done = mailbox.rewrite_info(uid, |info| {
                    change_info(info, how, flags, keywords);
                })?;
                if done {
                    changed.push(uid);
                }
                lock.keep();
            }
            Ok(changed)
        })
    }

    /// Letters for keywords, new ones if need be. Only under the lock.
    pub(crate) fn letters_for(&mut self, keywords: &[String]) -> Result<KeywordBits, StoreError> {
        let used = self.messages.iter().fold(0, |used, message| used | message.keywords);
        let options = self.store.options();
        let patience = options.lock_timeout;
        self.keywords.assign(keywords, used, &options.hostname, self.inherited, patience)
    }

    /// Renames a message's file to say what `edit` makes of its info. `false` if that is what it
    /// says already, or if it is gone.
    fn rewrite_info(&mut self, uid: Uid, edit: impl Fn(&mut Info)) -> Result<bool, StoreError> {
        for _ in 0..4 {
            let Some(message) = self.message(uid) else { return Ok(false) };
            let before = Info::of(&message.file_name);
            let mut info = before.clone();
            edit(&mut info);
            if (info.flags, info.keywords) == (before.flags, before.keywords) {
                return Ok(false);
            }
            let directory = self.place.mail.join(message.directory.name());
            let name = info.name(message.base_name());
            let from = entry(&directory, &message.file_name);
            let renamed = fs::rename(&from, entry(&directory, &name));
            if present(renamed).at("rename", &from)?.is_none() {
                self.look_without_lock()?; // renamed or removed by someone who knows no lock
                self.is_the_same()?;
                continue;
            }
            if let Some(message) = self.message_mut(uid) {
                message.flags = info.flags;
                message.keywords = info.keywords;
                message.file_name = name.into();
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Removes those of `uids` (all messages, if `None`) that have `\Deleted` on the disk at this
    /// moment. Gives the ones that are gone; they are not reported by [`Mailbox::refresh`] again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], or the system's error; messages before the failing one are gone.
    pub fn expunge_deleted(&mut self, uids: Option<&[Uid]>) -> Result<Vec<Uid>, StoreError> {
        self.changing_messages(|mailbox, lock| {
            let chosen = mailbox.messages.iter().filter(|message| {
                message.flags.has(Flag::Deleted)
                    && uids.is_none_or(|uids| uids.contains(&message.uid))
            });
            let chosen = chosen.map(|message| message.uid).collect::<Vec<_>>();
            mailbox.remove_locked(&chosen, lock)
        })
    }

    /// Removes messages, whatever their flags (POP3's DELE, MOVE).
    ///
    /// # Errors
    ///
    /// As [`Self::expunge_deleted`].
    pub fn remove(&mut self, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
        self.changing_messages(|mailbox, lock| mailbox.remove_locked(uids, lock))
    }

    pub(crate) fn remove_locked(
        &mut self,
        uids: &[Uid],
        lock: &mut DotLock,
    ) -> Result<Vec<Uid>, StoreError> {
        let mut gone = Vec::new();
        let mut freed = (0_i64, 0_i64);
        let mut failure = None;
        for &uid in uids {
            if self.message(uid).is_none() {
                continue;
            }
            let size = self.physical_size(uid).map_or(0, signed);
            match self.unlink(uid) {
                Ok(true) => {
                    freed = (freed.0 - size, freed.1 - 1);
                    gone.push(uid);
                }
                Ok(false) => {}
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            lock.keep();
        }
        for &uid in &gone {
            if let Some(message) = self.message(uid) {
                let base = message.base_name().into();
                self.lost.insert(base, uid);
            }
        }
        let removed: std::collections::HashSet<Uid> = gone.iter().copied().collect();
        self.messages.retain(|message| !removed.contains(&message.uid));
        self.store.quota_changed(freed.0, freed.1);
        failure.map_or(Ok(gone), Err)
    }

    fn unlink(&mut self, uid: Uid) -> Result<bool, StoreError> {
        let removed = self.with_file(uid, |path| fs::remove_file(path).at("unlink", path));
        match removed {
            Ok(()) => Ok(true),
            Err(StoreError::Expunged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn change_info(info: &mut Info, how: How, flags: Flags, keywords: KeywordBits) {
    match how {
        How::Add => {
            info.flags = info.flags | flags;
            info.keywords |= keywords;
        }
        How::Remove => {
            info.flags = info.flags & !flags;
            info.keywords &= !keywords;
        }
        How::Replace => {
            info.flags = flags;
            info.keywords = keywords;
        }
    }
}
