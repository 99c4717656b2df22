//! A message on its way into the queue: records in, octets of a queue file out.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use mail_types::{QueueId, Timestamp, quote_822};
use protocol::postfix::Recipient;
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus, Outcome};
use protocol::postfix::record::{self, Record, RecordType};
use queue::edit::{self, EditPoints, Point};
use queue::{NewFile, Queue, SizeRecord};
use routing::rewrite::Context;

use super::Service;
use super::content::Content;
use super::milters::Milters;

/// The message and all that is known of it.
pub(crate) struct Message {
    pub service: Arc<Service>,
    pub id: QueueId,
    pub created: Timestamp,
    pub flags: CleanupFlags,
    pub status: CleanupStatus,
    pub reason: String,
    pub envelope: Envelope,
    pub content: Content,
    pub size: SizeRecord,
    pub milters: Milters,
    /// Where the file can be edited; kept when there are milters.
    pub points: EditPoints,
    stage: Stage,
    output: Vec<u8>,
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Envelope,
    Content,
    Extracted,
    Ended,
}

/// What the envelope has told so far.
#[derive(Default)]
pub(crate) struct Envelope {
    pub arrival: Option<Timestamp>,
    pub sender: Option<String>,
    pub full_name: String,
    /// `name[address]` of the client, for log lines.
    pub origin: String,
    pub protocol: String,
    pub helo: String,
    /// Attributes about the client that filters want to know.
    pub client: BTreeMap<String, String>,
    /// As they were when our own filters heard of the client.
    pub milter_client: Option<BTreeMap<String, String>>,
    /// Which addresses in the header are rewritten, and how.
    pub context: Option<Context>,
    pub encoding: String,
    pub envelope_id: String,
    pub ret: u32,
    pub last_recipient: Option<String>,
    /// Belongs to the next recipient.
    pub pending: Pending,
    /// Recipients have begun.
    pub recipients_begun: bool,
    pub warn_seen: bool,
    /// Of header and body checks; written behind the content.
    pub filter: Option<String>,
    pub redirect: Option<String>,
    pub bcc: Vec<String>,
    pub seen: HashSet<String>,
    /// For a bounce, which needs them one by one.
    pub written: Vec<Recipient>,
}

#[derive(Default)]
pub(crate) struct Pending {
    pub original: Option<String>,
    pub dsn_original: String,
    pub notify: u32,
}

/// How it ends.
pub(crate) enum Verdict {
    Queue {
        /// The size record, as octets for the beginning of the file.
        size: Vec<u8>,
        queue: Queue,
    },
    /// Say that it is queued, and forget it.
    Discard,
    Refuse(Outcome),
}

impl Message {
    pub fn new(service: Arc<Service>, file: &NewFile, flags: CleanupFlags) -> Self {
        let mut message = Self {
            id: file.id().clone(),
            created: file.created(),
            flags,
            status: CleanupStatus::OK,
            reason: String::new(),
            envelope: Envelope { context: Some(Context::Local), ..Envelope::default() },
            content: Content::default(),
            size: SizeRecord::default(),
            milters: Milters::own(&service, flags),
            points: EditPoints::default(),
            stage: Stage::Envelope,
            output: Vec::new(),
            written: 0,
            service,
        };
        let place = message.size.print();
        message.put(RecordType::SIZE, place.as_bytes());
        message
    }

    /// Takes the next record of the client.
    pub async fn take(&mut self, record: Record) {
        match (self.stage, record.kind) {
            (Stage::Envelope, RecordType::MESSAGE) => self.begin_content().await,
            (Stage::Envelope, _) => self.envelope_record(record).await,
            (Stage::Content, RecordType::EXTRACTED) => self.begin_extracted().await,
            (Stage::Content, RecordType::LINE | RecordType::CONTINUED) => {
                if self.writes() {
                    self.content_record(record).await;
                }
            }
            (Stage::Extracted, RecordType::END) => {
                self.end_extracted().await;
                self.stage = Stage::Ended;
            }
            (Stage::Extracted, _) => self.extracted_record(record).await,
            (stage, kind) => {
                self.warn(&format!(
                    "message rejected: unexpected record type {kind:?} in {stage:?}"
                ));
                self.status.add(CleanupStatus::BAD);
            }
        }
    }

