//! An opened mailbox: its messages as they were at the last look.
//!
//! What it remembers is only a picture. Every change starts by looking at the disk again, under
//! the UID list's lock, because Dovecot and other processes of ours work on the same files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mail_types::{Flags, Uid, UidValidity};

use crate::control_files::open_regular;
use crate::dotlock::DotLock;
use crate::error::{At, StoreError};
use crate::file_name::{self, KeywordBits};
use crate::keywords::Keywords;
use crate::name::Place;
use crate::permissions::{Inherited, entry};
use crate::scan::Stamps;
use crate::store::Store;
use crate::uidlist_file::UidListFile;

/// What a session does to a mailbox by opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// SELECT, POP3: mail moves from `new` to `cur` and stops being recent.
    Select,
    /// EXAMINE, STATUS, delivery: `new` stays as it is.
    Peek,
}

/// The directory that a message's file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Directory {
    New,
    Cur,
}

impl Directory {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cur => "cur",
        }
    }
}

/// One message, as its file name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub uid: Uid,
    pub flags: Flags,
    /// Letters; [`Mailbox::keyword_names`] gives their names.
    pub keywords: KeywordBits,
    /// This session was the first to see it.
    pub recent: bool,
    pub(crate) directory: Directory,
    pub(crate) file_name: Box<[u8]>,
}

impl Message {
    /// The part of the file name that never changes.
    #[must_use]
    pub fn base_name(&self) -> &[u8] {
        file_name::base(&self.file_name)
    }
}

/// What other processes have done since the last look, and this session's new mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub new: Vec<Uid>,
    pub expunged: Vec<Uid>,
    /// Flags or keywords differ.
    pub flags: Vec<Uid>,
    /// Every UID has lost its meaning: the session must end or select anew.
    pub uid_validity: bool,
}

impl Changes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn merge(&mut self, later: Self) {
        self.new.extend(later.new);
        self.expunged.extend(later.expunged);
        self.flags.extend(later.flags.into_iter().filter(|uid| !self.new.contains(uid)));
        self.flags.sort_unstable();
        self.flags.dedup();
        self.uid_validity |= later.uid_validity;
    }
}

/// An opened mailbox.
#[derive(Debug)]
pub struct Mailbox {
    pub(crate) store: Store,
    name: String,
    pub(crate) place: Place,
    pub(crate) access: Access,
    pub(crate) inherited: Inherited,
    pub(crate) uids: UidListFile,
    pub(crate) keywords: Keywords,
    pub(crate) messages: Vec<Message>,
    pub(crate) stamps: Option<Stamps>,
    /// Files that this session has reported as expunged: should one come back, it is a new message.
    pub(crate) lost: HashMap<Box<[u8]>, Uid>,
    /// A look has succeeded.
    pub(crate) opened: bool,
    pub(crate) uid_validity: Option<UidValidity>,
    pub(crate) pending: Changes,
    wire_sizes: HashMap<Uid, u64>,
}

impl Mailbox {
    pub(crate) fn open(store: Store, name: &str, access: Access) -> Result<Self, StoreError> {
        let mut mailbox = Self::unread(store, name, access)?;
        mailbox.refresh()?;
        Ok(mailbox)
    }

