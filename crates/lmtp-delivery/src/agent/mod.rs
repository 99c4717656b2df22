//! The agents that master.cf calls `local` and `virtual`: servers of Postfix's delivery requests.

mod command;
mod expand;
mod forward;
mod header;
mod job;
mod local;
mod pass;
mod pipe;
mod report;
pub mod settings;
mod user;
mod virtual_mailbox;

use neighbours::attributes::has_gone;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use daemon::{Connection, Stream, Worker, WorkerError};
use mail_types::Timestamp;
use protocol::postfix::delivery::{
    DeliveryReply, DeliveryRequest, Remaining, RequestReader, agent_greeting, flags,
};
use protocol::postfix::{Dialect, Recipient};
use routing::Routing;
use tables::Set;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::task::Outcome;
use job::Job;
use report::{Reporter, Verdict};
use settings::{Agent, AgentSettings, ServiceSettings};

/// `ipc_timeout`: how long the queue manager may be silent.
const PATIENCE: Duration = Duration::from_secs(3600);

/// One service with everything it needs.
pub struct Service {
    pub worker: Worker,
    pub settings: ServiceSettings,
    pub tables: Arc<Set>,
    pub reporter: Reporter,
    /// Of local only.
    pub routing: Option<Routing<Arc<Set>>>,
}

/// Serves all agent services of master.cf.
pub fn work(worker: Worker) -> Result<(), WorkerError> {
    let settings: AgentSettings = worker.settings()?;
    let service = worker.clone();
    worker.run(async move {
        let mut serving = tokio::task::JoinSet::new();
        for settings in settings.services {
            let listener = service.listener(&settings.listener)?;
            let agent = Arc::new(Service::new(service.clone(), settings));
            let worker = service.clone();
            serving.spawn(async move {
                let handle = |connection| {
                    let agent = Arc::clone(&agent);
                    async move { agent.serve(connection).await }
                };
                worker.serve(listener, handle).await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

impl Service {
    fn new(worker: Worker, settings: ServiceSettings) -> Self {
        let tables = Arc::new(open_tables(&worker, &settings));
        let routing = match &settings.agent {
            Agent::Virtual(_) | Agent::Pipe(_) => None,
            Agent::Local(local) => {
                Some(Routing { settings: local.routing.clone(), tables: Arc::clone(&tables) })
            }
        };
        Self { worker, reporter: Reporter::new(&settings), settings, tables, routing }
    }

    pub fn dialect(&self) -> Dialect {
        Dialect::of_version(&self.settings.mail_version).unwrap_or_default()
    }

    /// A warning that is about no single message.
    pub fn warn(&self, text: &str) {
        let ident = &self.settings.ident;
        tracing::warn!(target: "mail", ident = %ident, "warning: {text}");
    }

    async fn serve(&self, connection: Connection) {
        if let Err(error) = self.converse(connection.stream).await
            && !has_gone(&error)
        {
            self.warn(&format!("delivery request: {error}"));
        }
    }

    /// One request; then the queue manager closes. It may also close without one.
    async fn converse(&self, mut stream: Stream) -> std::io::Result<()> {
        stream.write_all(&agent_greeting(self.dialect())).await?;
        stream.flush().await?;
        let mut reader = RequestReader::new(self.dialect());
        let mut buffer = BytesMut::new();
        let request = loop {
            if let Some(request) = reader.read(&mut buffer).map_err(std::io::Error::other)? {
                break request;
            }
            if timeout(PATIENCE, stream.read_buf(&mut buffer)).await?? == 0 {
                let idle = reader.is_idle() && buffer.is_empty();
                return if idle { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let status = self.deliver(request).await;
        stream.write_all(&DeliveryReply { status, ..DeliveryReply::default() }.encode()).await?;
        stream.flush().await?;
        let _ = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        Ok(())
    }

    async fn deliver(&self, mut request: DeliveryRequest) -> Remaining {
        request.stats.agent_handoff = Timestamp::from(SystemTime::now());
        let (directory, shown) = (self.settings.queue.clone(), request.clone());
        let opened = tokio::task::spawn_blocking(move || Job::open(&directory, request)).await;
        let job = match opened {
            Ok(Ok(job)) => job,
            Ok(Err(error)) => {
                if !error.is_gone() {
                    self.reporter.warn(&shown, &error.to_string());
                }
                return Remaining::Something;
            }
            Err(_) => return Remaining::Something,
        };
        let mut remaining = Remaining::Nothing;
        if let Agent::Pipe(settings) = &self.settings.agent {
            return self.pipe(settings, &job).await;
        }
        for recipient in &shown.recipients {
            let done = self.one(&job, recipient).await;
            if !done || !self.mark_done(&job, recipient) {
                remaining = Remaining::Something;
            }
        }
        remaining
    }

    /// Notes in the queue file that a recipient is done with; false if that is not possible.
    fn mark_done(&self, job: &Job, recipient: &Recipient) -> bool {
        if job.request.flags & flags::SUCCESS != 0
            && let Err(error) = job.mark_done(recipient.offset)
        {
            self.reporter.warn(&job.request, &format!("mark recipient: {error}"));
            return false;
        }
        true
    }

    async fn one(&self, job: &Job, recipient: &Recipient) -> bool {
        if job.request.flags & (flags::MTA_VERIFY | flags::USER_VERIFY) != 0 {
            // A probe must deliver nothing, and what it wants to know is not told here yet.
            let verdict = Verdict::failed("4.3.0", "address verification is not supported yet");
            return self.reporter.conclude(&job.request, recipient, &verdict).await;
        }
        match &self.settings.agent {
            Agent::Virtual(settings) => {
                let verdict = self.virtual_mailbox(settings, job, recipient).await;
                self.reporter.conclude(&job.request, recipient, &verdict).await
            }
            Agent::Local(settings) => self.local(settings, job, recipient).await,
            Agent::Pipe(_) => false, // served as a whole
        }
    }
}

fn open_tables(worker: &Worker, settings: &ServiceSettings) -> Set {
    let mut tables = neighbours::lookup::tables(worker);
    let mut problems = Vec::new();
    match &settings.agent {
        Agent::Virtual(settings) => {
            for maps in [&settings.maps, &settings.uids, &settings.gids] {
                problems.extend(tables.open(maps));
            }
        }
        Agent::Local(settings) => {
            problems.extend(tables.open_aliases(&settings.alias_maps));
            for maps in [
                &settings.routing.tables(),
                &settings.mailbox_transport_maps,
                &settings.mailbox_command_maps,
                &settings.fallback_transport_maps,
            ] {
                problems.extend(tables.open(maps));
            }
        }
        Agent::Pipe(_) => {}
    }
    for problem in &problems {
        tracing::warn!(target: "mail", ident = %settings.ident, "warning: {problem}");
    }
    tables
}

/// What the log calls the outcome of a delivery.
fn verdict_of(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Saved { mailbox, .. } => Verdict::delivered(format!("delivered to {mailbox}")),
        Outcome::OverQuota => Verdict::failed("5.2.2", "Quota exceeded (mailbox for user is full)"),
        Outcome::Failed(failure) => Verdict::Failed(failure),
        Outcome::Text(_) => Verdict::failed("4.3.0", "unexpected answer of the delivery worker"),
    }
}
