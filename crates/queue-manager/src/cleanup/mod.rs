//! The cleanup service: a message comes in over the cleanup protocol and is on disk when we say so.
//!
//! [`connection`] drives one client, [`message`] is the message on its way into the queue file,
//! and beside it stand its parts: envelope, recipients, header, body, checks.

mod bounce;
mod checks;
mod connection;
mod content;
mod envelope;
mod header;
mod message;
mod milter_edits;
mod milters;
mod recipients;
mod settings;
mod wake;

use std::sync::Arc;

use daemon::{Role, Worker, WorkerError};
use mail_types::{Clock, SystemClock};
use routing::resolve::Routing;
use tables::Set;
use tokio::sync::Semaphore;

use crate::plan::{Served, Shared, Takeover};
use settings::Settings;
use wake::Waker;

pub const TAKEOVER: Takeover =
    Takeover { command: "cleanup", role: "cleanup", settings: settings::read, shape, work };

/// Messages that are synced to disk at once; the file system commits them in groups.
const SYNCS: usize = 64;

/// What all messages of one cleanup service share.
pub(crate) struct Service {
    pub settings: Settings,
    pub routing: Routing<Arc<Set>>,
    pub tables: Arc<Set>,
    pub shared: Shared,
    /// `postfix/cleanup`.
    pub ident: String,
    pub clock: Arc<dyn Clock>,
    pub disk: Semaphore,
    pub qmgr: Waker,
}

fn shape(role: &mut Role) {
    role.threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    role.connections = 2_000;
    role.needs().network = true; // milters
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    let mut services = Vec::new();
    for service in served {
        let listener = service.listener.clone();
        services.push((listener, Arc::new(Service::new(service, &worker)?)));
    }
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for (name, service) in services {
            let (listener, worker) = (worker.listener(&name)?, worker.clone());
            let qmgr = Arc::clone(&service);
            tokio::spawn(async move { qmgr.qmgr.run().await });
            serving.spawn(async move {
                let serve = move |connection: daemon::Connection| {
                    connection::serve(connection.stream, Arc::clone(&service))
                };
                worker.serve(listener, serve).await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

impl Service {
    fn new(served: Served, worker: &Worker) -> Result<Self, WorkerError> {
        let settings: Settings = served.settings()?;
        let mut tables = neighbours::lookup::tables(worker);
        let mut problems = tables.open_aliases(&settings.routing.known.aliases);
        problems.extend(tables.open(&settings.tables()));
        for problem in problems {
            tracing::warn!(target: "mail", "warning: {problem}");
        }
        let tables = Arc::new(tables);
        let routing = Routing { settings: settings.routing.clone(), tables: Arc::clone(&tables) };
        let qmgr = Waker::new(served.shared.socket("public/qmgr"));
        Ok(Self {
            ident: served.shared.ident("cleanup"),
            settings,
            routing,
            tables,
            shared: served.shared,
            clock: Arc::new(SystemClock),
            disk: Semaphore::new(SYNCS),
            qmgr,
        })
    }
}
