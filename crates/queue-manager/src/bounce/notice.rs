//! The text of a delivery status notification (RFC 3464), as Postfix words it, around the message that
//! comes back.

use std::time::Duration;

use mail_types::{QueueId, quote_822};
use queue::LogEntry;

use super::letters::{Letter, Report};
use super::original::{MessageId, Original};
use super::template::{Kind, Templates};

/// What the texts take from the host.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Host {
    pub myhostname: String,
    pub mail_name: String,
    pub maximal_queue_lifetime: Duration,
    /// `smtputf8_enable`: whatever comes back, the texts are UTF-8.
    pub utf8: bool,
    /// Notices name the message that they are about in References.
    pub threaded: bool,
    pub templates: Templates,
}

/// Columns of the reasons.
const WIDTH: usize = 79;
const INDENT: usize = 4;

/// Everything that one notice is made of but the message itself.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    pub host: &'a Host,
    pub kind: Kind,
    pub letter: &'a Letter,
    /// The message that it is about.
    pub id: &'a QueueId,
    pub original: &'a Original,
    pub envelope_id: &'a str,
    /// The sender asked for SMTPUTF8.
    pub utf8: bool,
    /// Content-Transfer-Encoding, if the original said anything of its own.
    pub encoding: Option<&'static str>,
    pub headers_only: bool,
    /// Seconds since the epoch.
    pub now: i64,
}

/// Lines in their order.
#[derive(Default)]
struct Lines(Vec<Vec<u8>>);

impl Lines {
    fn add(&mut self, line: impl Into<Vec<u8>>) {
        self.0.push(line.into());
    }
}

