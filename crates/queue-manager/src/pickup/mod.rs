//! The pickup service: what sendmail and postdrop left in `maildrop` goes to cleanup.

mod copy;

use std::path::PathBuf;
use std::time::Duration;

use config::Problems;
use config::postfix;
use daemon::{Role, Worker, WorkerError};
use mail_types::QueueId;
use protocol::postfix::cleanup::CleanupFlags;
use queue::{Queue, QueueDirectory};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use crate::ipc::IpcError;
use crate::plan::{Asked, Served, Takeover};
use copy::{CopyError, copy};

pub const TAKEOVER: Takeover =
    Takeover { command: "pickup", role: "pickup", settings: read, shape, work };

/// When master.cf does not say how often.
const WAKEUP: Duration = Duration::from_secs(60);
/// A file that was never completed may be this old.
const STALE: Duration = Duration::from_secs(7 * 86_400);
/// A trigger is a few octets; a peer that sends none is forgotten.
const TRIGGER_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Settings {
    flags: u32,
    myhostname: String,
    mail_name: String,
    line_length: usize,
    /// `cleanup_service_name`.
    cleanup: String,
    ipc_timeout: Duration,
}

/// All that a run through the maildrop needs.
pub(crate) struct Pickup {
    settings: Settings,
    queue: QueueDirectory,
    cleanup: PathBuf,
    ident: String,
}

fn read(asked: &Asked<'_>, problems: &mut Problems) -> serde_json::Value {
    let view = &asked.view;
    let mut flags = CleanupFlags::PICKUP;
    for word in view.get(postfix::RECEIVE_OVERRIDE_OPTIONS, problems) {
        flags = match word.text.to_ascii_lowercase().as_str() {
            "no_address_mappings" => {
                flags.without(CleanupFlags::BCC_OK).without(CleanupFlags::MAP_OK)
            }
            "no_header_body_checks" => flags.without(CleanupFlags::FILTER),
            "no_milters" => flags.without(CleanupFlags::MILTER),
            _ => flags, // no_unknown_recipient_checks: nothing of ours
        };
    }
    let line_length = view.get(postfix::LINE_LENGTH_LIMIT, problems);
    let settings = Settings {
        flags: flags.0,
        myhostname: view.get(postfix::MYHOSTNAME, problems),
        mail_name: view.get(postfix::MAIL_NAME, problems),
        line_length: usize::try_from(line_length).unwrap_or(2048),
        cleanup: view.get(postfix::CLEANUP_SERVICE_NAME, problems),
        ipc_timeout: view.get(postfix::IPC_TIMEOUT, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

/// Two at once would take the same files.
fn shape(role: &mut Role) {
    role.alone = true;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for service in served {
            let settings: Settings = service.settings()?;
            let every = service.wakeup.map_or(WAKEUP, Duration::from_secs);
            let pickup = Pickup {
                queue: service.shared.queue.clone(),
                cleanup: service.shared.socket(&format!("public/{}", settings.cleanup)),
                ident: service.shared.ident("pickup"),
                settings,
            };
            let listener = worker.listener(&service.listener)?;
            let worker = worker.clone();
            serving.spawn(async move {
                let woken = std::sync::Arc::new(Notify::new());
                let triggers = {
                    let woken = std::sync::Arc::clone(&woken);
                    worker.serve(listener, move |connection| {
                        triggered(connection.stream, std::sync::Arc::clone(&woken))
                    })
                };
                tokio::select! {
                    () = triggers => {}
                    () = scans(&worker, &pickup, &woken, every) => {}
                }
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

async fn triggered(mut stream: daemon::Stream, woken: std::sync::Arc<Notify>) {
    let mut bytes = [0; 16];
    let read = tokio::time::timeout(TRIGGER_PATIENCE, stream.read(&mut bytes)).await;
    if matches!(read, Ok(Ok(count)) if count > 0) {
        woken.notify_one();
    }
}

async fn scans(worker: &Worker, pickup: &Pickup, woken: &Notify, every: Duration) {
    worker.alone().await;
    pickup.purge().await;
    loop {
        let _busy = worker.busy();
        pickup.scan(worker).await;
        drop(_busy);
        let _ = tokio::time::timeout(every, woken.notified()).await;
    }
}

impl Pickup {
    /// What a crash left half written a week ago goes away, as at every start of Postfix.
    async fn purge(&self) {
        let directory = self.queue.clone();
        let purge = tokio::task::spawn_blocking(move || {
            let now = std::time::SystemTime::now();
            [Queue::Maildrop, Queue::Incoming]
                .into_iter()
                .filter_map(|queue| directory.purge_incomplete(queue, now, STALE).ok())
                .flatten()
                .collect::<Vec<_>>()
        });
        for path in purge.await.unwrap_or_default() {
            self.warn(&format!("removed incomplete file: {}", path.display()));
        }
    }

    /// One pass through the maildrop, until nothing new is found.
    async fn scan(&self, worker: &Worker) {
        loop {
            let directory = self.queue.clone();
            let ids = tokio::task::spawn_blocking(move || {
                directory.scan(Queue::Maildrop).map(Iterator::collect::<Vec<_>>)
            });
            let ids = match ids.await {
                Ok(Ok(ids)) => ids,
                Ok(Err(error)) => return self.warn(&format!("scan maildrop: {error}")),
                Err(_) => return,
            };
            let mut taken = 0;
            for id in ids {
                if worker.is_finishing() {
                    return;
                }
                match self.one(&id).await {
                    Step::Taken => taken += 1,
                    Step::Left => {}
                    Step::Stop => return,
                }
            }
            if taken == 0 {
                return;
            }
        }
    }

    async fn one(&self, id: &QueueId) -> Step {
        match self.queue.state(Queue::Maildrop, id) {
            Ok((state, _)) if state.is_ready() => {}
            _ => return Step::Left,
        }
        match copy(self, id).await {
            Ok(()) => {
                if let Err(error) = self.queue.remove(Queue::Maildrop, id) {
                    self.warn(&format!("remove maildrop/{id}: {error}"));
                    return Step::Stop; // or it would be sent again and again
                }
                Step::Taken
            }
            Err(CopyError::Damaged(why)) => {
                self.warn(&format!("maildrop/{id}: {why}"));
                match self.queue.set_aside(id, Queue::Maildrop) {
                    Ok(()) => self.warn(&format!(
                        "saving corrupt file \"{id}\" from queue \"maildrop\" to queue \"corrupt\""
                    )),
                    Err(error) => self.warn(&format!("cannot move maildrop/{id}: {error}")),
                }
                Step::Left
            }
            Err(CopyError::Refused(why)) => {
                self.warn(&format!("maildrop/{id}: {why}"));
                Step::Left
            }
            Err(CopyError::Gone) => Step::Left,
            Err(CopyError::Cleanup(IpcError::Io(error))) => {
                let path = "public/cleanup";
                self.warn(&format!("connect to subsystem {path}: {error}"));
                Step::Stop
            }
            Err(CopyError::Cleanup(error)) => {
                self.warn(&format!("maildrop/{id}: cleanup service: {error}"));
                Step::Stop
            }
        }
    }

    fn warn(&self, text: &str) {
        tracing::warn!(target: "mail", ident = self.ident, "warning: {text}");
    }
}

enum Step {
    Taken,
    /// For the next scan, or for nobody.
    Left,
    /// cleanup is not there: no use to go on.
    Stop,
}
