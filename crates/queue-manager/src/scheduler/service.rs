//! qmgr as a service of master.cf: the trigger socket, and the engine behind it.

use std::sync::Arc;
use std::time::Duration;

use daemon::{Connection, Role, Worker, WorkerError};
use mail_types::SystemClock;
use protocol::postfix::trigger::QmgrTrigger;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::settings::Settings;
use super::{Context, Scheduler};
use crate::plan::{Asked, Served, Takeover};

pub const TAKEOVER: Takeover =
    Takeover { command: "qmgr", role: "qmgr", settings: read, shape, work };

/// A trigger is a few bytes; the rest of a longer one is not looked at.
const LONGEST_TRIGGER: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(10);

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let settings = Settings::read(asked.host, &asked.view, problems);
    serde_json::to_value(settings).unwrap_or_default()
}

fn shape(role: &mut Role) {
    role.alone = true; // two queue managers on one active queue would both deliver
    role.ends_first = true; // its last deliveries still need bounce, defer and cleanup
    role.connections = 100;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    worker.run(async {
        let Some(service) = served.into_iter().next() else {
            return Err(WorkerError::service("no qmgr service".to_owned()));
        };
        let settings: Settings = service.settings()?;
        let queue = service.shared.queue.clone();
        let context = Context::new(settings, queue, Arc::new(SystemClock));
        let (scheduler, engine) = Scheduler::new(context);
        let listener = worker.listener(&service.listener)?;
        worker.alone().await;
        let finishing = async {
            worker.finishing().await;
        };
        let triggers = worker.serve(listener, |connection| {
            let scheduler = scheduler.clone();
            async move { obey(connection, &scheduler).await }
        });
        let (ran, ()) = tokio::join!(engine.run(finishing), triggers);
        ran.map_err(WorkerError::io("active queue"))
    })
}

/// A trigger ends with a NUL; its sender may wait for our close before it closes itself.
async fn obey(connection: Connection, scheduler: &Scheduler) {
    let mut bytes = Vec::new();
    let mut stream = connection.stream.take(LONGEST_TRIGGER);
    let read = async {
        while !bytes.contains(&0) && stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0)
        {
        }
    };
    // What came within the time counts.
    let _ = timeout(PATIENCE, read).await;
    scheduler.trigger(QmgrTrigger::parse(&bytes)).await;
}
