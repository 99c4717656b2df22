//! The envelope segment, and the segment behind the content.

use mail_types::Timestamp;
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus};
use protocol::postfix::record::{Record, RecordType};
use queue::SizeRecord;
use routing::expand::Role;
use routing::rewrite::Context;

use super::message::Message;

/// `smtputf8` bits of the size record.
const UTF8_REQUESTED: i64 = 1;
const UTF8_HEADER: i64 = 2;
const UTF8_SENDER: i64 = 4;

/// What filters are told of the client.
const CLIENT: [&str; 11] = [
    "client_name",
    "reverse_client_name",
    "client_address",
    "client_port",
    "client_address_type",
    "server_address",
    "server_port",
    "helo_name",
    "sasl_method",
    "sasl_username",
    "sasl_sender",
];

impl Message {
    pub(super) async fn envelope_record(&mut self, record: Record) {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        match record.kind {
            RecordType::TIME => self.arrival(&text),
            RecordType::SENDER => self.sender(&text).await,
            RecordType::RECIPIENT => self.recipient(text).await,
            RecordType::ORIGINAL_RECIPIENT => self.envelope.pending.original = Some(text),
            // Of a message that came back from a queue: they are served already.
            RecordType::DONE | RecordType::CANCELLED => self.envelope.pending = Default::default(),
            RecordType::ATTRIBUTE => self.attribute(&text),
            RecordType::FULL_NAME => {
                self.put(record.kind, text.as_bytes());
                self.envelope.full_name = text;
            }
            RecordType::FILTER | RecordType::REDIRECT | RecordType::VERP => {
                self.other_record();
                self.put(record.kind, &record.data);
            }
            RecordType::WARN_TIME => {
                self.envelope.warn_seen = true;
                self.put(record.kind, &record.data);
            }
            RecordType::FLAGS => match text.trim().parse() {
                Ok(bits) => self.flags = self.flags.with(CleanupFlags(bits)),
                Err(_) => self.refuse_record(&record),
            },
            RecordType::SIZE
            | RecordType::CREATE_TIME
            | RecordType::DELAY
            | RecordType::INSPECTOR
            | RecordType::KILLED
            | RecordType::PADDING => {}
            _ => self.refuse_record(&record),
        }
    }

    /// Behind the content: recipients that `sendmail -t` found, and what checks asked for.
    pub(super) async fn extracted_record(&mut self, record: Record) {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        match record.kind {
            RecordType::RECIPIENT => self.recipient(text).await,
            RecordType::ORIGINAL_RECIPIENT => self.envelope.pending.original = Some(text),
            RecordType::DONE | RecordType::CANCELLED => self.envelope.pending = Default::default(),
            RecordType::ATTRIBUTE => self.attribute(&text),
            RecordType::FILTER | RecordType::REDIRECT => self.put(record.kind, &record.data),
            RecordType::FLAGS => match text.trim().parse() {
                Ok(bits) => self.flags = self.flags.with(CleanupFlags(bits)),
                Err(_) => self.refuse_record(&record),
            },
            RecordType::RETURN_RECEIPT_TO
            | RecordType::ERRORS_TO
            | RecordType::PRIORITY
            | RecordType::KILLED
            | RecordType::PADDING => {}
            _ => self.refuse_record(&record),
        }
    }

    fn refuse_record(&mut self, record: &Record) {
        self.warn(&format!("message rejected: unexpected record type {:?}", record.kind));
        self.status.add(CleanupStatus::BAD);
    }

    /// The first arrival time counts; our own creation time follows it.
    fn arrival(&mut self, text: &str) {
        if self.envelope.arrival.is_some() {
            return;
        }
        let mut words = text.split_ascii_whitespace();
        let seconds = words.next().and_then(|word| word.parse().ok());
        let micros = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let Some(seconds) = seconds else {
            self.warn("message rejected: malformed arrival time");
            self.status.add(CleanupStatus::BAD);
            return;
        };
        self.envelope.arrival = Some(Timestamp::new(seconds, micros));
        self.put(RecordType::TIME, text.as_bytes());
        self.put_attribute("create_time", &self.created.seconds.to_string());
    }

    async fn sender(&mut self, text: &str) {
        if self.envelope.sender.is_some() {
            self.warn("message rejected: multiple envelope sender records");
            self.status.add(CleanupStatus::BAD);
            return;
        }
        let sender = self.mapped(Role::Sender, "envelope_sender", self.rewritten(text)).await;
        self.put_sender(&sender);
        self.envelope.sender = Some(sender.clone());
        if self.flags.contains(CleanupFlags::BCC_OK) && !sender.is_empty() {
            let maps = self.service.settings.bcc.sender.clone();
            let found = self.service.routing.find_address(&maps, &sender).await;
            if let Some(bcc) = self.answered("sender_bcc_maps", found).flatten() {
                self.copy_to(&bcc.answer).await;
            }
        }
        self.tell_sender().await;
    }

