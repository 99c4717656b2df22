//! Saving messages: written to `tmp` as they stream in, synced, renamed into place, listed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mail_types::{Flags, Uid};
use message::content::ToLf;

use crate::dotlock::DotLock;
use crate::error::{At, StoreError};
use crate::file_name::Info;
use crate::host;
use crate::mailbox::{Access, Mailbox};
use crate::name::Place;
use crate::permissions::{Inherited, sync_directory};
use crate::quota::Grace;
use crate::store::Store;
use crate::uidlist::Record;

/// A message on its way in. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    file: BufWriter<File>,
    path: TemporaryFile,
    name: String,
    content: ToLf,
    physical: u64,
    sync: bool,
}

/// A message that is complete and safe in `tmp`, of a mailbox that has not listed it yet.
#[derive(Debug)]
pub struct Written {
    path: TemporaryFile,
    /// The base name, with its sizes.
    base: String,
    pub physical_size: u64,
    pub wire_size: u64,
}

/// What a saved message gets besides its content.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub flags: Flags,
    pub keywords: Vec<String>,
    /// INTERNALDATE; the time of saving, if none.
    pub date: Option<SystemTime>,
}

#[derive(Debug)]
struct TemporaryFile(Option<PathBuf>);

impl TemporaryFile {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

impl Incoming {
    fn create(place: &Place, inherited: Inherited, store: &Store) -> Result<Self, StoreError> {
        let name = host::unique_name(&store.options().hostname);
        let path = place.mail.join("tmp").join(&name);
        let file = inherited.create_file(&path).at("open", &path)?;
        Ok(Self {
            file: BufWriter::with_capacity(64 * 1024, file),
            path: TemporaryFile(Some(path)),
            name,
            content: ToLf::default(),
            physical: 0,
            sync: store.options().fsync,
        })
    }

    /// Adds octets of the message. Line ends may be CRLF or LF; LF is what is stored.
    ///
    /// # Errors
    ///
    /// The system's; the message can then only be dropped.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        let (file, physical) = (&mut self.file, &mut self.physical);
        self.content
            .push(octets, |piece| {
                *physical += piece.len() as u64;
                file.write_all(piece)
            })
            .at("write", self.path.path())
    }

    /// Octets with CRLF line ends so far: for a quota check before the end.
    #[must_use]
    pub fn wire_size(&self) -> u64 {
        self.physical + self.content.bare_lines()
    }

    /// Ends the message and makes it durable.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn finish(mut self) -> Result<Written, StoreError> {
        let (file, physical) = (&mut self.file, &mut self.physical);
        self.content
            .finish(|piece| {
                *physical += piece.len() as u64;
                file.write_all(piece)
            })
            .at("write", self.path.path())?;
        let wire_size = self.wire_size();
        let path = self.path.path();
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.at("write", path)?;
        if self.sync {
            file.sync_all().at("fsync", path)?;
        }
        let base = format!("{},S={},W={wire_size}", self.name, self.physical);
        Ok(Written { path: self.path, base, physical_size: self.physical, wire_size })
    }
}

impl Written {
    /// Sets INTERNALDATE. Durability of the date alone is not promised.
    fn set_date(&self, date: SystemTime) -> Result<(), StoreError> {
        let path = self.path.path();
        File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(date))
            .at("utime", path)
    }

    /// Moves the file to where it stays, and gives that path.
    fn settle(mut self, mail: &Path, info: &Info) -> Result<PathBuf, StoreError> {
        let plain = *info == Info::default();
        let target = if plain {
            mail.join("new").join(&self.base)
        } else {
            crate::permissions::entry(&mail.join("cur"), &info.name(self.base.as_bytes()))
        };
        fs::rename(self.path.path(), &target).at("rename", self.path.path())?;
        self.path.0 = None;
        Ok(target)
    }
}

impl Store {
    /// Begins a message for the mailbox `name`, which must exist (INBOX is created).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMailbox`], a bad name, or the system's error.
    pub fn begin(&self, name: &str) -> Result<Incoming, StoreError> {
        if crate::name::is_inbox(name) {
            self.ensure_inbox()?;
        } else if !self.exists(name)? {
            return Err(StoreError::NoMailbox(name.to_owned()));
        }
        let place = self.place(name)?;
        let inherited = Inherited::from(&place.mail);
        if !crate::store::is_directory(&place.mail.join("tmp"))? {
            self.complete(&place, inherited)?;
        }
        Incoming::create(&place, inherited, self)
    }

    /// Delivers a message that was begun for the same mailbox: durable when it returns.
    ///
    /// Never waits for another process: while that holds the list, the file goes to `new` without
    /// a UID, and whoever opens the mailbox next gives it one.
    ///
    /// # Errors
    ///
    /// [`StoreError::OverQuota`], or the system's error; the message is then not there.
    pub fn deliver(
        &self,
        name: &str,
        written: Written,
        attributes: &Attributes,
    ) -> Result<Option<Uid>, StoreError> {
        self.check_quota(written.physical_size, written.wire_size, Grace::Delivery)?;
        let mut mailbox = Mailbox::unread(self.clone(), name, Access::Peek)?;
        if attributes.keywords.is_empty() {
            match mailbox.lock_within(Duration::ZERO) {
                Ok(mut lock) => mailbox.deliver_locked(written, attributes, &mut lock),
                Err(_) => mailbox.settle_unlisted(written, attributes),
            }
        } else {
            mailbox.save(vec![(written, attributes.clone())]).map(|uids| uids.first().copied())
        }
    }
}

