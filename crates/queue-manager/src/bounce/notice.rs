//! The text of a delivery status notification (RFC 3464), as Postfix words it.

use std::time::Duration;

use mail_types::{Notify, QueueId, Timestamp, quote_822};
use queue::LogEntry;

/// What the notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failure,
    Delay,
    Success,
    /// `sendmail -bv` and `-v`.
    Verify,
}

/// Who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Sender,
    Postmaster,
}

/// What the texts take from the host.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Host {
    pub myhostname: String,
    pub myorigin: String,
    pub mail_name: String,
    pub delay_warning_time: Duration,
    pub maximal_queue_lifetime: Duration,
}

/// The message that the notice is about.
#[derive(Clone, Debug, Default)]
pub struct Original {
    pub sender: String,
    pub envelope_id: String,
    pub arrival: Timestamp,
    /// The sender asked for SMTPUTF8.
    pub utf8: bool,
    pub headers_only: bool,
    pub lines: Vec<Vec<u8>>,
}

impl Original {
    /// What a client of the service said about itself may not begin a line of the notice.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        clean(&mut self.sender);
        clean(&mut self.envelope_id);
        self
    }
}

/// Control characters in what other programs reported become `?`, as in the log files.
pub fn clean_entry(entry: &mut LogEntry) {
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
    texts.into_iter().for_each(clean);
}

fn clean(text: &mut String) {
    if text.contains(|c: char| c.is_control()) {
        *text = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    }
}

/// Columns of the reasons.
const WIDTH: usize = 79;
const INDENT: usize = 4;

/// Whether this recipient's sender wants to hear of it.
#[must_use]
pub fn wanted(kind: Kind, entry: &LogEntry) -> bool {
    let notify = Notify::from_bits(entry.recipient.notify).unwrap_or_default();
    match kind {
        Kind::Failure => notify.wants_failure(),
        Kind::Delay => notify.wants_delay(),
        Kind::Success => notify.wants_success(),
        Kind::Verify => true,
    }
}

/// All lines of a notice, from its first header field on.
#[must_use]
pub fn compose(
    kind: Kind,
    reader: Reader,
    host: &Host,
    to: &str,
    ids: (&QueueId, &QueueId),
    now: i64,
    original: &Original,
    entries: &[LogEntry],
) -> Vec<Vec<u8>> {
    let (id, original_id) = ids;
    let boundary = format!("{original_id}.{now}/{}", host.myhostname);
    let mut lines = Lines::default();
    lines.header(kind, reader, host, to, id, now, &boundary, original);
    lines.explanation(kind, host, &boundary, entries);
    lines.report(kind, host, &boundary, original_id, original, entries);
    lines.returned(kind, &boundary, original);
    lines.0
}

#[derive(Default)]
struct Lines(Vec<Vec<u8>>);

impl Lines {
    fn add(&mut self, line: impl Into<Vec<u8>>) {
        self.0.push(line.into());
    }

    fn header(
        &mut self,
        kind: Kind,
        reader: Reader,
        host: &Host,
        to: &str,
        id: &QueueId,
        now: i64,
        boundary: &str,
        original: &Original,
    ) {
        let date = message::date::format_with_zone(now);
        self.add(format!("Received: by {} ({})", host.myhostname, host.mail_name));
        self.add(format!("\tid {id}; {date}"));
        self.add(format!("Date: {date}"));
        self.add(format!("From: Mail Delivery System <MAILER-DAEMON@{}>", host.myorigin));
        self.add(format!("Subject: {}", subject(kind, reader)));
        self.add(format!("To: {}", quote_822(to)));
        self.add(match reader {
            Reader::Sender => "Auto-Submitted: auto-replied",
            Reader::Postmaster => "Auto-Submitted: auto-generated",
        });
        self.add("MIME-Version: 1.0");
        let report = if original.utf8 { "global-delivery-status" } else { "delivery-status" };
        self.add(format!("Content-Type: multipart/report; report-type={report};"));
        self.add(format!("\tboundary=\"{boundary}\""));
        self.add("Content-Transfer-Encoding: 8bit"); // the texts are UTF-8, whatever came back
        self.add("");
        self.add("This is a MIME-encapsulated message.");
        self.add("");
    }

    fn part(&mut self, boundary: &str, description: &str, kind: &str) {
        self.add(format!("--{boundary}"));
        self.add(format!("Content-Description: {description}"));
        self.add(format!("Content-Type: {kind}"));
        self.add("Content-Transfer-Encoding: 8bit");
        self.add("");
    }