    /// Nothing that the client may still send can change the outcome.
    pub fn is_over(&self) -> bool {
        self.status.contains(CleanupStatus::BAD)
    }

    /// Whether the client has not begun with the content.
    pub fn is_in_envelope(&self) -> bool {
        self.stage == Stage::Envelope
    }

    /// Whether it is here whole, with nothing against it so far.
    pub fn is_complete(&self) -> bool {
        self.stage == Stage::Ended && self.writes() && self.size.recipients > 0
    }

    async fn begin_content(&mut self) {
        self.begin_recipients();
        if self.size.recipients > 0 {
            self.recipient_point();
        }
        if self.status.is_ok() {
            self.put(RecordType::MESSAGE, b"");
            self.size.data_offset = i64::try_from(self.written).unwrap_or(0);
            self.points.data = self.written;
        }
        self.stage = Stage::Content;
    }

    async fn begin_extracted(&mut self) {
        self.end_content().await;
        if self.has_milters() {
            self.put_pointer(); // or a short body could not be replaced
        }
        self.points.extracted = self.written;
        let length = self.written.saturating_sub(u64::try_from(self.size.data_offset).unwrap_or(0));
        self.size.content_length = i64::try_from(length).unwrap_or(0);
        self.size.message_size = self.size.content_length;
        self.put(RecordType::EXTRACTED, b"");
        self.stage = Stage::Extracted;
    }

    /// What becomes of the message; called once, after the last record.
    pub async fn finish(&mut self) -> Verdict {
        if self.stage != Stage::Ended {
            self.status.add(CleanupStatus::BAD);
        }
        if self.flags.contains(CleanupFlags::DISCARD) {
            return Verdict::Discard;
        }
        if self.status.is_ok() && self.size.recipients == 0 {
            self.status.add(CleanupStatus::RCPT);
        }
        if !self.status.is_ok() {
            let reason = std::mem::take(&mut self.reason);
            return Verdict::Refuse(Outcome { status: self.status, reason });
        }
        let mut size = Vec::new();
        record::write(&mut size, RecordType::SIZE, self.size.print().as_bytes());
        let held = self.flags.contains(CleanupFlags::HOLD);
        Verdict::Queue { size, queue: if held { Queue::Hold } else { Queue::Incoming } }
    }

    /// Whether records still go to the file.
    pub fn writes(&self) -> bool {
        self.status.is_ok() && !self.flags.contains(CleanupFlags::DISCARD)
    }

    /// Appends a record to the file, as long as there is a file to be.
    pub fn put(&mut self, kind: RecordType, data: &[u8]) {
        if !self.writes() {
            return;
        }
        let before = self.output.len();
        record::write(&mut self.output, kind, data);
        self.count(before);
    }

    pub fn put_attribute(&mut self, name: &str, value: &str) {
        if !self.writes() {
            return;
        }
        let before = self.output.len();
        record::write_attribute(&mut self.output, name, value);
        self.count(before);
    }

    /// Appends a sender, with room for a pointer where it may be changed.
    pub fn put_sender(&mut self, sender: &str) {
        self.points.sender.at = self.written;
        self.put(RecordType::SENDER, sender.as_bytes());
        if self.has_milters() {
            self.put_padding(RecordType::POINTER, sender.len());
        }
        self.points.sender.target = self.written;
    }

    /// Room for a pointer over a record with so much data.
    pub fn put_padding(&mut self, kind: RecordType, length: usize) {
        if self.writes() {
            let before = self.output.len();
            edit::write_padding(&mut self.output, kind, length);
            self.count(before);
        }
    }