impl Mailbox {
    /// Begins a message for this mailbox.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn begin(&self) -> Result<Incoming, StoreError> {
        Incoming::create(&self.place, self.inherited, &self.store)
    }

    /// Saves messages that were begun for this mailbox, all or none, in this order, and gives
    /// their UIDs. Durable when it returns. The session learns of them at its next refresh.
    ///
    /// # Errors
    ///
    /// [`StoreError::OverQuota`], [`StoreError::Locked`], too many keywords, or the system's error.
    pub fn save(&mut self, messages: Vec<(Written, Attributes)>) -> Result<Vec<Uid>, StoreError> {
        let total =
            |size: fn(&Written) -> u64| messages.iter().map(|(written, _)| size(written)).sum();
        let physical = total(|written| written.physical_size);
        let wire = total(|written| written.wire_size);
        self.store.check_quota(physical, wire, Grace::None)?;
        let count = messages.len();
        let uids = self.changing(|mailbox, lock| {
            let (mut made, mut bases) = (Vec::with_capacity(count), Vec::with_capacity(count));
            let save_all = || {
                for (written, attributes) in messages {
                    let letters = mailbox.letters_for(&attributes.keywords)?;
                    bases.push(written.base.clone());
                    let info = Info::new(attributes.flags, letters);
                    made.push(mailbox.place_file(written, &attributes, &info)?);
                    lock.keep();
                }
                mailbox.sync_directories()?;
                mailbox.list_files(&bases)
            };
            let saved = save_all();
            if saved.is_err() {
                made.into_iter().for_each(|path| drop(fs::remove_file(path)));
            }
            saved
        })?;
        self.store.quota_changed(signed(physical), signed(count as u64));
        Ok(uids)
    }

    fn deliver_locked(
        &mut self,
        written: Written,
        attributes: &Attributes,
        lock: &mut DotLock,
    ) -> Result<Option<Uid>, StoreError> {
        if !self.uids.look_at_end()? {
            self.uids.look()?;
        }
        let list = &self.uids.list;
        if list.is_damaged() || list.header.uid_validity.is_none() {
            // Only a whole look can mend the list; it may fail where a delivery need not.
            let _ = self.sync(Some(lock));
        }
        if self.uids.list.is_damaged() || self.uids.list.header.uid_validity.is_none() {
            return self.settle_unlisted(written, attributes);
        }
        let info = Info::new(attributes.flags, 0);
        let (size, base) = (written.physical_size, written.base.clone());
        self.place_durably(written, attributes, &info)?;
        // The file is in place and will be found: a list that cannot be appended to is no failure.
        let uid = self.list_files(&[base]).ok().and_then(|uids| uids.first().copied());
        self.store.quota_changed(signed(size), 1);
        Ok(uid)
    }

    /// Puts the file into place without a UID.
    fn settle_unlisted(
        &mut self,
        written: Written,
        attributes: &Attributes,
    ) -> Result<Option<Uid>, StoreError> {
        let info = Info::new(attributes.flags, 0);
        let size = written.physical_size;
        self.place_durably(written, attributes, &info)?;
        self.store.quota_changed(signed(size), 1);
        Ok(None)
    }

    /// Places the file so that it stays; what fails to be durable is taken away, since it will be sent again.
    fn place_durably(
        &mut self,
        written: Written,
        attributes: &Attributes,
        info: &Info,
    ) -> Result<(), StoreError> {
        let path = self.place_file(written, attributes, info)?;
        self.sync_directories().inspect_err(|_| drop(fs::remove_file(path)))
    }

    fn place_file(
        &self,
        written: Written,
        attributes: &Attributes,
        info: &Info,
    ) -> Result<PathBuf, StoreError> {
        if let Some(date) = attributes.date {
            written.set_date(date)?;
        }
        written.settle(&self.place.mail, info)
    }

    /// Gives UIDs to files that are in place. Only under the lock.
    fn list_files(&mut self, bases: &[String]) -> Result<Vec<Uid>, StoreError> {
        let mut records = Vec::with_capacity(bases.len());
        for base in bases {
            let uid = self.uids.list.assign(base.as_bytes()).ok_or(StoreError::NoUidsLeft)?;
            records.push(Record::new(uid, base.as_bytes()));
        }
        self.write_records(&records)
    }

    /// Writes records that are in the list already.
    pub(crate) fn write_records(&mut self, records: &[Record]) -> Result<Vec<Uid>, StoreError> {
        self.stamps = None;
        if self.uids.list.is_damaged() {
            self.uids.rewrite(self.inherited)?;
        } else {
            self.uids.append(records)?;
        }
        Ok(records.iter().map(|record| record.uid).collect())
    }

    pub(crate) fn sync_directories(&self) -> Result<(), StoreError> {
        if !self.store.options().fsync {
            return Ok(());
        }
        for directory in ["new", "cur"].map(|name| self.place.mail.join(name)) {
            sync_directory(&directory).at("fsync", &directory)?;
        }
        Ok(())
    }
}

pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
