//! The showq service: what lies in the queue, for mailq and postqueue.

use std::time::Duration;

use config::postfix;
use daemon::{Connection, Role, Worker, WorkerError};
use protocol::postfix::showq::end_of_queue;
use protocol::postfix::{Dialect, greeting, protocols};
use queue::{ListingOptions, QueueDirectory};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::ipc::Peer;
use crate::plan::{Asked, Served, Takeover};

pub const TAKEOVER: Takeover =
    Takeover { command: "showq", role: "showq", settings: read, shape, work };

/// Entries that wait for a slow reader.
const AHEAD: usize = 16;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Settings {
    options: ListingOptions,
    timeout: Duration,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let limit = view.get(postfix::DUPLICATE_FILTER_LIMIT, problems);
    let settings = Settings {
        options: ListingOptions {
            empty_address: view.get(postfix::EMPTY_ADDRESS_RECIPIENT, problems),
            duplicates: usize::try_from(limit).unwrap_or(usize::MAX),
        },
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
    let reading = tokio::task::spawn_blocking(move || {
        directory.list(&settings.options, |entry| sender.blocking_send(entry).is_ok());
    });
    while let Some(entry) = entries.recv().await {
        if peer.send(&entry.encode(dialect)).await.is_err() {
            return; // the reader went away; the channel's end stops the listing
        }
    }
    if reading.await.is_ok() {
        let _ = peer.send(&end_of_queue()).await;
    }
}
