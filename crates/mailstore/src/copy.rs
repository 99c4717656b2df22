//! Copying and moving between mailboxes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mail_types::{Flags, Uid};

use crate::change::How;
use crate::error::{At, StoreError};
use crate::file_name::{self, Info};
use crate::host;
use crate::mailbox::{Mailbox, Message};
use crate::permissions::entry;
use crate::quota::Grace;
use crate::save::signed;
use crate::uidlist::Record;

/// How often a message may change while it is moved, until a change is lost.
const ROUNDS: usize = 8;

/// A message that has been copied, with the flags and keywords that the copy has.
#[derive(Debug)]
struct Copied {
    from: Uid,
    to: Uid,
    words: (Flags, Vec<String>),
}

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
        let copies = self.copy_unchecked(uids, target, Missing::Refused)?;
        Ok(copies.into_iter().map(|one| (one.from, one.to)).collect())
    }

    /// Copies them as they are on the disk, whoever has changed them since the last look.
    fn copy_unchecked(
        &mut self,
        uids: &[Uid],
        target: &mut Self,
        missing: Missing,
    ) -> Result<Vec<Copied>, StoreError> {
        self.look()?;
        self.is_the_same()?;
        let mut physical = 0;
        let copies = target.changing(|target, lock| {
            let (mut made, mut copies, mut records) = (Vec::new(), Vec::new(), Vec::new());
            let mut copy_all = || {
                for &uid in uids {
                    match self.copy_one(uid, target, &mut made)? {
                        Some((copied, record)) => {
                            physical += self.physical_size(uid).unwrap_or(0);
                            copies.push(copied);
                            records.push(record);
                        }
                        None if missing == Missing::Refused => {
                            return Err(StoreError::Expunged(uid));
                        }
                        None => {}
                    }
                    lock.keep();
                }
                target.sync_directories()?;
                target.write_records(&records).map(drop)
            };
            if let Err(error) = copy_all() {
                made.into_iter().for_each(|path| drop(fs::remove_file(path)));
                target.stamps = None;
                return Err(error);
            }
            Ok(copies)
        })?;
        self.store.quota_changed(signed(physical), signed(copies.len() as u64));
        Ok(copies)
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
        let copies = self.copy_unchecked(uids, target, Missing::LeftOut)?;
        let pairs = copies.iter().map(|one| (one.from, one.to)).collect();
        self.remove_copied(copies, target)?;
        Ok(pairs)
    }

    /// Removes messages that have been copied. What others have changed since then is changed in the copy first.
    fn remove_copied(
        &mut self,
        mut copies: Vec<Copied>,
        target: &mut Self,
    ) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let as_copied = |mailbox: &Self, one: &Copied| {
                let now = mailbox.message(one.from).map(|message| mailbox.words(message));
                now.is_none_or(|now| now == one.words)
            };
            let changed = self.changing_messages(|mailbox, lock| {
                let (same, changed): (Vec<_>, Vec<_>) =
                    copies.into_iter().partition(|one| as_copied(mailbox, one));
                let same: Vec<Uid> = same.into_iter().map(|one| one.from).collect();
                mailbox.remove_locked(&same, lock).map(|_| changed)
            })?;
            copies = changed;
            for one in &mut copies {
                let Some(message) = self.message(one.from) else { continue };
                let (flags, names) = self.words(message);
                let (before, known) = std::mem::replace(&mut one.words, (flags, names.clone()));
                let gone: Vec<String> =
                    known.iter().filter(|name| !names.contains(name)).cloned().collect();
                target.store_flags(&[one.to], How::Remove, before & !flags, &gone)?;
                target.store_flags(&[one.to], How::Add, flags & !before, &names)?;
            }
            if copies.is_empty() {
                return Ok(());
            }
        }
        let rest: Vec<Uid> = copies.iter().map(|one| one.from).collect();
        self.remove(&rest).map(drop)
    }

    /// What a message says of itself: flags, and keywords by name.
    fn words(&self, message: &Message) -> (Flags, Vec<String>) {
        (message.flags, self.keyword_names(message))
    }

    fn copy_one(
        &mut self,
        uid: Uid,
        target: &mut Self,
        made: &mut Vec<PathBuf>,
    ) -> Result<Option<(Copied, Record)>, StoreError> {
        for _ in 0..4 {
            let Some(message) = self.message(uid).cloned() else { break };
            let (flags, names) = self.words(&message);
            let info = Info::new(flags, target.letters_for(&names)?);
            let (base, guid) = target.name_for(self, &message);
            let (directory, name) = if info == Info::default() {
                ("new", base.clone())
            } else {
                ("cur", info.name(&base))
            };
            let path = entry(&target.place.mail.join(directory), &name);
            match self.copy_file(&self.path(&message), target, &path) {
                Ok(()) => made.push(path),
                Err(error) if error.is_missing() => {
                    self.look_without_lock()?; // it may have another name now
                    self.is_the_same()?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            target.lost.remove(&*base);
            let to = target.uids.list.assign(&base).ok_or(StoreError::NoUidsLeft)?;
            if let (Some(guid), Some(record)) = (guid, target.uids.list.record_mut(to)) {
                record.extensions.push((b'G', guid));
            }
            let copied = Copied { from: uid, to, words: (flags, names) };
            return Ok(target.uids.list.record(to).cloned().map(|record| (copied, record)));
        }
        Ok(None)
    }

    fn copy_file(&self, source: &Path, target: &Self, path: &Path) -> Result<(), StoreError> {
        let options = self.store.options();
        if options.hard_links && fs::hard_link(source, path).is_ok() {
            return Ok(());
        }
        let temporary = target.place.mail.join("tmp").join(host::unique_name(&options.hostname));
        let done = copy_content(source, &temporary, target.inherited)
            .and_then(|()| fs::rename(&temporary, path));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done.at("copy", source)
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

#[cfg(test)]
mod tests {
    use mail_types::Flag;

    use super::*;
    use crate::{Access, Attributes, Location, Options, Store};

    /// Flagged by somebody else when the copy is there and the message not yet gone.
    #[test]
    fn a_change_in_the_middle_of_a_move_is_not_lost() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(Location::maildir(home.path().to_owned()), Options::default());
        store.create("Job").unwrap();
        let mut incoming = store.begin("INBOX").unwrap();
        incoming.write(b"a\n").unwrap();
        store.deliver("INBOX", incoming.finish().unwrap(), &Attributes::default()).unwrap();
        let open = |name| store.open(name, Access::Select).unwrap();
        let (mut inbox, mut job, mut phone) = (open("INBOX"), open("Job"), open("INBOX"));
        let uid = inbox.messages()[0].uid;
        phone.store_flags(&[uid], How::Add, Flag::Seen.into(), &["x".to_owned()]).unwrap();
        let copies = inbox.copy_unchecked(&[uid], &mut job, Missing::LeftOut).unwrap();
        phone.store_flags(&[uid], How::Add, Flag::Flagged.into(), &["y".to_owned()]).unwrap();
        phone.store_flags(&[uid], How::Remove, Flag::Seen.into(), &["x".to_owned()]).unwrap();
        inbox.remove_copied(copies, &mut job).unwrap();
        assert_eq!(open("INBOX").messages().len(), 0);
        let job = open("Job");
        assert_eq!(job.words(&job.messages()[0]), (Flag::Flagged.into(), vec!["y".to_owned()]));
    }
}