    /// A pointer that leads nowhere yet.
    fn put_pointer(&mut self) -> Point {
        let at = self.written;
        if self.writes() {
            let before = self.output.len();
            edit::write_dummy(&mut self.output);
            self.count(before);
        }
        Point { at, target: self.written }
    }

    /// The place for more recipients: once, behind those of the envelope or else at the end.
    pub fn recipient_point(&mut self) {
        if self.has_milters() && self.points.recipients == Point::default() {
            self.points.recipients = self.put_pointer();
        }
    }

    /// The place for more header fields, behind the last one.
    pub fn header_point(&mut self) {
        if self.has_milters() {
            self.points.header = self.put_pointer();
        }
    }

    /// Records of the milter stage go to the end of the file, which is here now.
    pub fn continue_at(&mut self, end: u64) {
        self.written = end;
    }

    pub const fn length(&self) -> u64 {
        self.written
    }

    /// Appends a piece of content; what is too long is cut.
    pub fn put_text(&mut self, kind: RecordType, mut text: &[u8]) {
        let longest = self.service.settings.limits.line_length.max(1);
        while text.len() > longest {
            let (piece, rest) = text.split_at(longest);
            self.put(RecordType::CONTINUED, piece);
            text = rest;
        }
        self.put(kind, text);
    }

    fn count(&mut self, before: usize) {
        self.written += (self.output.len() - before) as u64;
        let limit = self.service.settings.limits.message_size;
        if limit > 0 && self.written > limit {
            self.warn("queue file size limit exceeded");
            self.status.add(CleanupStatus::SIZE);
            self.output.clear();
        }
    }

    pub fn output(&self) -> &[u8] {
        &self.output
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub fn write_failed(&mut self, error: &io::Error) {
        self.warn(&format!("write queue file: {error}"));
        self.status.add(CleanupStatus::WRITE);
    }

    pub fn warn(&self, text: &str) {
        let id = &self.id;
        tracing::warn!(target: "mail", ident = self.service.ident, queue_id = %id, "warning: {id}: {text}");
    }

    pub fn info(&self, text: &str) {
        let id = &self.id;
        tracing::info!(target: "mail", ident = self.service.ident, queue_id = %id, "{id}: {text}");
    }

    /// `from ORIGIN; from=<…> to=<…>`: the end of a line about MIME.
    pub fn parties(&self) -> String {
        let envelope = &self.envelope;
        let origin = if envelope.origin.is_empty() { "unknown" } else { &envelope.origin };
        let sender = envelope.sender.as_deref().unwrap_or_default();
        let recipient = envelope.last_recipient.as_deref().unwrap_or("unknown");
        format!("from {origin}; from=<{sender}> to=<{recipient}>")
    }

    /// ` from <origin>; from=<…> to=<…> proto=… helo=<…>`: the end of a line about a check.
    pub fn circumstances(&self) -> String {
        let origin = if self.envelope.origin.is_empty() { "local" } else { &self.envelope.origin };
        format!("from {origin};{}", self.whose())
    }

    /// ` from=<…> to=<…> proto=… helo=<…>`
    pub fn whose(&self) -> String {
        use std::fmt::Write as _;
        let envelope = &self.envelope;
        let mut text = String::new();
        let external =
            |address: &String| if address.is_empty() { String::new() } else { quote_822(address) };
        if let Some(sender) = &envelope.sender {
            let _ = write!(text, " from=<{}>", external(sender));
        }
        if let Some(recipient) = &envelope.last_recipient {
            let _ = write!(text, " to=<{}>", external(recipient));
        }
        if !envelope.protocol.is_empty() {
            let _ = write!(text, " proto={}", envelope.protocol);
        }
        if !envelope.helo.is_empty() {
            let _ = write!(text, " helo=<{}>", envelope.helo);
        }
        text
    }
}
