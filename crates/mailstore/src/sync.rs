//! Bringing an opened mailbox up to date with its directories and its UID list.

use std::collections::HashMap;
use std::fs;
use std::io;

use mail_types::Uid;

use crate::dotlock::DotLock;
use crate::dovecot_index;
use crate::error::StoreError;
use crate::file_name::{self, Info, KeywordBits};
use crate::host;
use crate::mailbox::{Access, Changes, Directory, Mailbox, Message};
use crate::permissions::entry;
use crate::scan::{Files, Found, Stamps};
use crate::uidlist::Record;
use crate::uidlist_file::Look;
use crate::uidvalidity;

impl Mailbox {
    /// Looks for what has changed: in the mailbox by others, and since the last call.
    ///
    /// A mailbox that another process keeps locked for too long, or that cannot be written (a
    /// full disk, no permission), shows what is known and nothing new, as Dovecot does.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMailbox`] when it is gone, or the system's error.
    pub fn refresh(&mut self) -> Result<Changes, StoreError> {
        self.look()?;
        Ok(std::mem::take(&mut self.pending))
    }

    /// As [`Self::refresh`], which tells of it later.
    pub(crate) fn look(&mut self) -> Result<(), StoreError> {
        let keywords_changed = self.keywords.refresh()?;
        if keywords_changed || !self.is_current()? {
            match self.lock() {
                Ok(mut lock) => self.sync(Some(&mut lock))?,
                Err(error) if self.can_do_without_lock(&error) => self.sync(None)?,
                Err(error) => return Err(self.gone_or(error)),
            }
            if keywords_changed {
                let keyworded = self.messages.iter().filter(|message| message.keywords != 0);
                let flags = keyworded.map(|message| message.uid).collect();
                let flags = if self.uid_validity.is_some() { flags } else { Vec::new() };
                self.pending.merge(Changes { flags, ..Changes::default() });
            }
        }
        Ok(())
    }

    fn is_current(&self) -> Result<bool, StoreError> {
        let Some(read) = &self.stamps else { return Ok(false) };
        let now = Stamps::take(&self.place.mail).map_err(|error| self.gone_or(error))?;
        Ok(read.hold(&now) && self.uids.is_current()?)
    }

