//! Into a mailbox as Dovecot's lmtp does it: the detail's mailbox if it can be opened, else INBOX.

use std::path::Path;

use mailstore::{Attributes, Location, LocationError, Options, Store, StoreError, Written};

use crate::delivery::Message;
use crate::task::{DovecotTarget, Failure, Outcome};

pub fn deliver(target: &DovecotTarget, message: &Message<'_>) -> Outcome {
    let store = match open(target) {
        Ok(store) => store,
        Err(text) => return Outcome::Failed(Failure::new("4.2.0", text)),
    };
    let mut instead_of = None;
    if let Some(mailbox) = &target.mailbox {
        match prepare(&store, mailbox, target) {
            Ok(()) => match into(&store, mailbox, message) {
                Err(error @ (StoreError::NoMailbox(_) | StoreError::Name(_))) => {
                    instead_of = Some(format!("failed to open mailbox {mailbox}: {error}"));
                }
                done => return outcome(mailbox, done, None),
            },
            Err(error) => instead_of = Some(format!("failed to open mailbox {mailbox}: {error}")),
        }
    }
    let done = into(&store, "INBOX", message);
    outcome("INBOX", done, instead_of)
}

fn open(target: &DovecotTarget) -> Result<Store, String> {
    let location =
        Location::parse(&target.location, &target.home).or_else(|error| match error {
            // Nothing there yet: `~/Maildir` is made, as an empty mail_location would find it next time.
            LocationError::NotFound(root) => Ok(Location::maildir(root)),
            error => Err(error.to_string()),
        })?;
    let quota = target.quota.as_ref().map(crate::task::QuotaSettings::quota).transpose();
    let options = Options {
        separator: target.separator.unwrap_or(location.default_separator()),
        hostname: target.hostname.clone(),
        fsync: target.fsync,
        quota: quota.map_err(|error| error.to_string())?,
        ..Options::default()
    };
    Ok(Store::new(location, options))
}

/// Makes the mailbox if that is wished.
fn prepare(store: &Store, mailbox: &str, target: &DovecotTarget) -> Result<(), StoreError> {
    if store.exists(mailbox)? {
        return Ok(());
    }
    if !target.autocreate {
        return Err(StoreError::NoMailbox(mailbox.to_owned()));
    }
    match store.create(mailbox) {
        Err(StoreError::Exists) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    if target.autosubscribe { store.set_subscribed(mailbox, true) } else { Ok(()) }
}

fn into(store: &Store, mailbox: &str, message: &Message<'_>) -> Result<(), StoreError> {
    let written = write(store, mailbox, message)?;
    store.deliver(mailbox, written, &Attributes::default()).map(|_| ())
}

fn write(store: &Store, mailbox: &str, message: &Message<'_>) -> Result<Written, StoreError> {
    let mut incoming = store.begin(mailbox)?;
    message.for_each(|piece| incoming.write(piece).map_err(Stopped::Store)).map_err(|stopped| {
        match stopped {
            Stopped::Store(error) => error,
            Stopped::Source(source) => {
                StoreError::Io { action: "read", path: Path::new("message").into(), source }
            }
        }
    })?;
    incoming.finish()
}

/// Either end of a copy.
enum Stopped {
    Store(StoreError),
    Source(std::io::Error),
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::Source(error)
    }
}

fn outcome(mailbox: &str, done: Result<(), StoreError>, instead_of: Option<String>) -> Outcome {
    match done {
        Ok(()) => Outcome::Saved { mailbox: mailbox.to_owned(), instead_of },
        Err(StoreError::OverQuota) => Outcome::OverQuota,
        Err(error) => Outcome::Failed(Failure::new("4.2.0", error.to_string())),
    }
}