impl Text<'_> {
    /// The lines before the message that comes back. `new` is the notice's own queue id.
    #[must_use]
    pub fn head(&self, new: &QueueId) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        self.header(&mut lines, new);
        self.explanation(&mut lines);
        self.delivery_status(&mut lines);
        self.returned(&mut lines);
        lines.0
    }

    /// The lines after it.
    #[must_use]
    pub fn tail(&self) -> Vec<Vec<u8>> {
        let end = format!("--{}--", self.boundary()).into_bytes();
        match self.original.is_there() {
            true => vec![Vec::new(), end],
            false => vec![b"\t--- Undelivered message unavailable ---".to_vec(), Vec::new(), end],
        }
    }

    fn boundary(&self) -> String {
        format!("{}.{}/{}", self.id, self.now, self.host.myhostname)
    }

    fn header(&self, lines: &mut Lines, new: &QueueId) {
        let Self { host, letter, .. } = self;
        let template = host.templates.of(self.kind);
        let date = message::date::format_with_zone(self.now);
        let subject = match &template.postmaster_subject {
            Some(subject) if letter.postmaster => subject,
            _ => &template.subject,
        };
        lines.add(format!("Received: by {} ({})", host.myhostname, host.mail_name));
        lines.add(format!("\tid {new}; {date}"));
        lines.add(format!("Date: {date}"));
        lines.add(format!("From: {}", template.from));
        lines.add(format!("Subject: {subject}"));
        lines.add(format!("To: {}", quote_822(&one_line(&letter.to))));
        if let MessageId::Id(id) = &self.original.message_id
            && host.threaded
        {
            lines.add(format!("References: {id}"));
            lines.add(format!("In-Reply-To: {id}"));
        }
        lines.add(match letter.postmaster {
            false => "Auto-Submitted: auto-replied",
            true => "Auto-Submitted: auto-generated",
        });
        lines.add("MIME-Version: 1.0");
        lines.add("Content-Type: multipart/report; report-type=delivery-status;");
        lines.add(format!("\tboundary=\"{}\"", self.boundary()));
        if let Some(encoding) = self.encoding {
            lines.add(format!("Content-Transfer-Encoding: {encoding}"));
        }
        lines.add("");
        lines.add("This is a MIME-encapsulated message.");
    }

    fn part(&self, lines: &mut Lines, description: &str) {
        lines.add("");
        lines.add(format!("--{}", self.boundary()));
        lines.add(format!("Content-Description: {description}"));
    }

    fn part_encoding(&self, lines: &mut Lines) {
        if let Some(encoding) = self.encoding.filter(|&encoding| encoding != "7bit") {
            lines.add(format!("Content-Transfer-Encoding: {encoding}"));
        }
    }

    fn explanation(&self, lines: &mut Lines) {
        let template = self.host.templates.of(self.kind);
        self.part(lines, "Notification");
        let eight_bit = self.encoding.is_some_and(|encoding| encoding != "7bit");
        let charset = match template.charset.as_str() {
            own if eight_bit && own.eq_ignore_ascii_case("us-ascii") => "utf-8",
            own => own,
        };
        lines.add(format!("Content-Type: text/plain; charset={charset}"));
        self.part_encoding(lines);
        lines.add("");
        if self.letter.explained {
            template.lines().for_each(|line| lines.add(line));
        }
        let entries = match &self.letter.report {
            Report::Recipients(entries) => entries,
            Report::Lost => {
                lines.add("");
                lines.add("\t--- Delivery report unavailable ---");
                return;
            }
        };
        for LogEntry { recipient, dsn } in entries {
            lines.add("");
            let address = shown(&recipient.address);
            let expanded = match recipient.original.as_str() {
                "" => String::new(),
                original => format!(" (expanded from <{}>)", shown(original)),
            };
            wrapped(lines, &format!("<{address}>{expanded}: {}", dsn.reason));
        }
    }

    fn delivery_status(&self, lines: &mut Lines) {
        let Self { host, original, .. } = self;
        self.part(lines, "Delivery report");
        if self.utf8 {
            lines.add("Content-Type: message/global-delivery-status");
            self.part_encoding(lines);
        } else {
            lines.add("Content-Type: message/delivery-status");
        }
        lines.add("");
        let name = self.field_name();
        lines.add(format!("Reporting-MTA: dns; {}", host.myhostname));
        if !self.envelope_id.is_empty() {
            lines.add(format!("Original-Envelope-Id: {}", one_line(self.envelope_id)));
        }
        lines.add(format!("X-{name}-Queue-ID: {}", self.id));
        if !original.sender.is_empty() {
            lines.add(format!("X-{name}-Sender: {}", self.typed(&original.sender)));
        }
        if original.arrival > 0 {
            let date = message::date::format_with_zone(original.arrival);
            lines.add(format!("Arrival-Date: {date}"));
        }
        if let Report::Recipients(entries) = &self.letter.report {
            entries.iter().for_each(|entry| self.recipient(lines, entry));
        }
    }

    fn recipient(&self, lines: &mut Lines, LogEntry { recipient, dsn }: &LogEntry) {
        lines.add("");
        lines.add(format!("Final-Recipient: {}", self.typed(&shown(&recipient.address))));
        if !recipient.dsn_original.is_empty() {
            lines.add(format!("Original-Recipient: {}", recipient.dsn_original));
        } else if !recipient.original.is_empty() {
            lines.add(format!("Original-Recipient: {}", self.typed(&shown(&recipient.original))));
        }
        let action = if self.kind == Kind::Failure { "failed" } else { dsn.action.as_str() };
        lines.add(format!("Action: {action}"));
        lines.add(format!("Status: {}", dsn.status));
        if !dsn.mta_type.is_empty() && !dsn.mta_name.is_empty() {
            wrapped(lines, &format!("Remote-MTA: {}; {}", dsn.mta_type, dsn.mta_name));
        }
        if !dsn.diag_type.is_empty() && !dsn.diag_text.is_empty() {
            wrapped(lines, &format!("Diagnostic-Code: {}; {}", dsn.diag_type, dsn.diag_text));
        } else {
            let name = self.field_name();
            wrapped(lines, &format!("Diagnostic-Code: X-{name}; {}", dsn.reason));
        }
        if self.kind == Kind::Delay {
            let lifetime = self.host.maximal_queue_lifetime.as_secs();
            let until = self.original.arrival.saturating_add_unsigned(lifetime);
            lines.add(format!("Will-Retry-Until: {}", message::date::format_with_zone(until)));
        }
    }

    fn returned(&self, lines: &mut Lines) {
        let undelivered = match self.kind {
            Kind::Failure | Kind::Delay => "Undelivered ",
            Kind::Success | Kind::Verify => "",
        };
        let what = if self.headers_only { "Message Headers" } else { "Message" };
        self.part(lines, &format!("{undelivered}{what}"));
        lines.add(match (self.headers_only, self.utf8) {
            (true, false) => "Content-Type: text/rfc822-headers",
            (true, true) => "Content-Type: message/global-headers",
            (false, false) => "Content-Type: message/rfc822",
            (false, true) => "Content-Type: message/global",
        });
        self.part_encoding(lines);
        lines.add("");
        if self.original.is_there() {
            lines.add(format!("Return-Path: <{}>", self.original.sender));
        }
    }

    /// An address with its type (RFC 6533 section 3).
    fn typed(&self, address: &str) -> String {
        let form = if self.utf8 && !address.is_ascii() { "utf-8" } else { "rfc822" };
        format!("{form}; {address}")
    }

    /// `mail_name` as the atom that stands in names of fields.
    fn field_name(&self) -> String {
        let special = |c: char| " \t\r\n()<>@,;:\\\".[]".contains(c);
        self.host.mail_name.chars().map(|c| if special(c) { '-' } else { c }).collect()
    }
}

/// Breaks a text at its blanks; later lines are indented.
fn wrapped(lines: &mut Lines, text: &str) {
    message::wrap::wrapped(text, WIDTH, INDENT).into_iter().for_each(|line| lines.add(line));
}

/// As in the logs.
fn shown(address: &str) -> String {
    if address.is_empty() { "<>".to_owned() } else { quote_822(address) }
}

/// What a client of the service said may not begin a line of the notice.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
