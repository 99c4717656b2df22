//! Why a message is still in the queue, and what becomes of it.

use std::path::Path;
use std::time::SystemTime;

use config::files::Disk;
use config::postfix::{self, Host};
use config::{Files as _, Problems};
use mail_types::QueueId;
use queue::{ListingOptions, Queue, QueueDirectory};
use serde::Serialize;

use super::sources::micros;
use super::timeline::since;

/// One message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub queue_id: String,
    pub queue: &'static str,
    /// Seconds since the epoch.
    pub arrived: i64,
    /// When it is tried next, where that is known: the first look through the queue after it counts.
    pub next: Option<i64>,
    /// When it is given back.
    pub until: i64,
    /// How often the queue is looked through, in seconds.
    pub every: u64,
    /// Recipients that still wait, and why.
    pub recipients: Vec<Recipient>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipient {
    pub address: String,
    pub reason: String,
}

/// More recipients of a message are not shown.
const MOST_RECIPIENTS: usize = 100;

/// Looks for these messages in the queue of the host.
pub fn find<'i>(directory: &Path, ids: impl Iterator<Item = &'i str>) -> Vec<Waiting> {
    if !Disk.is_file(&directory.join("main.cf")) {
        return Vec::new();
    }
    let mut quiet = Problems::default();
    let host = Host::read(&Disk, directory, &mut quiet);
    let main = host.main();
    let hashed = main.get(postfix::HASH_QUEUE_NAMES, &mut quiet);
    let depth: i64 = main.get(postfix::HASH_QUEUE_DEPTH, &mut quiet);
    let queue = QueueDirectory {
        root: main.get(postfix::QUEUE_DIRECTORY, &mut quiet).into(),
        hashed: hashed.into_iter().map(|word| word.text).collect(),
        depth: usize::try_from(depth).unwrap_or(1),
        long_ids: main.get(postfix::ENABLE_LONG_QUEUE_IDS, &mut quiet),
    };
    let life = main.get(postfix::MAXIMAL_QUEUE_LIFETIME, &mut quiet).as_secs();
    let every = main.get(postfix::QUEUE_RUN_DELAY, &mut quiet).as_secs();
    ids.filter_map(|id| one(&queue, id, life, every)).collect()
}

fn one(directory: &QueueDirectory, id: &str, life: u64, every: u64) -> Option<Waiting> {
    let queue_id: QueueId = id.parse().ok()?;
    Queue::LISTED.into_iter().find_map(|queue| {
        let entry = directory.entry(queue, &queue_id, &ListingOptions::default())?;
        let (_, modified) = directory.state(queue, &queue_id).ok()?;
        let recipients = entry.recipients.into_iter().take(MOST_RECIPIENTS);
        Some(Waiting {
            queue_id: id.to_owned(),
            queue: queue.name(),
            arrived: entry.time,
            // qmgr(8) writes the time of the next attempt into the file's time stamp.
            next: (queue == Queue::Deferred).then(|| micros(modified) / 1_000_000),
            until: entry.time.saturating_add_unsigned(life),
            every,
            recipients: recipients
                .map(|one| Recipient { address: one.address, reason: one.reason })
                .collect(),
        })
    })
}

impl Waiting {
    /// A few lines for people.
    pub fn text(&self, now: SystemTime) -> String {
        use crate::command::shown::escaped;
        let now = micros(now) / 1_000_000;
        let shown = |at: i64| {
            let stamp = message::log_date::show(at.saturating_mul(1_000_000));
            stamp.split('.').next().unwrap_or_default().to_owned()
        };
        let passed = |seconds: i64| since(seconds.saturating_mul(1_000_000));
        let what = match self.queue {
            "hold" => "is on hold: postsuper -H releases it",
            "active" => "is being delivered now",
            "deferred" => "is deferred",
            "maildrop" => "waits for pickup",
            _ => "waits for the queue manager",
        };
        let id = &self.queue_id;
        let mut text = format!(
            "{id} {what}, {} after it came at {}\n",
            passed(now - self.arrived),
            shown(self.arrived)
        );
        for recipient in &self.recipients {
            let reason = match recipient.reason.as_str() {
                "" => "no reason known yet",
                reason => reason,
            };
            text.push_str(&format!("  {}: {}\n", escaped(&recipient.address), escaped(reason)));
        }
        if let Some(next) = self.next {
            let when = match next - now {
                left @ 1.. => format!("at {} (in {})", shown(next), passed(left)),
                _ => "as soon as the queue is looked through".to_owned(),
            };
            text.push_str(&format!(
                "  tried next {when}; the queue is looked through every {}\n",
                passed(self.every.cast_signed())
            ));
            text.push_str(&format!("  given back to its sender after {}\n", shown(self.until)));
        }
        text
    }
}