    fn explanation(&mut self, kind: Kind, host: &Host, boundary: &str, entries: &[LogEntry]) {
        self.part(boundary, "Notification", "text/plain; charset=utf-8");
        for line in body(kind, host).lines() {
            self.add(line);
        }
        for entry in entries {
            self.add("");
            let (recipient, reason) = (&entry.recipient, &entry.dsn.reason);
            let address = shown(&recipient.address);
            let other = &recipient.original;
            let expanded = match other.is_empty() || other.eq_ignore_ascii_case(&recipient.address)
            {
                true => String::new(),
                false => format!(" (expanded from <{}>)", shown(other)),
            };
            self.wrapped(&format!("<{address}>{expanded}: {reason}"));
        }
        self.add("");
    }

    /// Breaks a text at its blanks; later lines are indented.
    fn wrapped(&mut self, text: &str) {
        let mut line = String::new();
        let mut width = WIDTH;
        for word in text.split([' ', '\t']) {
            let used = line.trim_start().len();
            if used > 0 && used + 1 + word.len() > width {
                self.add(line.trim_end());
                line = " ".repeat(INDENT);
                width = WIDTH - INDENT;
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.add(line.trim_end());
    }

    fn report(
        &mut self,
        kind: Kind,
        host: &Host,
        boundary: &str,
        id: &QueueId,
        original: &Original,
        entries: &[LogEntry],
    ) {
        let format = match original.utf8 {
            true => "message/global-delivery-status",
            false => "message/delivery-status",
        };
        let form = if original.utf8 { "utf-8" } else { "rfc822" };
        self.add(format!("--{boundary}"));
        self.add("Content-Description: Delivery report");
        self.add(format!("Content-Type: {format}"));
        self.add("");
        self.add(format!("Reporting-MTA: dns; {}", host.myhostname));
        if !original.envelope_id.is_empty() {
            self.add(format!("Original-Envelope-Id: {}", original.envelope_id));
        }
        self.add(format!("X-{}-Queue-ID: {id}", host.mail_name));
        if !original.sender.is_empty() {
            self.add(format!("X-{}-Sender: {form}; {}", host.mail_name, shown(&original.sender)));
        }
        let arrival = original.arrival.seconds;
        if arrival > 0 {
            self.add(format!("Arrival-Date: {}", message::date::format_with_zone(arrival)));
        }
        for LogEntry { recipient, dsn } in entries {
            self.add("");
            self.add(format!("Final-Recipient: {form}; {}", shown(&recipient.address)));
            if !recipient.dsn_original.is_empty() {
                self.add(format!("Original-Recipient: {}", recipient.dsn_original));
            }
            let action = if kind == Kind::Failure { "failed" } else { dsn.action.as_str() };
            self.add(format!("Action: {action}"));
            self.add(format!("Status: {}", dsn.status));
            if !dsn.mta_type.is_empty() && !dsn.mta_name.is_empty() {
                self.add(format!("Remote-MTA: {}; {}", dsn.mta_type, dsn.mta_name));
            }
            if !dsn.diag_type.is_empty() && !dsn.diag_text.is_empty() {
                self.wrapped(&format!("Diagnostic-Code: {}; {}", dsn.diag_type, dsn.diag_text));
            } else {
                let name = &host.mail_name;
                self.wrapped(&format!("Diagnostic-Code: X-{name}; {}", dsn.reason));
            }
            if kind == Kind::Delay {
                let lifetime = i64::try_from(host.maximal_queue_lifetime.as_secs()).unwrap_or(0);
                let until = message::date::format_with_zone(arrival.saturating_add(lifetime));
                self.add(format!("Will-Retry-Until: {until}"));
            }
        }
        self.add("");
    }

    fn returned(&mut self, kind: Kind, boundary: &str, original: &Original) {
        let word = if kind == Kind::Failure { "Undelivered " } else { "" };
        let (description, format) = match (original.headers_only, original.utf8) {
            (true, false) => (format!("{word}Message Headers"), "text/rfc822-headers"),
            (true, true) => (format!("{word}Message Headers"), "message/global-headers"),
            (false, false) => (format!("{word}Message"), "message/rfc822"),
            (false, true) => (format!("{word}Message"), "message/global"),
        };
        self.part(boundary, &description, format);
        self.add(format!("Return-Path: <{}>", shown(&original.sender)));
        for line in &original.lines {
            if original.headers_only && line.is_empty() {
                break;
            }
            self.add(line.clone());
        }
        self.add("");
        self.add(format!("--{boundary}--"));
    }
}

fn shown(address: &str) -> String {
    if address.is_empty() { String::new() } else { quote_822(address) }
}

fn subject(kind: Kind, reader: Reader) -> &'static str {
    match (kind, reader) {
        (Kind::Failure, Reader::Sender) => "Undelivered Mail Returned to Sender",
        (Kind::Failure, Reader::Postmaster) => "Postmaster Copy: Undelivered Mail",
        (Kind::Delay, Reader::Sender) => "Delayed Mail (still being retried)",
        (Kind::Delay, Reader::Postmaster) => "Postmaster Warning: Delayed Mail",
        (Kind::Success, _) => "Successful Mail Delivery Report",
        (Kind::Verify, _) => "Mail Delivery Status Report",
    }
}

fn body(kind: Kind, host: &Host) -> String {
    let first = format!("This is the mail system at host {}.\n\n", host.myhostname);
    let end = "                   The mail system\n";
    let help = "For further assistance, please send mail to postmaster.\n\n\
                If you do so, please include this problem report. You can\n\
                delete your own text from the attached returned message.\n\n";
    match kind {
        Kind::Failure => format!(
            "{first}I'm sorry to have to inform you that your message could not\n\
             be delivered to one or more recipients. It's attached below.\n\n{help}{end}"
        ),
        Kind::Delay => {
            let rule = "#".repeat(68);
            let hours = host.delay_warning_time.as_secs() / 3600;
            let days = host.maximal_queue_lifetime.as_secs() / 86_400;
            format!(
                "{first}{rule}\n\
                 # THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #\n{rule}\n\n\
                 Your message could not be delivered for more than {hours} hour(s).\n\
                 It will be retried until it is {days} day(s) old.\n\n{help}{end}"
            )
        }
        Kind::Success => format!(
            "{first}Your message was successfully delivered to the destination(s)\n\
             listed below. If the message was delivered to mailbox you will\n\
             receive no further notifications. Otherwise you may still receive\n\
             notifications of mail delivery errors from other systems.\n\n{end}"
        ),
        Kind::Verify => {
            format!("{first}Enclosed is the mail delivery report that you requested.\n\n{end}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::postfix::{Dsn, Recipient};

    /// The lines of a notice of Postfix 3.7.11 for the same failure.
    #[test]
    fn a_failure_is_told_in_postfix_words() {
        let host = Host {
            myhostname: "mail.example.test".into(),
            myorigin: "mail.example.test".into(),
            mail_name: "Postfix".into(),
            delay_warning_time: Duration::ZERO,
            maximal_queue_lifetime: Duration::from_secs(432_000),
        };
        let entry = LogEntry {
            recipient: Recipient {
                address: "bad1@sink.test".into(),
                dsn_original: "rfc822;bad1@sink.test".into(),
                ..Recipient::default()
            },
            dsn: Dsn {
                status: "5.1.1".into(),
                diag_type: "smtp".into(),
                diag_text: "550 5.1.1 <bad1@sink.test> no such user here".into(),
                mta_type: "dns".into(),
                mta_name: "127.0.0.1".into(),
                action: "failed".into(),
                reason: "host 127.0.0.1[127.0.0.1] said: 550 5.1.1 <bad1@sink.test> no such \
                         user here (in reply to RCPT TO command)"
                    .into(),
            },
        };
        let original = Original {
            sender: "pfxbob@mail.example.test".into(),
            envelope_id: "abc+".into(),
            headers_only: true,
            lines: [&b"Received: from c.test (localhost [127.0.0.1])"[..], b"", b"body"]
                .map(<[u8]>::to_vec)
                .to_vec(),
            ..Original::default()
        };
        let (new, old) =
            (QueueId::parse("7FB609A449F").unwrap(), QueueId::parse("E7C8A9A4497").unwrap());
        let to = "pfxbob@mail.example.test";
        let lines = compose(
            Kind::Failure,
            Reader::Sender,
            &host,
            to,
            (&new, &old),
            1_795_295_949,
            &original,
            &[entry],
        );
        let text: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        let text = text.join("\n");
        assert!(text.starts_with("Received: by mail.example.test (Postfix)\n\tid 7FB609A449F; "));
        let text = text.split_once("From: ").unwrap().1;
        insta::assert_snapshot!(text);
    }

    #[test]
    fn only_those_who_want_it_are_told() {
        let entry = |notify| LogEntry {
            recipient: Recipient { notify, ..Recipient::default() },
            dsn: Dsn::default(),
        };
        for (kind, notify, told) in [
            (Kind::Failure, 0, true),
            (Kind::Failure, 1, false),
            (Kind::Failure, 2, false),
            (Kind::Failure, 4, true),
            (Kind::Delay, 0, true),
            (Kind::Delay, 4, false),
            (Kind::Success, 0, false),
            (Kind::Success, 2, true),
            (Kind::Verify, 1, true),
        ] {
            assert_eq!(wanted(kind, &entry(notify)), told, "{kind:?} {notify}");
        }
    }
}
