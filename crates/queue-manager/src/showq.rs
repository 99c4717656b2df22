//! The showq service: what lies in the queue, for mailq and postqueue.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use config::postfix;
use daemon::{Connection, Role, Worker, WorkerError};
use mail_types::QueueId;
use protocol::postfix::showq::{QueueEntry, QueueRecipient, end_of_queue};
use protocol::postfix::{Dialect, greeting, protocols};
use queue::{
    FileState, Lock, LogKind, Queue, QueueDirectory, QueueFile, ReadError, RecipientState,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::ipc::Peer;
use crate::plan::{Asked, Served, Takeover};

pub const TAKEOVER: Takeover =
    Takeover { command: "showq", role: "showq", settings: read, shape, work };

/// Entries that wait for a slow reader.
const AHEAD: usize = 16;
/// A message with more recipients is shown with as many.
const MOST_RECIPIENTS: usize = 100_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// `empty_address_recipient`: what stands for the null sender.
    pub empty_address: String,
    /// `duplicate_filter_limit`.
    pub duplicates: usize,
    pub timeout: Duration,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let limit = view.get(postfix::DUPLICATE_FILTER_LIMIT, problems);
    let settings = Settings {
        empty_address: view.get(postfix::EMPTY_ADDRESS_RECIPIENT, problems),
        duplicates: usize::try_from(limit).unwrap_or(usize::MAX),
        timeout: view.get(postfix::IPC_TIMEOUT, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

fn shape(role: &mut Role) {
    role.connections = 50;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for service in served {
            let settings: Settings = service.settings()?;
            let listener = worker.listener(&service.listener)?;
            let (directory, dialect) = (service.shared.queue.clone(), service.shared.dialect());
            let worker = worker.clone();
            serving.spawn(async move {
                worker
                    .serve(listener, move |connection| {
                        tell(connection, directory.clone(), settings.clone(), dialect)
                    })
                    .await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

async fn tell(
    connection: Connection,
    directory: QueueDirectory,
    settings: Settings,
    dialect: Dialect,
) {
    let mut peer = Peer::new(connection.stream, settings.timeout);
    if peer.send(&greeting(dialect, protocols::SHOWQ)).await.is_err() {
        return;
    }
    let (sender, mut entries) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || list(&directory, &settings, &sender));
    while let Some(entry) = entries.recv().await {
        if peer.send(&entry.encode(dialect)).await.is_err() {
            return; // the reader went away; the channel's end stops the listing
        }
    }
    if reading.await.is_ok() {
        let _ = peer.send(&end_of_queue()).await;
    }
}

/// Sends every message of every queue; ends early when nobody listens any more.
fn list(directory: &QueueDirectory, settings: &Settings, to: &mpsc::Sender<QueueEntry>) {
    for queue in Queue::LISTED {
        let Ok(scan) = directory.scan(queue) else { continue };
        for id in scan {
            if let Some(entry) = entry(directory, queue, &id, settings)
                && to.blocking_send(entry).is_err()
            {
                return;
            }
        }
    }
}

/// One message; nothing if it has gone meanwhile, is not complete, or is damaged.
#[must_use]
pub fn entry(
    directory: &QueueDirectory,
    queue: Queue,
    id: &QueueId,
    settings: &Settings,
) -> Option<QueueEntry> {
    let (state, modified) = directory.state(queue, id).ok()?;
    let FileState::Ready { force_expire, .. } = state else { return None };
    let mut entry = QueueEntry {
        queue_name: queue.name().to_owned(),
        queue_id: id.to_string(),
        forced_expire: force_expire,
        ..QueueEntry::default()
    };
    let mut seen = HashSet::new();
    for logged in directory.read_log(LogKind::Defer, id).unwrap_or_default() {
        let address = or_empty(&logged.recipient.address, settings);
        if seen.len() < settings.duplicates {
            seen.insert(address.to_lowercase());
        }
        let original = or_empty(&logged.recipient.original, settings);
        let log_class = String::from("defer");
        let reason = logged.dsn.reason;
        entry.recipients.push(QueueRecipient { original, address, log_class, reason });
    }
    match rest(directory, queue, id, settings, &mut entry, &seen) {
        Ok(()) => {
            if entry.time == 0 {
                let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                entry.time = i64::try_from(since.as_secs()).unwrap_or(0);
            }
            Some(entry)
        }
        Err(ReadError::Io(_)) => None,
        Err(ReadError::Damage(damage)) => {
            tracing::warn!(target: "mail", queue_id = %id, "warning: {}/{id}: {damage}", queue.name());
            None
        }
    }
}

fn rest(
    directory: &QueueDirectory,
    queue: Queue,
    id: &QueueId,
    settings: &Settings,
    entry: &mut QueueEntry,
    seen: &HashSet<String>,
) -> Result<(), ReadError> {
    let file = QueueFile::open(directory, queue, id, Lock::None)?;
    let mut reader = file.envelope()?;
    while let Some(found) = reader.next_recipient()? {
        let address = or_empty(&found.recipient.address, settings);
        if found.state == RecipientState::Todo
            && !seen.contains(&address.to_lowercase())
            && entry.recipients.len() < MOST_RECIPIENTS
        {
            let original = or_empty(&found.recipient.original, settings);
            entry.recipients.push(QueueRecipient { original, address, ..Default::default() });
        }
    }
    let envelope = reader.into_envelope();
    entry.time = envelope.arrival.map_or(0, |time| time.seconds);
    entry.sender = or_empty(&envelope.sender.unwrap_or_default(), settings);
    entry.size = match envelope.size {
        Some(size) => size.content_length,
        None => i64::try_from(file.file().metadata()?.len()).unwrap_or(0),
    };
    Ok(())
}

fn or_empty(address: &str, settings: &Settings) -> String {
    if address.is_empty() { settings.empty_address.clone() } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    const PLAIN: &[u8] = include_bytes!("../../queue/tests/fixtures/two-recipients-one-done");

    #[test]
    fn a_deferred_message_shows_its_reasons_first() {
        let root = tempfile::tempdir().unwrap();
        let directory = QueueDirectory::new(root.path());
        let id = QueueId::parse("958619A4924").unwrap();
        let path = directory.path(Queue::Deferred, &id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, PLAIN).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o710)).unwrap();
        let settings = Settings {
            empty_address: "MAILER-DAEMON".into(),
            duplicates: 1000,
            timeout: Duration::from_secs(5),
        };
        let listed = entry(&directory, Queue::Deferred, &id, &settings).unwrap();
        assert!(listed.forced_expire);
        assert_eq!((listed.size, listed.time), (296, 1_795_297_019));
        let told = QueueRecipient {
            original: "tmp@sink.test".into(),
            address: "tmp@sink.test".into(),
            ..QueueRecipient::default()
        };
        assert_eq!(listed.recipients, [told]);
        fs::write(&path, &PLAIN[..500]).unwrap();
        assert_eq!(entry(&directory, Queue::Deferred, &id, &settings), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(entry(&directory, Queue::Deferred, &id, &settings), None);
    }
}
