//! The bounce, defer and trace services: what became of each recipient, kept in the queue directory
//! until the sender has been told.

mod mail;
mod notice;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::postfix;
use daemon::{Connection, Role, Worker, WorkerError};
use mail_types::{Clock, QueueId, SystemClock};
use neighbours::attributes::AttrStream;
use protocol::postfix::bounce::{BounceRequest, CLEAN, DELETE_RECIPIENTS, Notice};
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::delivery::flags::{RECORD, USER_VERIFY};
use protocol::postfix::{Dialect, greeting, protocols, status_reply};
use queue::{Lock, LogEntry, LogKind, Queue, QueueDirectory, QueueFile};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::plan::{Asked, Served, Takeover};
use crate::scheduler::log::Log;
use notice::{Kind, Original, Reader, compose, wanted};

pub const TAKEOVER: Takeover =
    Takeover { command: "bounce", role: "bounce", settings: read, shape, work };

/// A larger message is returned without its body, whatever `bounce_size_limit` says.
const LARGEST_RETURNED: i64 = 16 << 20;
const LONGEST_LINE: usize = 64 * 1024;
const MOST_HEADER_LINES: usize = 10_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    host: notice::Host,
    double_bounce_sender: String,
    notify: Vec<String>,
    bounce_notice_recipient: String,
    double_bounce_recipient: String,
    delay_notice_recipient: String,
    bounce_size_limit: i64,
    old_style_logs: bool,
    /// Bounces go through header and body checks too.
    filtered: bool,
    cleanup: PathBuf,
    timeout: Duration,
    defer_service: String,
    trace_service: String,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let notify = view.get(postfix::NOTIFY_CLASSES, problems);
    let filtered = view.get(postfix::INTERNAL_MAIL_FILTER_CLASSES, problems);
    let cleanup = view.get(postfix::CLEANUP_SERVICE_NAME, problems);
    let settings = Settings {
        host: notice::Host {
            myhostname: view.get(postfix::MYHOSTNAME, problems),
            myorigin: view.get(postfix::MYORIGIN, problems),
            mail_name: view.get(postfix::MAIL_NAME, problems),
            delay_warning_time: view.get(postfix::DELAY_WARNING_TIME, problems),
            maximal_queue_lifetime: view.get(postfix::MAXIMAL_QUEUE_LIFETIME, problems),
        },
        double_bounce_sender: view.get(postfix::DOUBLE_BOUNCE_SENDER, problems),
        notify: notify.iter().map(|word| word.as_str().to_owned()).collect(),
        bounce_notice_recipient: view.get(postfix::BOUNCE_NOTICE_RECIPIENT, problems),
        double_bounce_recipient: view.get(postfix::N2BOUNCE_NOTICE_RECIPIENT, problems),
        delay_notice_recipient: view.get(postfix::DELAY_NOTICE_RECIPIENT, problems),
        bounce_size_limit: i64::try_from(view.get(postfix::BOUNCE_SIZE_LIMIT, problems))
            .unwrap_or(i64::MAX),
        old_style_logs: view.get(postfix::BACKWARDS_BOUNCE_LOGFILE_COMPATIBILITY, problems),
        filtered: routing::tables::split_list(&filtered).contains(&"bounce"),
        cleanup: asked.shared.socket(&format!("public/{cleanup}")),
        timeout: view.get(postfix::IPC_TIMEOUT, problems),
        defer_service: view.get(postfix::DEFER_SERVICE_NAME, problems),
        trace_service: view.get(postfix::TRACE_SERVICE_NAME, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

fn shape(role: &mut Role) {
    role.connections = 200;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for service in served {
            let settings: Settings = service.settings()?;
            let kind = match &service.name {
                name if *name == settings.defer_service => LogKind::Defer,
                name if *name == settings.trace_service => LogKind::Trace,
                _ => LogKind::Bounce,
            };
            let server = Arc::new(Server {
                kind,
                log: Log::new(&service.shared.syslog_name, "bounce"),
                queue: service.shared.queue.clone(),
                dialect: service.shared.dialect(),
                settings,
            });
            let (worker, listener) = (worker.clone(), worker.listener(&service.listener)?);
            serving.spawn(async move {
                worker
                    .serve(listener, |connection: Connection| {
                        let server = Arc::clone(&server);
                        async move { server.serve(connection.stream).await }
                    })
                    .await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

/// One of the three services.
pub struct Server {
    kind: LogKind,
    settings: Settings,
    queue: QueueDirectory,
    dialect: Dialect,
    log: Log,
}

impl Server {
    /// Serves one request.
    pub async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut peer = AttrStream::new(stream, self.settings.timeout);
        if peer.send(&greeting(self.dialect, protocols::BOUNCE)).await.is_err() {
            return;
        }
        let Ok(Some(list)) = peer.list_or_end().await else { return };
        let status = match BounceRequest::decode(&list, self.dialect) {
            Ok(request) => match Arc::clone(&self).obey(request).await {
                Ok(()) => 0,
                Err(error) => {
                    self.log.warning(&error);
                    -1
                }
            },
            Err(error) => {
                self.log.warning(&format!("{} socket: {error}", self.kind.directory()));
                -1
            }
        };
        let _ = peer.send(&status_reply(status)).await;
    }

    async fn obey(self: Arc<Self>, request: BounceRequest) -> Result<(), String> {
        match request {
            BounceRequest::Append { queue_id, recipient, dsn, .. } => {
                let server = Arc::clone(&self);
                let id = queue_id.clone();
                let append = blocking(move || {
                    let entry = LogEntry { recipient, dsn };
                    let old_style = server.settings.old_style_logs;
                    server.queue.append_log(server.kind, &id, &entry, old_style)
                });
                append.await.map_err(|error| {
                    format!("{queue_id}: append {} log: {error}", self.kind.directory())
                })
            }
            BounceRequest::Flush(notice) => self.flush(&notice, None).await,
            BounceRequest::Verp(notice, delimiters) => self.flush(&notice, Some(&delimiters)).await,
            BounceRequest::Warn(notice) => {
                let entries = self.entries(&notice.queue_id).await?;
                self.tell(Kind::Delay, &notice, entries).await
            }
            BounceRequest::One { notice, recipient, dsn } => {
                self.tell(Kind::Failure, &notice, vec![LogEntry { recipient, dsn }]).await
            }
            BounceRequest::Trace(notice) => {
                let asked = notice.flags & (USER_VERIFY | RECORD) != 0;
                let kind = if asked { Kind::Verify } else { Kind::Success };
                let entries = self.entries(&notice.queue_id).await?;
                self.tell(kind, &notice, entries).await?;
                self.remove_log(&notice.queue_id).await
            }
        }
    }

    /// Returns the message, then forgets the log, which was all that still named these recipients.
    async fn flush(&self, notice: &Notice, verp: Option<&str>) -> Result<(), String> {
        let entries = self.entries(&notice.queue_id).await?;
        let told = self.return_all(notice, verp, &entries).await;
        if told.is_err() && notice.flags & CLEAN != 0 {
            self.remove_log(&notice.queue_id).await?;
        }
        told?;
        if notice.flags & DELETE_RECIPIENTS != 0 {
            self.mark_done(notice, &entries).await?;
        }
        self.remove_log(&notice.queue_id).await
    }

    async fn return_all(
        &self,
        notice: &Notice,
        verp: Option<&str>,
        entries: &[LogEntry],
    ) -> Result<(), String> {
        let Some(delimiters) = verp else {
            return self.tell(Kind::Failure, notice, entries.to_vec()).await;
        };
        for entry in entries {
            let sender = verp_sender(delimiters, &notice.sender, &entry.recipient.original);
            let notice = Notice { sender, ..notice.clone() };
            self.tell(Kind::Failure, &notice, vec![entry.clone()]).await?;
        }
        Ok(())
    }

    /// Posts the notice to whoever is to hear of it, if anybody is.
    async fn tell(
        &self,
        kind: Kind,
        notice: &Notice,
        mut entries: Vec<LogEntry>,
    ) -> Result<(), String> {
        let settings = &self.settings;
        let id = &notice.queue_id;
        entries.iter_mut().for_each(notice::clean_entry);
        let double_bounce =
            format!("{}@{}", settings.double_bounce_sender, settings.host.myhostname);
        let notifies = |class: &str| settings.notify.iter().any(|name| name == class);
        if notice.sender.eq_ignore_ascii_case(&double_bounce) {
            if kind == Kind::Failure {
                let text = "undeliverable postmaster notification discarded";
                self.log.warning(&format!("{id}: {text}"));
            }
            return Ok(());
        }
        let all = entries.clone();
        entries.retain(|entry| wanted(kind, entry));
        if notice.sender.is_empty() {
            if kind == Kind::Failure && (notifies("2bounce") || notifies("bounce")) {
                let to = (double_bounce.as_str(), settings.double_bounce_recipient.as_str());
                return self.post(kind, Reader::Postmaster, notice, to, &all).await;
            }
            return Ok(());
        }
        if !entries.is_empty() {
            let to = ("", notice.sender.as_str());
            self.post(kind, Reader::Sender, notice, to, &entries).await?;
        }
        let copy = match kind {
            Kind::Failure if notifies("bounce") => &settings.bounce_notice_recipient,
            Kind::Delay if notifies("delay") => &settings.delay_notice_recipient,
            _ => return Ok(()),
        };
        let copied =
            self.post(kind, Reader::Postmaster, notice, (&double_bounce, copy), &all).await;
        if let Err(error) = copied {
            self.log.warning(&error); // the sender has been told; that is what counts
        }
        Ok(())
    }

    async fn post(
        &self,
        kind: Kind,
        reader: Reader,
        notice: &Notice,
        (from, to): (&str, &str),
        entries: &[LogEntry],
    ) -> Result<(), String> {
        let original = self.original(notice, reader).await;
        let now = SystemClock.timestamp();
        let host = &self.settings.host;
        let flags = match self.settings.filtered {
            true => CleanupFlags::INTERNAL.with(CleanupFlags::FILTER),
            false => CleanupFlags::INTERNAL,
        };
        let lines = |id: &QueueId| {
            let ids = (id, &notice.queue_id);
            compose(kind, reader, host, to, ids, now.seconds, &original, entries)
        };
        let (cleanup, limit) = (&self.settings.cleanup, self.settings.timeout);
        let posted = mail::post(cleanup, limit, flags, (from, to), now, lines).await;
        let what = match (kind, reader) {
            (Kind::Failure, Reader::Sender) => "sender non-delivery notification",
            (Kind::Failure, Reader::Postmaster) => "postmaster non-delivery notification",
            (Kind::Delay, Reader::Sender) => "sender delay notification",
            (Kind::Delay, Reader::Postmaster) => "postmaster delay notification",
            (Kind::Success | Kind::Verify, _) => "sender delivery status notification",
        };
        match posted {
            Ok(new) => {
                self.log.info(&notice.queue_id, &format!("{what}: {new}"));
                Ok(())
            }
            Err(error) => Err(format!("{}: {what} failed: {error}", notice.queue_id)),
        }
    }

    /// The message as it lies in the queue. A notice without it is better than none.
    async fn original(&self, notice: &Notice, reader: Reader) -> Original {
        let mut original = Original {
            sender: notice.sender.clone(),
            envelope_id: notice.envelope_id.clone(),
            utf8: notice.sendopts & 1 != 0,
            headers_only: notice.ret == 2 || reader == Reader::Postmaster,
            ..Original::default()
        };
        original = original.cleaned();
        let Some(queue) = Queue::named(&notice.queue_name) else { return original };
        let (directory, id) = (self.queue.clone(), notice.queue_id.clone());
        let limit = match self.settings.bounce_size_limit {
            0 => LARGEST_RETURNED,
            limit => limit.min(LARGEST_RETURNED),
        };
        let headers_only = original.headers_only;
        let read = blocking(move || message_of(&directory, queue, &id, headers_only, limit)).await;
        match read {
            Ok((arrival, headers_only, lines)) => {
                original.arrival = arrival;
                original.headers_only = headers_only;
                original.lines = lines;
            }
            Err(error) => self.log.warning(&format!("{}: {error}", notice.queue_id)),
        }
        original
    }

    async fn entries(&self, id: &QueueId) -> Result<Vec<LogEntry>, String> {
        let (queue, kind, name) = (self.queue.clone(), self.kind, id.clone());
        let read = blocking(move || queue.read_log(kind, &name)).await;
        read.map_err(|error| format!("{id}: read {} log: {error}", self.kind.directory()))
    }

    async fn remove_log(&self, id: &QueueId) -> Result<(), String> {
        let (queue, kind, name) = (self.queue.clone(), self.kind, id.clone());
        let removed = blocking(move || queue.remove_log(kind, &name)).await;
        removed.map_err(|error| format!("{id}: remove {} log: {error}", self.kind.directory()))
    }

    async fn mark_done(&self, notice: &Notice, entries: &[LogEntry]) -> Result<(), String> {
        let Some(queue) = Queue::named(&notice.queue_name) else {
            return Err(format!("{}: no queue {}", notice.queue_id, notice.queue_name));
        };
        let offsets: Vec<u64> = entries
            .iter()
            .filter_map(|entry| u64::try_from(entry.recipient.offset).ok())
            .filter(|&offset| offset > 0)
            .collect();
        let (directory, id) = (self.queue.clone(), notice.queue_id.clone());
        let marked = blocking(move || {
            let file = QueueFile::open(&directory, queue, &id, Lock::Shared)?;
            for offset in offsets {
                file.mark_done(offset).map_err(|error| io::Error::other(error.to_string()))?;
            }
            Ok(())
        });
        marked.await.map_err(|error| format!("{}: {error}", notice.queue_id))
    }
}

type Content = (mail_types::Timestamp, bool, Vec<Vec<u8>>);

fn message_of(
    directory: &QueueDirectory,
    queue: Queue,
    id: &QueueId,
    mut headers_only: bool,
    limit: i64,
) -> io::Result<Content> {
    let damage = |error: queue::ReadError| io::Error::other(error.to_string());
    let file = QueueFile::open(directory, queue, id, Lock::None)?;
    let mut reader = file.envelope().map_err(damage)?;
    let _ = reader.next_recipient().map_err(damage)?;
    let envelope = reader.into_envelope();
    let size = envelope.size.unwrap_or_default();
    headers_only |= size.message_size > limit;
    let mut content = file.content(u64::try_from(size.data_offset).unwrap_or(0))?;
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while content.next_line(&mut line, LONGEST_LINE).map_err(damage)? {
        let end = headers_only && (line.is_empty() || lines.len() >= MOST_HEADER_LINES);
        lines.push(std::mem::take(&mut line));
        if end {
            break;
        }
    }
    Ok((envelope.arrival.unwrap_or_default(), headers_only, lines))
}

/// `owner+user=example.com@list.example`: the bounce tells which recipient it is about.
fn verp_sender(delimiters: &str, sender: &str, recipient: &str) -> String {
    let mut signs = delimiters.chars();
    let (Some(first), Some(second)) = (signs.next(), signs.next()) else {
        return sender.to_owned();
    };
    match (sender.rsplit_once('@'), recipient.rsplit_once('@')) {
        (Some((user, domain)), Some((local, host))) => {
            format!("{user}{first}{local}{second}{host}@{domain}")
        }
        _ => sender.to_owned(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::postfix::{Dsn, Recipient};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn server(root: &std::path::Path) -> Arc<Server> {
        let host = notice::Host {
            myhostname: "mail.example.com".into(),
            myorigin: "example.com".into(),
            mail_name: "Postfix".into(),
            delay_warning_time: Duration::ZERO,
            maximal_queue_lifetime: Duration::ZERO,
        };
        let settings = Settings {
            host,
            double_bounce_sender: "double-bounce".into(),
            notify: Vec::new(),
            bounce_notice_recipient: "postmaster".into(),
            double_bounce_recipient: "postmaster".into(),
            delay_notice_recipient: "postmaster".into(),
            bounce_size_limit: 50_000,
            old_style_logs: true,
            filtered: false,
            cleanup: root.join("public/cleanup"),
            timeout: Duration::from_secs(5),
            defer_service: "defer".into(),
            trace_service: "trace".into(),
        };
        Arc::new(Server {
            kind: LogKind::Bounce,
            settings,
            queue: QueueDirectory::new(root),
            dialect: Dialect::default(),
            log: Log::new("postfix", "bounce"),
        })
    }

    async fn status(server: &Arc<Server>, input: &[u8]) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        near.write_all(input).await.unwrap();
        near.shutdown().await.unwrap();
        Arc::clone(server).serve(far).await;
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        let greeting = greeting(Dialect::default(), protocols::BOUNCE);
        answer.strip_prefix(greeting.as_slice()).unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_report_is_on_disk_and_a_notice_that_cannot_be_posted_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bounce")).unwrap();
        let server = server(root.path());
        let queue_id = QueueId::parse("640A99A4A51").unwrap();
        let recipient = Recipient { address: "x@y.example".into(), ..Recipient::default() };
        let dsn = Dsn::local("5.1.1", "failed", "no such user\nContent-Type: text/html");
        let append = BounceRequest::Append { flags: 0, queue_id: queue_id.clone(), recipient, dsn };
        let append = append.encode(Dialect::default());
        assert_eq!(status(&server, &append).await, status_reply(0));
        let log = root.path().join("bounce/640A99A4A51");
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("reason=no such user?Content-Type: text/html\n"), "{text}");
        let notice = |sender: &str| Notice {
            flags: 0,
            queue_name: "active".into(),
            queue_id: queue_id.clone(),
            encoding: String::new(),
            sendopts: 0,
            sender: sender.into(),
            envelope_id: String::new(),
            ret: 0,
        };
        // No cleanup is there: the sender has not been told, so the log stays.
        let flush = BounceRequest::Flush(notice("a@b.example")).encode(Dialect::default());
        assert_eq!(status(&server, &flush).await, status_reply(-1));
        assert!(log.exists());
        // A bounce that bounces ends here.
        let double = notice("double-bounce@mail.example.com");
        let flush = BounceRequest::Flush(double).encode(Dialect::default());
        assert_eq!(status(&server, &flush).await, status_reply(0));
        assert!(!log.exists());
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let server = server(root.path());
        for input in [
            &b"nrequest\x009\0\0"[..],
            b"nrequest\x000\0flags\x000\0queue_id\0../../etc/passwd\0\0",
            b"hello\0world\0\0",
        ] {
            assert_eq!(status(&server, input).await, status_reply(-1));
        }
        assert_eq!(status(&server, &[b'x'; 300_000]).await, b"");
    }
}