    fn can_do_without_lock(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Locked => true,
            StoreError::Io { source, .. } => {
                let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
                kinds.contains(&source.kind()) || error.is_full()
            }
            _ => false,
        }
    }

    /// A missing file of a missing mailbox is a missing mailbox.
    fn gone_or(&self, error: StoreError) -> StoreError {
        let gone = error.is_missing() && !self.place.mail.join("cur").is_dir();
        if gone { StoreError::NoMailbox(self.name().to_owned()) } else { error }
    }

    /// Looks at the files without giving a UID to any.
    pub(crate) fn look_without_lock(&mut self) -> Result<(), StoreError> {
        self.stamps = None;
        self.sync(None)
    }

    /// Under the lock: looks, unless nothing can have changed.
    pub(crate) fn sync_locked(&mut self, lock: &mut DotLock) -> Result<(), StoreError> {
        self.keywords.refresh()?;
        if self.is_current()? { Ok(()) } else { self.sync(Some(lock)) }
    }

    pub(crate) fn sync(&mut self, mut lock: Option<&mut DotLock>) -> Result<(), StoreError> {
        self.check_list()?;
        self.keywords.refresh()?;
        let (files, stamps) = self.read_files(lock.is_some())?;
        if let Some(lock) = lock.as_deref_mut() {
            lock.keep();
            self.assign_uids(&files, &stamps)?;
        }
        // Dovecot renames files before it writes the names of new letters, both under the lock.
        let letters = if lock.is_some() { KeywordBits::MAX } else { self.keywords.named() };
        // Without the lock others rename files while the directory is read, and one of them may have been missed.
        let sure = lock.is_some() || stamps.hold(&Stamps::take(&self.place.mail)?);
        let found = files.by_base.len();
        self.publish(files, letters, sure);
        // New mail that waits for the lock is looked at again, though nothing changes any more.
        let complete = lock.is_some() || self.messages.len() >= found;
        if let Some(lock) = lock
            && self.access == Access::Select
        {
            self.move_new_to_cur(lock);
        }
        self.stamps = (sure && complete).then_some(stamps);
        Ok(())
    }

    /// Reads the list. One that has got lost is made again from what this session knows.
    fn check_list(&mut self) -> Result<(), StoreError> {
        let known = (self.uid_validity, self.uids.list.next_uid());
        let look = self.uids.look()?;
        if look == Look::Missing && known.0.is_none() {
            self.uids.list = crate::uidlist::UidList::parse(b"");
        }
        let broken = look == Look::Missing || self.uids.list.is_damaged();
        if broken {
            self.uids.list.mark_damaged();
            self.restore_header(known);
        }
        let validity = self.uids.list.header.uid_validity;
        if let (Some(before), Some(now)) = (self.uid_validity, validity)
            && before != now
        {
            self.messages.clear();
            self.lost.clear();
            self.pending = Changes { uid_validity: true, ..Changes::default() };
        }
        self.uid_validity = validity.or(self.uid_validity);
        Ok(())
    }

    fn restore_header(&mut self, known: (Option<mail_types::UidValidity>, u32)) {
        let list = &mut self.uids.list;
        let hint = dovecot_index::hint(&self.place.mail);
        let hinted = hint.map(|hint| hint.uid_validity);
        if list.header.uid_validity.is_none() {
            list.header.uid_validity = known.0.or(hinted);
        }
        if list.header.uid_validity == known.0 {
            list.raise_next_uid(known.1);
        }
        if let Some(hint) = hint.filter(|hint| Some(hint.uid_validity) == list.header.uid_validity)
        {
            list.raise_next_uid(hint.next_uid);
        }
    }

    /// Reads the directories, a second time if a known message seems to be gone: a program that
    /// does not know the lock may have renamed it while we read.
    fn read_files(&mut self, locked: bool) -> Result<(Files, Stamps), StoreError> {
        let mut stamps = Stamps::take(&self.place.mail).map_err(|error| self.gone_or(error))?;
        let mut files = Files::read(&self.place.mail).map_err(|error| self.gone_or(error))?;
        let missing = |files: &Files, messages: &[Message]| {
            messages.iter().any(|message| !files.by_base.contains_key(message.base_name()))
        };
        if missing(&files, &self.messages) {
            stamps = Stamps::take(&self.place.mail)?;
            let again = Files::read(&self.place.mail)?;
            for message in &self.messages {
                let base = message.base_name();
                if !again.by_base.contains_key(base) {
                    files.by_base.remove(base);
                }
            }
            files.by_base.extend(again.by_base);
        }
        if locked && self.access == Access::Select {
            self.part_clashes(&mut files);
        }
        Ok((files, stamps))
    }

    /// Two files of one name would be one message: the second gets a name of its own.
    fn part_clashes(&self, files: &mut Files) {
        for clash in std::mem::take(&mut files.clashes) {
            let from = entry(&self.place.mail.join(clash.directory.name()), &clash.name);
            let name = host::unique_name(&self.store.options().hostname);
            if fs::rename(&from, self.place.mail.join("new").join(&name)).is_ok() {
                let name: Box<[u8]> = name.as_bytes().into();
                files.by_base.insert(name.clone(), Found { directory: Directory::New, name });
            }
        }
    }

    /// Gives every file a UID and writes the list. Only under the lock.
    fn assign_uids(&mut self, files: &Files, stamps: &Stamps) -> Result<(), StoreError> {
        let remembered: HashMap<&[u8], Uid> =
            self.messages.iter().map(|message| (message.base_name(), message.uid)).collect();
        let list = &mut self.uids.list;
        if list.header.uid_validity.is_none() {
            let root = self.store.location().control_root();
            list.header.uid_validity = Some(uidvalidity::next(root, self.inherited)?);
            self.uid_validity = list.header.uid_validity;
        }
        if list.header.guid.is_none() {
            list.header.guid = Some(host::guid(&self.store.options().hostname));
            list.mark_damaged();
        }
        let mut bases: Vec<&[u8]> = files
            .by_base
            .keys()
            .map(|base| &**base)
            .filter(|base| {
                let listed = list.uid_of(base);
                listed.is_none() || listed == self.lost.get(*base).copied()
            })
            .collect();
        bases.sort_by(|left, right| file_name::arrival_order(left, right));
        list.complete_half_line(&bases, |base| files.by_base.contains_key(base));
        bases.retain(|base| list.uid_of(base).is_none() || self.lost.contains_key(*base));
        let mut added = Vec::new();
        for base in bases {
            self.lost.remove(base);
            // A record of this UID whose file is nowhere is half a line of ours.
            let own = remembered.get(base).filter(|uid| {
                list.record(**uid).is_none_or(|record| !files.by_base.contains_key(&record.base))
            });
            match own {
                Some(&uid) => list.restore(Record::new(uid, base)),
                None => {
                    let uid = list.assign(base).ok_or(StoreError::NoUidsLeft)?;
                    added.push(Record::new(uid, base));
                }
            }
        }
        let written = self.write_list(&added, files, stamps);
        match written {
            Err(error) if self.can_do_without_lock(&error) => {
                // Not on disk, so not given: the next look starts from what the disk says.
                let gone: Vec<Uid> = added.iter().map(|record| record.uid).collect();
                self.uids.list.retain(|record| !gone.contains(&record.uid));
                Ok(())
            }
            other => other,
        }
    }

    fn write_list(
        &mut self,
        added: &[Record],
        files: &Files,
        stamps: &Stamps,
    ) -> Result<(), StoreError> {
        let wasteful = self.uids.is_wasteful(files.by_base.len());
        if !self.uids.list.is_damaged() && !wasteful {
            return self.uids.append(added);
        }
        // Lines go only when the reading is sure not to have missed a renamed file.
        if Stamps::take(&self.place.mail)?.same_times(stamps) {
            self.uids.list.retain(|record| files.by_base.contains_key(&record.base));
        }
        self.uids.rewrite(self.inherited)
    }

    /// Makes the files with a UID the session's messages and notes what is different. Only these `letters` are believed;
    /// what was not found is gone if the reading is `sure`, else it stays for now.
    fn publish(&mut self, mut files: Files, letters: KeywordBits, sure: bool) {
        let mut before = std::mem::take(&mut self.messages).into_iter().peekable();
        let mut changes = Changes::default();
        let mut messages = Vec::with_capacity(files.by_base.len());
        for record in self.uids.list.records() {
            while let Some(gone) = before.next_if(|message| message.uid < record.uid) {
                changes.expunged.push(gone.uid);
                self.lost.insert(gone.base_name().into(), gone.uid);
            }
            let known = before.next_if(|message| message.uid == record.uid);
            let found = if known.is_none() && self.lost.get(&record.base) == Some(&record.uid) {
                None
            } else {
                files.by_base.remove(&record.base)
            };
            let Some(found) = found else {
                match known {
                    Some(gone) if sure => {
                        changes.expunged.push(gone.uid);
                        self.lost.insert(gone.base_name().into(), gone.uid);
                    }
                    missed => messages.extend(missed),
                }
                continue;
            };
            let info = Info::of(&found.name);
            let message = Message {
                uid: record.uid,
                flags: info.flags,
                keywords: info.keywords & letters,
                recent: found.directory == Directory::New
                    || known.as_ref().is_some_and(|known| known.recent),
                directory: found.directory,
                file_name: found.name,
            };
            match known {
                None => changes.new.push(message.uid),
                Some(known)
                    if (known.flags, known.keywords) != (message.flags, message.keywords) =>
                {
                    changes.flags.push(message.uid);
                }
                Some(_) => {}
            }
            messages.push(message);
        }
        for gone in before {
            changes.expunged.push(gone.uid);
            self.lost.insert(gone.base_name().into(), gone.uid);
        }
        self.messages = messages;
        if !std::mem::replace(&mut self.opened, true) {
            changes.new.clear();
        }
        self.pending.merge(changes);
    }

    /// What a full disk or a foreign owner keeps in `new` stays there and is shown all the same.
    fn move_new_to_cur(&mut self, lock: &mut DotLock) {
        let (new, cur) = (self.place.mail.join("new"), self.place.mail.join("cur"));
        for message in &mut self.messages {
            if message.directory == Directory::Cur {
                continue;
            }
            let mut name = message.file_name.to_vec();
            if !name.contains(&b':') {
                name.extend_from_slice(b":2,");
            }
            if fs::rename(entry(&new, &message.file_name), entry(&cur, &name)).is_ok() {
                message.directory = Directory::Cur;
                message.file_name = name.into();
            }
            lock.keep();
        }
    }

    /// UIDs from before a new UIDVALIDITY name nothing any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMailbox`] once there is one, until the session has been told.
    pub(crate) fn is_the_same(&self) -> Result<(), StoreError> {
        if self.pending.uid_validity {
            return Err(StoreError::NoMailbox(self.name().to_owned()));
        }
        Ok(())
    }

    /// As [`Self::changing`], for messages that the session knows by their UIDs.
    pub(crate) fn changing_messages<T>(
        &mut self,
        change: impl FnOnce(&mut Self, &mut DotLock) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.changing(|mailbox, lock| {
            mailbox.is_the_same()?;
            change(mailbox, lock)
        })
    }

    /// Takes the lock, looks, and runs a change. For everything that renames or removes.
    pub(crate) fn changing<T>(
        &mut self,
        change: impl FnOnce(&mut Self, &mut DotLock) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lock = self.lock().map_err(|error| self.gone_or(error))?;
        self.sync_locked(&mut lock)?;
        let result = change(self, &mut lock);
        if let Err(StoreError::Io { .. }) = &result {
            self.stamps = None;
        }
        result
    }
}
