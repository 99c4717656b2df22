//! One of the three services: its requests, and the logs that it keeps.

use std::io;
use std::sync::Arc;

use mail_types::{Clock, QueueId, SystemClock};
use neighbours::attributes::AttrStream;
use protocol::postfix::bounce::{BounceRequest, CLEAN, DELETE_RECIPIENTS, Notice};
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::delivery::flags::{RECORD, USER_VERIFY};
use protocol::postfix::{Dialect, Dsn, Recipient, greeting, protocols, status_reply};
use queue::{Lock, LogEntry, LogKind, Queue, QueueDirectory, QueueFile};
use tokio::io::{AsyncRead, AsyncWrite};

use super::letters::{Answer, Letter, Report};
use super::notice::Text;
use super::original::{MessageId, Original};
use super::template::Kind;
use super::{Settings, mail};
use crate::scheduler::log::Log;
use crate::verp;

/// SMTPUTF8 among the options of a request: the sender asked for it.
const UTF8_REQUESTED: u32 = 1;

/// One of the three services.
pub struct Server {
    kind: LogKind,
    settings: Settings,
    queue: QueueDirectory,
    dialect: Dialect,
    log: Arc<Log>,
}

impl Server {
    #[must_use]
    pub const fn new(
        kind: LogKind,
        settings: Settings,
        queue: QueueDirectory,
        dialect: Dialect,
        log: Arc<Log>,
    ) -> Self {
        Self { kind, settings, queue, dialect, log }
    }

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
                self.append(queue_id, LogEntry { recipient, dsn }).await
            }
            BounceRequest::Flush(notice) => self.flush(&notice, None).await,
            BounceRequest::Verp(notice, delimiters) => self.flush(&notice, Some(&delimiters)).await,
            BounceRequest::Warn(notice) => {
                let report = self.report(&notice.queue_id).await?;
                self.tell(Kind::Delay, &notice, &report).await.map(|_| ())
            }
            BounceRequest::One { notice, recipient, dsn } => {
                self.one(&notice, recipient, dsn).await
            }
            BounceRequest::Trace(notice) => {
                let asked = notice.flags & (USER_VERIFY | RECORD) != 0;
                let kind = if asked { Kind::Verify } else { Kind::Success };
                let report = self.report(&notice.queue_id).await?;
                match self.tell(kind, &notice, &report).await? {
                    Told::Forget => self.remove_log(&notice.queue_id).await,
                    Told::Keep => Ok(()),
                }
            }
        }
    }

    async fn append(self: Arc<Self>, queue_id: QueueId, mut entry: LogEntry) -> Result<(), String> {
        if !self.settings.host.utf8 {
            each_text(&mut entry, |text| {
                if !text.is_ascii() {
                    *text = text
                        .bytes()
                        .map(|octet| if octet < 0x80 { char::from(octet) } else { '?' })
                        .collect();
                }
            });
        }
        let (server, id) = (Arc::clone(&self), queue_id.clone());
        let append = blocking(move || {
            server.queue.append_log(server.kind, &id, &entry, server.settings.old_style_logs)
        });
        let kind = self.kind.directory();
        append.await.map_err(|error| format!("{queue_id}: append {kind} log: {error}"))
    }

    /// Returns the message, then forgets the log, which was all that still named these recipients.
    async fn flush(&self, notice: &Notice, verp: Option<&str>) -> Result<(), String> {
        let report = self.report(&notice.queue_id).await?;
        let ordinary =
            notice.sender.is_empty() || self.settings.readers.is_double_bounce(&notice.sender);
        let told = match verp {
            Some(delimiters) if !ordinary => self.tell_each(notice, delimiters, &report).await,
            Some(_) => {
                self.log.warning("request to send VERP-style notification of bounced mail");
                self.tell(Kind::Failure, notice, &report).await.map(|_| ())
            }
            None => self.tell(Kind::Failure, notice, &report).await.map(|_| ()),
        };
        if told.is_err() && notice.flags & CLEAN != 0 {
            self.remove_log(&notice.queue_id).await?;
        }
        told?;
        if notice.flags & DELETE_RECIPIENTS != 0
            && let Report::Recipients(entries) = &report
        {
            self.mark_done(notice, entries).await?;
        }
        self.remove_log(&notice.queue_id).await
    }

    /// A failure that stands in no log.
    async fn one(&self, notice: &Notice, recipient: Recipient, dsn: Dsn) -> Result<(), String> {
        if self.kind != LogKind::Bounce {
            let name = self.kind.directory();
            return Err(format!("wrong service name \"{name}\" for one-recipient bouncing"));
        }
        let entries = vec![cleaned(LogEntry { recipient, dsn })];
        let report = Report::Recipients(entries.clone());
        self.tell(Kind::Failure, notice, &report).await?;
        if notice.flags & DELETE_RECIPIENTS != 0 {
            self.mark_done(notice, &entries).await?;
        }
        Ok(())
    }

    /// One notice for each recipient, to an address that names it.
    async fn tell_each(
        &self,
        notice: &Notice,
        delimiters: &str,
        report: &Report,
    ) -> Result<(), String> {
        let lost;
        let entries = match report {
            Report::Recipients(entries) => entries,
            Report::Lost => {
                let address = "(recipient address unavailable)".to_owned();
                let recipient = Recipient { address, ..Recipient::default() };
                let dsn = Dsn::local("5.0.0", "failed", "(error report unavailable)");
                lost = Report::Recipients(vec![LogEntry { recipient, dsn }]);
                return self.tell(Kind::Failure, notice, &lost).await.map(|_| ());
            }
        };
        let readers = &self.settings.readers;
        let original = self.original(notice).await?;
        for entry in entries {
            let one = Report::Recipients(vec![entry.clone()]);
            let answer = readers.answer(Kind::Failure, &notice.sender, notice.ret, &one);
            let Answer::Send(letters) = answer else { continue };
            for mut letter in letters {
                if letter.copy {
                    self.copy(Kind::Failure, notice, &original, &letter).await;
                    continue;
                }
                letter.to = verp::sender(delimiters, &notice.sender, &entry.recipient);
                self.post(Kind::Failure, notice, &original, &letter).await?;
            }
        }
        Ok(())
    }

    /// Posts the notices to whoever is to hear of it, if anybody is.
    async fn tell(&self, kind: Kind, notice: &Notice, report: &Report) -> Result<Told, String> {
        let id = &notice.queue_id;
        let nothing = *report == Report::Lost && kind != Kind::Failure;
        let told = match kind {
            Kind::Success | Kind::Verify if nothing => Told::Keep,
            _ => Told::Forget,
        };
        let letters = match self.settings.readers.answer(kind, &notice.sender, notice.ret, report) {
            Answer::Send(letters) => letters,
            Answer::Discard(line) => {
                self.log.warning(&format!("{id}: {line}"));
                return Ok(told);
            }
            Answer::Silent { line, forget } => {
                self.log.info(id, line);
                return Ok(if forget { Told::Forget } else { Told::Keep });
            }
        };
        if letters.is_empty() {
            return Ok(told);
        }
        let original = self.original(notice).await?;
        for letter in &letters {
            if letter.copy {
                self.copy(kind, notice, &original, letter).await;
            } else {
                self.post(kind, notice, &original, letter).await?;
            }
        }
        Ok(told)
    }

    /// The sender has been told; that is what counts.
    async fn copy(&self, kind: Kind, notice: &Notice, original: &Original, letter: &Letter) {
        if let Err(error) = self.post(kind, notice, original, letter).await {
            let doing = if kind == Kind::Delay { "warning" } else { "bouncing to" };
            let (id, sender) = (&notice.queue_id, &notice.sender);
            self.log.warning(&error);
            self.log.warning(&format!("{id}: postmaster notice failed while {doing} {sender}"));
        }
    }

    async fn post(
        &self,
        kind: Kind,
        notice: &Notice,
        original: &Original,
        letter: &Letter,
    ) -> Result<(), String> {
        let settings = &self.settings;
        let limit = settings.bounce_size_limit;
        let too_large =
            original.is_there() && limit > 0 && (original.size == 0 || original.size > limit);
        let (now, utf8) = (SystemClock.timestamp(), notice.sendopts & UTF8_REQUESTED != 0);
        let text = Text {
            host: &settings.host,
            kind,
            letter,
            id: &notice.queue_id,
            original,
            envelope_id: &notice.envelope_id,
            utf8,
            encoding: self.encoding(notice),
            headers_only: letter.headers_only || too_large,
            now: now.seconds,
        };
        let mut flags = CleanupFlags::INTERNAL;
        for (wanted, flag) in [
            (settings.filtered, CleanupFlags::FILTER.with(CleanupFlags::MILTER)),
            (utf8, CleanupFlags::SMTPUTF8),
        ] {
            if wanted {
                flags = flags.with(flag);
            }
        }
        let returned = original.content(text.headers_only).ok().filter(|_| original.is_there());
        let posted =
            mail::post(&settings.cleanup, settings.timeout, flags, now, &text, returned).await;
        let (id, what) = (&notice.queue_id, letter.what);
        match posted {
            Ok(new) => {
                self.log.info(id, &format!("{what}: {new}"));
                Ok(())
            }
            Err(error) => Err(format!("{id}: {what} failed: {error}")),
        }
    }

    /// With SMTPUTF8 in use, the notice's own texts are 8-bit whatever comes back.
    fn encoding(&self, notice: &Notice) -> Option<&'static str> {
        match notice.encoding.as_str() {
            _ if self.settings.host.utf8 => Some("8bit"),
            "8bit" => Some("8bit"),
            "7bit" => Some("7bit"),
            "" => None,
            other => {
                let (id, other) = (&notice.queue_id, other.escape_debug());
                self.log.warning(&format!("{id}: unknown encoding: {other:.200}"));
                None
            }
        }
    }

    async fn original(&self, notice: &Notice) -> Result<Original, String> {
        let (directory, queue, id) =
            (self.queue.clone(), notice.queue_name.clone(), notice.queue_id.clone());
        let myhostname = self.settings.host.myhostname.clone();
        let opened = blocking(move || Original::open(&directory, &queue, &id, &myhostname)).await;
        let original = opened.map_err(|error| {
            format!("{}: open {}: {error}", notice.queue_id, self.kind.directory())
        })?;
        if self.settings.host.threaded && original.message_id == MessageId::Malformed {
            let id = &notice.queue_id;
            self.log.warning(&format!("{id}: ignoring malformed Message-ID"));
        }
        Ok(original)
    }

    async fn report(&self, id: &QueueId) -> Result<Report, String> {
        let (queue, kind, name) = (self.queue.clone(), self.kind, id.clone());
        let read = blocking(move || {
            let there = queue.path_in(kind.directory(), &name).exists();
            Ok(there.then_some(queue.read_log(kind, &name)?))
        });
        match read.await {
            Ok(Some(entries)) => Ok(Report::Recipients(entries.into_iter().map(cleaned).collect())),
            Ok(None) => Ok(Report::Lost),
            Err(error) => Err(format!("{id}: read {} log: {error}", self.kind.directory())),
        }
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
            let file = match QueueFile::open(&directory, queue, &id, Lock::Shared) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                file => file?,
            };
            for offset in offsets {
                file.mark_done(offset).map_err(|error| io::Error::other(error.to_string()))?;
            }
            Ok(())
        });
        marked.await.map_err(|error| format!("{}: {error}", notice.queue_id))
    }
}

/// What becomes of the log of successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Forget,
    Keep,
}

/// Control characters in what other programs reported become `?`, as in the log files.
fn cleaned(mut entry: LogEntry) -> LogEntry {
    each_text(&mut entry, |text| {
        if text.contains(|c: char| c.is_control()) {
            *text = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        }
    });
    entry
}

fn each_text(entry: &mut LogEntry, change: impl Fn(&mut String)) {
    let LogEntry { recipient, dsn } = entry;
    let texts = [
        &mut recipient.original,
        &mut recipient.address,
        &mut recipient.dsn_original,
        &mut dsn.status,
        &mut dsn.diag_type,
        &mut dsn.diag_text,
        &mut dsn.mta_type,
        &mut dsn.mta_name,
        &mut dsn.action,
        &mut dsn.reason,
    ];
    texts.into_iter().for_each(change);
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
