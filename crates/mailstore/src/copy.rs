//! Copying and moving between mailboxes.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use mail_types::Uid;

use crate::error::{At, StoreError};
use crate::file_name::{self, Info};
use crate::host;
use crate::mailbox::{Mailbox, Message};
use crate::permissions::entry;
use crate::quota::Grace;
use crate::save::signed;
use crate::uidlist::Record;

/// What becomes of a copy of several messages when one of them is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refused,
    LeftOut,
}

impl Mailbox {
    /// Copies messages to `target`, which may be this mailbox opened a second time. Gives pairs of
    /// old and new UIDs in the order of `uids`. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Expunged`] when one of them is gone, [`StoreError::OverQuota`],
    /// [`StoreError::TooManyKeywords`], [`StoreError::Locked`], or the system's error: then nothing
    /// was copied.
    pub fn copy(&mut self, uids: &[Uid], target: &mut Self) -> Result<Vec<(Uid, Uid)>, StoreError> {
        let (physical, wire) = self.sizes(uids)?;
        self.store.check_quota(physical, wire, Grace::None)?;
        self.copy_unchecked(uids, target, Missing::Refused)
    }

    fn copy_unchecked(
        &mut self,
        uids: &[Uid],
        target: &mut Self,
        missing: Missing,
    ) -> Result<Vec<(Uid, Uid)>, StoreError> {
        let mut physical = 0;
        let pairs = target.changing(|target, lock| {
            let mut made = Vec::new();
            let mut pairs = Vec::new();
            for &uid in uids {
                let copied = match self.copy_one(uid, target, &mut made) {
                    Ok(None) if missing == Missing::Refused => Err(StoreError::Expunged(uid)),
                    copied => copied,
                };
                match copied {
                    Ok(Some(record)) => {
                        physical += self.physical_size(uid).unwrap_or(0);
                        pairs.push((uid, record));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        for path in made {
                            let _ = fs::remove_file(path);
                        }
                        target.stamps = None;
                        return Err(error);
                    }
                }
                lock.keep();
            }
            target.sync_directories()?;
            let records: Vec<Record> = pairs.iter().map(|(_, record)| record.clone()).collect();
            target.write_records(&records)?;
            Ok(pairs.into_iter().map(|(uid, record)| (uid, record.uid)).collect::<Vec<_>>())
        })?;
        self.store.quota_changed(signed(physical), signed(pairs.len() as u64))?;
        Ok(pairs)
    }

    /// As stored and on the wire, all together.
    fn sizes(&mut self, uids: &[Uid]) -> Result<(u64, u64), StoreError> {
        let (mut physical, mut wire) = (0, 0);
        for &uid in uids {
            match self.physical_size(uid).and_then(|size| Ok((size, self.wire_size(uid)?))) {
                Ok(sizes) => (physical, wire) = (physical + sizes.0, wire + sizes.1),
                Err(StoreError::Expunged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((physical, wire))
    }

    /// Copies messages and then removes those that were copied (RFC 6851); those that are gone are left out. What a full quota holds
    /// may still be moved, else nobody could ever move mail into Trash.
    ///
    /// # Errors
    ///
    /// As [`Self::copy`], but for what is gone; when the removal fails the copies stay.
    pub fn r#move(
        &mut self,
        uids: &[Uid],
        target: &mut Self,
    ) -> Result<Vec<(Uid, Uid)>, StoreError> {
        let (physical, wire) = self.sizes(uids)?;
        if self.store.location() != target.store.location() {
            target.store.check_quota(physical, wire, Grace::None)?;
        }
        let pairs = self.copy_unchecked(uids, target, Missing::LeftOut)?;
        let copied: Vec<Uid> = pairs.iter().map(|(from, _)| *from).collect();
        self.remove(&copied)?;
        Ok(pairs)
    }

    fn copy_one(
        &mut self,
        uid: Uid,
        target: &mut Self,
        made: &mut Vec<std::path::PathBuf>,
    ) -> Result<Option<Record>, StoreError> {
        let Some(message) = self.message(uid).cloned() else { return Ok(None) };
        let names = self.keyword_names(&message);
        let info = Info::new(message.flags, target.letters_for(&names)?);
        let (base, guid) = target.name_for(self, &message);
        let (directory, name) =
            if info == Info::default() { ("new", base.clone()) } else { ("cur", info.name(&base)) };
        let path = entry(&target.place.mail.join(directory), &name);
        let links = self.store.options().hard_links;
        let temporary =
            target.place.mail.join("tmp").join(host::unique_name(&self.store.options().hostname));
        let inherited = target.inherited;
        let copied = self.with_file(uid, |source| {
            if links && fs::hard_link(source, &path).is_ok() {
                return Ok(());
            }
            let done = copy_content(source, &temporary, inherited)
                .and_then(|()| fs::rename(&temporary, &path));
            if done.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            done.at("copy", source)
        });
        match copied {
            Ok(()) => made.push(path),
            Err(StoreError::Expunged(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        target.lost.remove(&*base);
        let uid = target.uids.list.assign(&base).ok_or(StoreError::NoUidsLeft)?;
        if let (Some(guid), Some(record)) = (guid, target.uids.list.record_mut(uid)) {
            record.extensions.push((b'G', guid));
        }
        Ok(target.uids.list.record(uid).cloned())
    }

    /// The base name that `message` has here: its own, unless a message here has or had it as far as the list knows, as
    /// with Dovecot, which warns of a name that comes again. Then a new one, and the GUID that the record has to keep.
    fn name_for(&self, source: &Self, message: &Message) -> (Vec<u8>, Option<Vec<u8>>) {
        let base = message.base_name();
        let own_guid = source.message_guid(message);
        let taken = self.messages.iter().any(|known| known.base_name() == base)
            || self.uids.list.uid_of(base).is_some();
        if !taken {
            let guid = (own_guid != base).then_some(own_guid);
            return (base.to_vec(), guid);
        }
        let mut name = host::unique_name(&self.store.options().hostname).into_bytes();
        for key in [b'S', b'W'] {
            if let Some(size) = file_name::stated_size(base, key) {
                name.extend_from_slice(format!(",{}={size}", char::from(key)).as_bytes());
            }
        }
        (name, Some(own_guid))
    }
}

/// A copy of its own, with the date of the original: synced, since its name will be.
fn copy_content(
    source: &Path,
    target: &Path,
    inherited: crate::permissions::Inherited,
) -> io::Result<()> {
    let mut from = crate::control_files::open_regular(source)?;
    let mut to: File = inherited.create_file(target)?;
    io::copy(&mut from, &mut to)?;
    to.set_modified(from.metadata()?.modified()?)?;
    to.sync_all()
}
