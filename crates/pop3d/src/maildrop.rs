//! The maildrop: INBOX as it was at the login, numbered for POP3.

use crate::settings::Settings;
use login::arrival::Passenger;
use mail_types::{Flag, Flags, Uid};
use mailstore::{Access, DotLock, How, Location, Mailbox, Options, Store, StoreError};
use protocol::pop3::{UidlFacts, UidlFormat};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

/// Why a user's mail cannot be served; for the log.
#[derive(Debug, thiserror::Error)]
pub enum MaildropError {
    #[error("mail_location: {0}")]
    Location(String),
    #[error("quota: {0}")]
    Quota(#[from] mailstore::quota::QuotaError),
    #[error("Couldn't open INBOX: {0}")]
    Store(#[from] StoreError),
    #[error("pop3_uidl_format: {0}")]
    Uidl(#[from] protocol::pop3::UnknownVariable),
}

/// A message of the maildrop; its number is its place, from 1.
#[derive(Clone, Debug)]
pub struct Entry {
    pub uid: Uid,
    /// With CRLF line ends.
    pub size: u64,
}

/// INBOX, opened once.
pub struct Maildrop {
    mailbox: Mailbox,
    entries: Vec<Entry>,
    format: UidlFormat,
    rename_duplicates: bool,
    reuse_xuidl: bool,
    deleted_flag: Option<String>,
    fast_sizes: bool,
}

impl Maildrop {
    /// Opens the user's INBOX and numbers its messages: those with a POP3 order of their own first,
    /// then by UID. Messages that DELE has hidden are left out.
    ///
    /// # Errors
    ///
    /// [`MaildropError`]; the client is told to come again.
    pub fn open(settings: &Settings, user: &Passenger) -> Result<Self, MaildropError> {
        let store = Store::new(location(settings, user)?, options(settings, user)?);
        store.ensure_inbox()?;
        let mailbox = store.open("INBOX", Access::Select)?;
        let format = match mailbox.uidl_format() {
            // the mailbox was migrated with UIDLs of this form
            Some(own) => UidlFormat::parse(&String::from_utf8_lossy(own))?,
            None => UidlFormat::parse(&settings.uidl_format)?,
        };
        let mut maildrop = Self {
            mailbox,
            entries: Vec::new(),
            format,
            rename_duplicates: settings.rename_duplicates,
            reuse_xuidl: settings.reuse_xuidl,
            deleted_flag: settings.deleted_flag.clone(),
            fast_sizes: settings.fast_sizes,
        };
        maildrop.number()?;
        Ok(maildrop)
    }

    fn number(&mut self) -> Result<(), StoreError> {
        self.entries.clear();
        let hidden = |message| match &self.deleted_flag {
            Some(flag) => self.mailbox.keyword_names(message).iter().any(|name| name == flag),
            None => false,
        };
        let shown = self.mailbox.messages().iter().filter(|message| !hidden(message));
        let mut order: Vec<(u64, Uid)> = shown
            .map(|message| (self.mailbox.pop3_order(message).unwrap_or(u64::MAX), message.uid))
            .collect();
        order.sort_unstable();
        for (_, uid) in order {
            let size = if self.fast_sizes {
                self.mailbox.physical_size(uid)
            } else {
                self.mailbox.wire_size(uid)
            };
            match size {
                Ok(size) => self.entries.push(Entry { uid, size }),
                Err(StoreError::Expunged(_)) => {} // gone meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// In the order of their numbers.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The message's file.
    ///
    /// # Errors
    ///
    /// [`StoreError::Expunged`], or the system's error.
    pub fn open_message(&mut self, uid: Uid) -> Result<File, StoreError> {
        self.mailbox.open_message(uid)
    }

    /// The UIDL of every message, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// A message that had to be read for its X-UIDL could not be.
    pub fn uidls(&mut self) -> Result<Vec<String>, StoreError> {
        let uids: Vec<Uid> = self.entries.iter().map(|entry| entry.uid).collect();
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut uidls = Vec::with_capacity(uids.len());
        for uid in uids {
            let mut uidl = self.uidl(uid)?;
            let count = seen.entry(uidl.clone()).or_default();
            *count += 1;
            if *count > 1 && self.rename_duplicates {
                uidl = format!("{uidl}-{count}");
            }
            uidls.push(uidl);
        }
        Ok(uidls)
    }

    fn uidl(&mut self, uid: Uid) -> Result<String, StoreError> {
        if self.reuse_xuidl
            && let Some(own) = self.x_uidl(uid)?
        {
            return Ok(own);
        }
        let Some(message) = self.mailbox.message(uid) else {
            // expunged by somebody else: its number lives on, so its UIDL must
            return Ok(self.format.expand(&UidlFacts {
                uid: uid.get(),
                uid_validity: self.mailbox.uid_validity().get(),
                file_name: "",
                guid: "",
            }));
        };
        if let Some(stored) = self.mailbox.stored_uidl(message) {
            return Ok(printable(&stored));
        }
        let guid = self.mailbox.message_guid(message);
        Ok(self.format.expand(&UidlFacts {
            uid: uid.get(),
            uid_validity: self.mailbox.uid_validity().get(),
            file_name: &printable(message.base_name()),
            guid: &printable(&guid),
        }))
    }

    /// The `X-UIDL` field that another server has left in the header.
    fn x_uidl(&mut self, uid: Uid) -> Result<Option<String>, StoreError> {
        let file = match self.mailbox.open_message(uid) {
            Ok(file) => file,
            Err(StoreError::Expunged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = BufReader::new(file.take(HEADER));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = line.trim_ascii_end();
            if text.is_empty() {
                break;
            }
            let name = text.get(..7).unwrap_or_default();
            if name.eq_ignore_ascii_case(b"X-UIDL:") {
                let value = printable(text.get(7..).unwrap_or_default().trim_ascii());
                return Ok(Some(value).filter(|value| !value.is_empty()));
            }
            line.clear();
        }
        Ok(None)
    }

    /// Marks messages as read.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some may be marked.
    pub fn mark_seen(&mut self, uids: &[Uid]) -> Result<(), StoreError> {
        if uids.is_empty() {
            return Ok(());
        }
        let seen = Flags::from_iter([Flag::Seen]);
        self.mailbox.store_flags(uids, How::Add, seen, &[]).map(drop)
    }

    /// Does what DELE was asked for, when the client has said QUIT.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some may be gone.
    pub fn delete(&mut self, uids: &[Uid]) -> Result<(), StoreError> {
        if uids.is_empty() {
            return Ok(());
        }
        match self.deleted_flag.clone() {
            Some(flag) => {
                self.mailbox.store_flags(uids, How::Add, Flags::default(), &[flag]).map(drop)
            }
            None => self.mailbox.remove(uids).map(drop),
        }
    }

    /// Takes `dovecot-pop3-session.lock`, so that one session at a time has the maildrop, and numbers
    /// the messages that the session before has left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], or the system's error.
    pub fn lock_session(&mut self) -> Result<DotLock, StoreError> {
        let lock = self.mailbox.lock_beside("dovecot-pop3-session", LOCK_PATIENCE)?;
        self.mailbox.refresh()?;
        self.number()?;
        Ok(lock)
    }
}

/// How long a second session waits for the first one's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a header that are searched for X-UIDL.
const HEADER: u64 = 256 * 1024;

fn location(settings: &Settings, user: &Passenger) -> Result<Location, MaildropError> {
    let home = Path::new(&user.home);
    let text = match user.field("mail") {
        Some(mail) if !settings.own_location => mail,
        _ => &settings.location,
    };
    let fault = |error: &dyn std::fmt::Display| MaildropError::Location(error.to_string());
    let text = user.expanded(text, "pop3").map_err(|error| fault(&error))?;
    Location::parse(&text, home).map_err(|error| fault(&error))
}

fn options(settings: &Settings, user: &Passenger) -> Result<Options, MaildropError> {
    let quota = settings.quota.as_ref().map(|quota| quota.of(user)).transpose()?;
    let ignore_stated_sizes = settings.ignore_stated_sizes;
    let mut options = Options { ignore_stated_sizes, quota, ..Options::default() };
    if settings.lock_timeout > Duration::ZERO {
        options.lock_timeout = options.lock_timeout.min(settings.lock_timeout);
    }
    Ok(options)
}

/// A UIDL holds 1 to 70 characters from `!` to `~` (RFC 1939 section 7); what is no such character
/// becomes one. Longer ones are what the host has always given.
fn printable(text: &[u8]) -> String {
    text.iter()
        .map(|&byte| if (b'!'..=b'~').contains(&byte) { char::from(byte) } else { '_' })
        .collect()
}
