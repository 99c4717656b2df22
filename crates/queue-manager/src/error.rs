//! The agents that deliver nothing: error (mail bounces), retry (mail waits), discard (mail is gone).

use neighbours::attributes::has_gone;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use config::postfix;
use daemon::{Connection, Role, Worker, WorkerError};
use mail_types::{Class, Clock, EnhancedStatus, SystemClock};
use neighbours::bounce::{BounceClient, Report};
use neighbours::flush::FlushClient;
use protocol::postfix::delivery::{
    DeliveryReply, DeliveryRequest, Remaining, RequestReader, agent_greeting, flags,
};
use protocol::postfix::{Dialect, Dsn, Recipient};
use queue::{Lock, Queue, QueueDirectory, QueueFile};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::plan::{Asked, Served, Takeover};
use crate::scheduler::log::Log;
use crate::serve;

pub const ERROR: Takeover =
    Takeover { command: "error", role: "agents", settings: read, shape, work };
pub const DISCARD: Takeover =
    Takeover { command: "discard", role: "agents", settings: read, shape, work };

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub bounce_services: [String; 3],
    pub soft_bounce: bool,
    /// The socket of the flush service, if any destination has a flush log.
    pub flush: Option<PathBuf>,
    pub timeout: Duration,
}

/// What an agent does with its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Error,
    Retry,
    Discard,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let flush = view.get(postfix::FLUSH_SERVICE_NAME, problems);
    let flushes = !view.get(postfix::FAST_FLUSH_DOMAINS, problems).is_empty();
    let settings = Settings {
        flush: flushes.then(|| asked.shared.socket(&format!("public/{flush}"))),
        bounce_services: [
            view.get(postfix::BOUNCE_SERVICE_NAME, problems),
            view.get(postfix::DEFER_SERVICE_NAME, problems),
            view.get(postfix::TRACE_SERVICE_NAME, problems),
        ],
        soft_bounce: view.get(postfix::SOFT_BOUNCE, problems),
        timeout: view.get(postfix::IPC_TIMEOUT, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

fn shape(role: &mut Role) {
    role.connections = 200;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    serve::each(worker, served, agent, answer)
}

async fn answer(agent: Arc<Agent>, connection: Connection) {
    agent.serve(connection.stream).await;
}

fn agent(service: &Served) -> Result<Agent, WorkerError> {
    let settings: Settings = service.settings()?;
    let fate = match (service.command.as_str(), service.name.as_str()) {
        ("discard", _) => Fate::Discard,
        (_, "retry") => Fate::Retry,
        _ => Fate::Error,
    };
    let shared = &service.shared;
    let (queue, dialect) = (shared.queue.clone(), shared.dialect());
    Ok(Agent::new(fate, &settings, queue, dialect, &shared.syslog_name))
}

pub struct Agent {
    fate: Fate,
    queue: QueueDirectory,
    dialect: Dialect,
    reports: BounceClient,
    flush: Option<FlushClient>,
    soft_bounce: bool,
    timeout: Duration,
    log: Log,
}

impl Agent {
    #[must_use]
    pub fn new(
        fate: Fate,
        settings: &Settings,
        queue: QueueDirectory,
        dialect: Dialect,
        syslog_name: &str,
    ) -> Self {
        let [bounce, defer, trace] = &settings.bounce_services;
        let private = queue.root.join("private");
        let services = [bounce.as_str(), defer.as_str(), trace.as_str()];
        let program = if fate == Fate::Discard { "discard" } else { "error" };
        Self {
            fate,
            dialect,
            reports: BounceClient::new(&private, services, dialect, settings.timeout),
            flush: settings
                .flush
                .as_ref()
                .map(|path| FlushClient::new(path.clone(), dialect, settings.timeout)),
            soft_bounce: settings.soft_bounce,
            timeout: settings.timeout,
            log: Log::new(syslog_name, program),
            queue,
        }
    }

    /// Serves one request: the queue manager closes the connection after the answer.
    pub async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let conversation = async {
            stream.write_all(&agent_greeting(self.dialect)).await?;
            let Some(request) = self.request(&mut stream).await? else { return Ok(()) };
            let reply = self.deliver(&request).await;
            stream.write_all(&reply.encode()).await?;
            let mut rest = [0_u8; 64];
            while stream.read(&mut rest).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        if let Ok(Err(error)) = timeout(self.timeout, conversation).await
            && !has_gone(&error)
        {
            self.log.warning(&format!("delivery request: {error}"));
        }
    }

    /// Nothing when the queue manager changed its mind.
    async fn request(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<DeliveryRequest>> {
        let mut reader = RequestReader::new(self.dialect);
        let mut buffer = BytesMut::new();
        loop {
            let read = reader.read(&mut buffer).map_err(std::io::Error::other)?;
            if read.is_some() {
                return Ok(read);
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return match reader.is_idle() && buffer.is_empty() {
                    true => Ok(None),
                    false => Err(std::io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Reports every recipient and marks those that are done.
    pub async fn deliver(&self, request: &DeliveryRequest) -> DeliveryReply {
        let again = DeliveryReply { status: Remaining::Something, ..DeliveryReply::default() };
        let Some(queue) = Queue::named(&request.queue_name) else { return again };
        let file = match QueueFile::open(&self.queue, queue, &request.queue_id, Lock::Shared) {
            Ok(file) => file,
            Err(error) => {
                let id = &request.queue_id;
                self.log.warning(&format!("open {} {id}: {error}", request.queue_name));
                return again;
            }
        };
        let mut stats = request.stats;
        stats.agent_handoff = SystemClock.timestamp();
        let mut reply = DeliveryReply::default();
        for recipient in &request.recipients {
            let (report, dsn, status) = self.verdict(request, recipient);
            let trace = request.flags & flags::TRACE_MASK;
            let noted = match report {
                Some(report) => {
                    self.reports.append(report, trace, &request.queue_id, recipient, &dsn).await
                }
                None => Ok(()),
            };
            let (dsn, status) = match noted {
                Ok(()) => (dsn, status),
                Err(error) => {
                    let why = format!("bounce or trace service failure: {error}");
                    (Dsn::local("4.3.0", "delayed", &why), "deferred")
                }
            };
            let (id, now) = (&request.queue_id, SystemClock.timestamp());
            self.log.recipient(id, recipient, &stats, now, "none", status, &dsn);
            if status == "deferred" || status == "SOFTBOUNCE" {
                reply.status = Remaining::Something;
                if let Some(flush) = &self.flush {
                    flush.add(&recipient.address, id).await;
                }
            } else if let Ok(offset) = u64::try_from(recipient.offset)
                && offset > 0
                && request.flags & flags::SUCCESS != 0
                && let Err(error) = file.mark_done(offset)
            {
                self.log.warning(&format!("{id}: cannot mark a recipient done: {error}"));
                return again;
            }
        }
        reply
    }

    /// Which service is told, what, and the word for the log.
    fn verdict(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
    ) -> (Option<Report>, Dsn, &'static str) {
        let traced = request.flags & (flags::USER_VERIFY | flags::RECORD) != 0;
        if self.fate == Fate::Discard {
            let reason = match request.nexthop.is_empty() {
                true => "silently",
                false => request.nexthop.as_str(),
            };
            let text = match EnhancedStatus::prefix_of(reason) {
                Some((status, text)) if status.class() == Class::Success => text,
                _ => reason,
            };
            let dsn = Dsn::local("2.0.0", "delivered", text);
            let success = mail_types::Notify::from_bits(recipient.notify)
                .is_some_and(mail_types::Notify::wants_success);
            return ((traced || success).then_some(Report::Trace), dsn, "sent");
        }
        let default = if self.fate == Fate::Error { "5.0.0" } else { "4.0.0" };
        let (status, reason) = match EnhancedStatus::prefix_of(&request.nexthop) {
            Some((status, reason)) => (status.to_string(), reason),
            None => (default.to_owned(), request.nexthop.as_str()),
        };
        let class = match self.fate {
            Fate::Error if !self.soft_bounce => Class::Permanent,
            _ => Class::Transient,
        };
        let status = EnhancedStatus::parse(&status)
            .map_or(status, |status| status.with_class(class).to_string());
        if request.flags & flags::USER_VERIFY != 0 {
            let dsn = Dsn::local(&status, "undeliverable", reason);
            return (Some(Report::Trace), dsn, "undeliverable");
        }
        match (self.fate, class) {
            (Fate::Error, Class::Permanent) => {
                (Some(Report::Bounce), Dsn::local(&status, "failed", reason), "bounced")
            }
            (Fate::Error, _) => {
                (Some(Report::Defer), Dsn::local(&status, "delayed", reason), "SOFTBOUNCE")
            }
            _ => (Some(Report::Defer), Dsn::local(&status, "delayed", reason), "deferred"),
        }
    }
}