    /// A mailbox of which nothing is known yet.
    pub(crate) fn unread(store: Store, name: &str, access: Access) -> Result<Self, StoreError> {
        let place = store.place(name)?;
        let inherited = Inherited::from(&place.mail);
        if !crate::store::is_directory(&place.mail.join("cur"))?
            || !crate::store::is_directory(&place.mail.join("new"))?
            || !crate::store::is_directory(&place.control)?
        {
            store.complete(&place, inherited)?;
        }
        Ok(Self {
            uids: UidListFile::new(&place.control),
            keywords: Keywords::new(&place.control),
            store,
            name: name.to_owned(),
            place,
            access,
            inherited,
            messages: Vec::new(),
            stamps: None,
            lost: HashMap::new(),
            opened: false,
            uid_validity: None,
            pending: Changes::default(),
            wire_sizes: HashMap::new(),
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ascending by UID.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    #[must_use]
    pub fn message(&self, uid: Uid) -> Option<&Message> {
        let index = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.messages.get(index)
    }

    pub(crate) fn message_mut(&mut self, uid: Uid) -> Option<&mut Message> {
        let index = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.messages.get_mut(index)
    }

    /// Known after the first successful look; a mailbox whose list could not be written (a full
    /// disk) shows no messages and the value 1.
    #[must_use]
    pub fn uid_validity(&self) -> UidValidity {
        self.uid_validity.or(UidValidity::new(1)).unwrap_or_else(|| unreachable!())
    }

    #[must_use]
    pub fn next_uid(&self) -> u32 {
        self.uids.list.next_uid().max(1)
    }

    /// The mailbox GUID, 32 hexadecimal digits.
    #[must_use]
    pub fn guid(&self) -> Option<&str> {
        self.uids.list.header.guid.as_deref()
    }

    /// Every keyword that this mailbox has a letter for.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.keywords.known()
    }

    #[must_use]
    pub fn keyword_names(&self, message: &Message) -> Vec<String> {
        self.keywords.names_of(message.keywords)
    }

    /// A POP3 UIDL that was stored for this message (`P`): the text, or the base name where the
    /// record says so.
    #[must_use]
    pub fn stored_uidl(&self, message: &Message) -> Option<Vec<u8>> {
        let value = self.uids.list.record(message.uid)?.extension(b'P')?;
        Some(if value.is_empty() { message.base_name().to_vec() } else { value.to_vec() })
    }

    /// The UIDL format that the mailbox insists on against the setting.
    #[must_use]
    pub fn uidl_format(&self) -> Option<&[u8]> {
        self.uids.list.header.pop3_uidl_format()
    }

    /// The place in POP3's order (`O`): such messages come first, ascending.
    #[must_use]
    pub fn pop3_order(&self, message: &Message) -> Option<u64> {
        file_name::number(self.uids.list.record(message.uid)?.extension(b'O')?)
    }

    /// The message's GUID: its base name, unless the list says otherwise.
    #[must_use]
    pub fn message_guid(&self, message: &Message) -> Vec<u8> {
        let record = self.uids.list.record(message.uid);
        record.and_then(|record| record.extension(b'G')).unwrap_or(message.base_name()).to_vec()
    }

    pub(crate) fn path(&self, message: &Message) -> PathBuf {
        entry(&self.place.mail.join(message.directory.name()), &message.file_name)
    }

    /// Opens a message's file, wherever another process may have renamed it to.
    ///
    /// # Errors
    ///
    /// [`StoreError::Expunged`], or the system's error.
    pub fn open_message(&mut self, uid: Uid) -> Result<File, StoreError> {
        self.with_file(uid, |path| open_regular(path).at("open", path))
    }

    /// INTERNALDATE: the file's modification time.
    ///
    /// # Errors
    ///
    /// As [`Self::open_message`].
    pub fn internal_date(&mut self, uid: Uid) -> Result<SystemTime, StoreError> {
        self.with_file(uid, |path| {
            fs::metadata(path).and_then(|metadata| metadata.modified()).at("stat", path)
        })
    }

    /// When the message came into this mailbox: the file's change time, as in Dovecot.
    ///
    /// # Errors
    ///
    /// As [`Self::open_message`].
    pub fn save_date(&mut self, uid: Uid) -> Result<SystemTime, StoreError> {
        use std::os::unix::fs::MetadataExt;
        self.with_file(uid, |path| {
            let seconds = fs::metadata(path).at("stat", path)?.ctime();
            let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            Ok(SystemTime::UNIX_EPOCH + since)
        })
    }

    /// The size with every line end as CRLF (RFC822.SIZE): from the name, else by reading once.
    ///
    /// # Errors
    ///
    /// As [`Self::open_message`].
    pub fn wire_size(&mut self, uid: Uid) -> Result<u64, StoreError> {
        if let Some(size) = self.stated(uid, b'W').or_else(|| self.wire_sizes.get(&uid).copied()) {
            return Ok(size);
        }
        let file = self.open_message(uid)?;
        let path = self.message(uid).map(|message| self.path(message)).unwrap_or_default();
        let size = message::content::wire_size(file).at("read", &path)?;
        self.wire_sizes.insert(uid, size);
        Ok(size)
    }

    /// The size of the file: from the name, else from the file system.
    ///
    /// # Errors
    ///
    /// As [`Self::open_message`].
    pub fn physical_size(&mut self, uid: Uid) -> Result<u64, StoreError> {
        match self.stated(uid, b'S') {
            Some(size) => Ok(size),
            None => self.with_file(uid, |path| {
                fs::metadata(path).map(|metadata| metadata.len()).at("stat", path)
            }),
        }
    }

    fn stated(&self, uid: Uid, key: u8) -> Option<u64> {
        let message = self.message(uid)?;
        let stated = file_name::stated_size(message.base_name(), key);
        let stated = stated.filter(|_| !self.store.options().ignore_stated_sizes);
        stated.or_else(|| file_name::number(self.uids.list.record(uid)?.extension(key)?))
    }

    /// Runs `act` on the message's path, looking where the file went when it is not there.
    pub(crate) fn with_file<T>(
        &mut self,
        uid: Uid,
        act: impl Fn(&std::path::Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..4 {
            let known = self.message(uid).filter(|_| self.is_the_same().is_ok());
            let Some(message) = known else { break };
            match act(&self.path(message)) {
                Err(error) if error.is_missing() => self.look_without_lock()?,
                result => return result,
            }
        }
        Err(StoreError::Expunged(uid))
    }

    /// Takes `NAME.lock` beside the mailbox's control files, for a caller's own purpose.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another process holds it for longer than `patience`, or the
    /// system's error.
    pub fn lock_beside(&self, name: &str, patience: Duration) -> Result<DotLock, StoreError> {
        let path = self.place.control.join(name);
        DotLock::acquire(&path, &self.store.options().hostname, self.inherited, patience)
    }

    pub(crate) fn lock(&self) -> Result<DotLock, StoreError> {
        self.lock_within(self.store.options().lock_timeout)
    }

    pub(crate) fn lock_within(&self, patience: Duration) -> Result<DotLock, StoreError> {
        self.uids.lock(&self.store.options().hostname, self.inherited, patience)
    }
}
