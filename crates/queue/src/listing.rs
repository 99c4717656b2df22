//! What showq tells of a queue, for the service and for `mailq` when the service is down.

use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use mail_types::QueueId;
use protocol::postfix::showq::{QueueEntry, QueueRecipient};
use serde::{Deserialize, Serialize};

use crate::{
    FileState, Lock, LogKind, Queue, QueueDirectory, QueueFile, ReadError, RecipientState,
};

/// A message with more recipients is shown with as many.
const MOST_RECIPIENTS: usize = 100_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListingOptions {
    /// `empty_address_recipient`: what stands for the null sender.
    pub empty_address: String,
    /// `duplicate_filter_limit`.
    pub duplicates: usize,
}

impl Default for ListingOptions {
    fn default() -> Self {
        Self { empty_address: String::from("MAILER-DAEMON"), duplicates: 1000 }
    }
}

impl QueueDirectory {
    /// Gives every complete message of every queue to `tell`, until that says that it wants no more.
    pub fn list(&self, options: &ListingOptions, mut tell: impl FnMut(QueueEntry) -> bool) {
        for queue in Queue::LISTED {
            let Ok(scan) = self.scan(queue) else { continue };
            for id in scan {
                if let Some(entry) = self.entry(queue, &id, options)
                    && !tell(entry)
                {
                    return;
                }
            }
        }
    }

    /// One message; nothing if it has gone meanwhile, is not complete, or is damaged.
    #[must_use]
    pub fn entry(
        &self,
        queue: Queue,
        id: &QueueId,
        options: &ListingOptions,
    ) -> Option<QueueEntry> {
        let (state, modified) = self.state(queue, id).ok()?;
        let FileState::Ready { force_expire, .. } = state else { return None };
        let mut entry = QueueEntry {
            queue_name: queue.name().to_owned(),
            queue_id: id.to_string(),
            forced_expire: force_expire,
            ..QueueEntry::default()
        };
        let mut seen = HashSet::new();
        for logged in self.read_log(LogKind::Defer, id).unwrap_or_default() {
            let address = options.shown(&logged.recipient.address);
            if seen.len() < options.duplicates {
                seen.insert(address.to_lowercase());
            }
            let original = options.shown(&logged.recipient.original);
            let log_class = String::from("defer");
            let reason = logged.dsn.reason;
            entry.recipients.push(QueueRecipient { original, address, log_class, reason });
        }
        self.remaining(queue, id, options, &mut entry, &seen).ok()?;
        if entry.time == 0 {
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            entry.time = i64::try_from(since.as_secs()).unwrap_or(0);
        }
        Some(entry)
    }

    /// The recipients that no log speaks of, and the facts of the message.
    fn remaining(
        &self,
        queue: Queue,
        id: &QueueId,
        options: &ListingOptions,
        entry: &mut QueueEntry,
        seen: &HashSet<String>,
    ) -> Result<(), ReadError> {
        let file = QueueFile::open(self, queue, id, Lock::None)?;
        let mut reader = file.envelope()?;
        while let Some(found) = reader.next_recipient()? {
            let address = options.shown(&found.recipient.address);
            if found.state == RecipientState::Todo
                && !seen.contains(&address.to_lowercase())
                && entry.recipients.len() < MOST_RECIPIENTS
            {
                let original = options.shown(&found.recipient.original);
                entry.recipients.push(QueueRecipient { original, address, ..Default::default() });
            }
        }
        let envelope = reader.into_envelope();
        entry.time = envelope.arrival.map_or(0, |time| time.seconds);
        entry.sender = options.shown(&envelope.sender.unwrap_or_default());
        entry.size = match envelope.size {
            Some(size) => size.content_length,
            None => i64::try_from(file.file().metadata()?.len()).unwrap_or(0),
        };
        Ok(())
    }
}

impl ListingOptions {
    fn shown(&self, address: &str) -> String {
        if address.is_empty() { self.empty_address.clone() } else { address.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    const PLAIN: &[u8] = include_bytes!("../tests/fixtures/two-recipients-one-done");

    #[test]
    fn a_message_is_listed_with_what_is_left_to_do() {
        let root = tempfile::tempdir().unwrap();
        let directory = QueueDirectory::new(root.path());
        let id = QueueId::parse("958619A4924").unwrap();
        let path = directory.path(Queue::Deferred, &id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, PLAIN).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o710)).unwrap();
        let options = ListingOptions::default();
        let mut listed = Vec::new();
        directory.list(&options, |entry| {
            listed.push(entry);
            true
        });
        assert!(listed[0].forced_expire);
        assert_eq!((listed[0].size, listed[0].time), (296, 1_795_297_019));
        let told = QueueRecipient {
            original: "tmp@sink.test".into(),
            address: "tmp@sink.test".into(),
            ..QueueRecipient::default()
        };
        assert_eq!(listed[0].recipients, [told]);
        fs::write(&path, &PLAIN[..500]).unwrap();
        assert_eq!(directory.entry(Queue::Deferred, &id, &options), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(directory.entry(Queue::Deferred, &id, &options), None);
    }
}