    /// Attributes of the next recipient wait for it; the others are kept as they are.
    fn attribute(&mut self, text: &str) {
        let Some((name, value)) = text.split_once('=') else {
            self.warn(&format!("message rejected: malformed attribute: {text}"));
            self.status.add(CleanupStatus::BAD);
            return;
        };
        if value.is_empty() {
            self.warn(&format!("spurious null attribute value for {name:?} -- ignored"));
            return;
        }
        let envelope = &mut self.envelope;
        match name {
            "notify_flags" => return envelope.pending.notify = value.parse().unwrap_or(0),
            "dsn_orig_rcpt" => return value.clone_into(&mut envelope.pending.dsn_original),
            "create_time" => return,
            _ if CLIENT.contains(&name) => {
                envelope.client.insert(name.to_owned(), value.to_owned());
            }
            "log_message_origin" => value.clone_into(&mut envelope.origin),
            "log_protocol_name" => value.clone_into(&mut envelope.protocol),
            "log_helo_name" => value.clone_into(&mut envelope.helo),
            "encoding" => value.clone_into(&mut envelope.encoding),
            "envelope_id" => value.clone_into(&mut envelope.envelope_id),
            "ret_flags" => envelope.ret = value.parse().unwrap_or(0),
            "rewrite_context" => {
                let domain = &self.service.settings.routing.rewriting.remote_header_rewrite_domain;
                envelope.context = match value {
                    "local" => Some(Context::Local),
                    _ => Some(Context::Remote).filter(|_| !domain.is_empty()),
                };
            }
            _ => {}
        }
        self.other_record();
        self.put_attribute(name, value);
    }

    /// A record that is no recipient's, behind a recipient: qmgr must look through all of them.
    fn other_record(&mut self) {
        if self.envelope.recipients_begun {
            self.size.qmgr_flags |= SizeRecord::MIXED;
        }
    }

    /// The envelope is complete but for recipients.
    pub(super) fn begin_recipients(&mut self) {
        if self.envelope.recipients_begun {
            return;
        }
        self.envelope.recipients_begun = true;
        let missing = match (&self.envelope.sender, &self.envelope.arrival) {
            (None, _) => Some("sender"),
            (_, None) => Some("time"),
            _ => None,
        };
        if let Some(missing) = missing {
            self.warn(&format!("message rejected: missing {missing} envelope record"));
            self.status.add(CleanupStatus::BAD);
            return;
        }
        let delay = self.service.settings.delay_warning.as_secs();
        let sender_is_null = self.envelope.sender.as_deref().is_none_or(str::is_empty);
        if delay > 0 && !self.envelope.warn_seen && !sender_is_null {
            let arrival = self.envelope.arrival.unwrap_or(self.created).seconds;
            let warn = arrival.saturating_add(i64::try_from(delay).unwrap_or(i64::MAX));
            self.put(RecordType::WARN_TIME, format!("{warn:15}").as_bytes());
        }
    }

    /// The last records before the end.
    pub(super) async fn end_extracted(&mut self) {
        let encoding = std::mem::take(&mut self.envelope.encoding);
        if !encoding.is_empty() {
            self.put_attribute("encoding", &encoding);
        }
        if let Some(filter) = self.envelope.filter.take() {
            self.put(RecordType::FILTER, filter.as_bytes());
        }
        if let Some(redirect) = self.envelope.redirect.take() {
            self.put(RecordType::REDIRECT, redirect.as_bytes());
        }
        let always = self.service.settings.bcc.always.clone();
        let wanted = self.flags.contains(CleanupFlags::BCC_OK) && !always.is_empty();
        let mut copies: Vec<String> = Some(always).filter(|_| wanted).into_iter().collect();
        copies.append(&mut self.envelope.bcc);
        if self.size.recipients > 0 {
            for copy in copies {
                self.copy_to(&copy).await;
            }
        }
        self.utf8_flags();
        self.recipient_point();
        self.put(RecordType::END, b"");
    }

    fn utf8_flags(&mut self) {
        let sender = self.envelope.sender.as_deref().is_some_and(|sender| !sender.is_ascii());
        let found =
            i64::from(self.content.utf8_header) * UTF8_HEADER + i64::from(sender) * UTF8_SENDER;
        let requested = self.flags.contains(CleanupFlags::SMTPUTF8);
        let detected = self.flags.contains(CleanupFlags::AUTOUTF8) && found != 0;
        if self.service.settings.smtputf8 {
            self.size.smtputf8 = (i64::from(requested || detected) * UTF8_REQUESTED) | found;
        }
    }
}
