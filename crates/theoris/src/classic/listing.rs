//! The queue as `mailq` and `postqueue -j` print it.

use std::fmt::Write as _;

use protocol::postfix::showq::{QueueEntry, QueueRecipient};

/// Width in which reasons are aligned to the right.
const REASON_WIDTH: usize = 76;

/// The text form, message by message.
#[derive(Debug, Default)]
pub struct Listing {
    /// `enable_long_queue_ids`.
    pub long_ids: bool,
    messages: u64,
    octets: u64,
}

impl Listing {
    #[must_use]
    pub const fn new(long_ids: bool) -> Self {
        Self { long_ids, messages: 0, octets: 0 }
    }

    /// One message, after the heading or an empty line.
    pub fn message(&mut self, entry: &QueueEntry) -> String {
        let mut text = if self.messages == 0 {
            if self.long_ids {
                self.line(
                    "----Queue ID-----",
                    "--Size--",
                    "---Arrival Time----",
                    "--Sender/Recipient------",
                )
            } else {
                self.line(
                    "-Queue ID-",
                    "--Size--",
                    "----Arrival Time----",
                    "-Sender/Recipient-------",
                )
            }
        } else {
            "\n".to_owned()
        };
        self.messages += 1;
        self.octets = self.octets.saturating_add(u64::try_from(entry.size).unwrap_or(0));
        let mut id = printable(&entry.queue_id);
        match entry.queue_name.as_str() {
            "active" => id.push('*'),
            "hold" => id.push('!'),
            _ => {}
        }
        if entry.forced_expire {
            id.push('#');
        }
        let time: String = message::date::format_ctime(entry.time)
            .chars()
            .take(if self.long_ids { 19 } else { 20 })
            .collect();
        text.push_str(&self.line(&id, &entry.size.to_string(), &time, &printable(&entry.sender)));
        let mut last = String::new();
        for recipient in &entry.recipients {
            if recipient.reason != last {
                text.push_str(&reason_line(&recipient.reason));
                last.clone_from(&recipient.reason);
            }
            text.push_str(&self.line("", "", "", &printable(&recipient.address)));
        }
        text
    }

    /// What stands below all messages.
    #[must_use]
    pub fn footer(&self) -> String {
        match self.messages {
            0 => "Mail queue is empty\n".to_owned(),
            count => {
                let plural = if count == 1 { "" } else { "s" };
                format!("\n-- {} Kbytes in {count} Request{plural}.\n", self.octets / 1024)
            }
        }
    }

    fn line(&self, id: &str, size: &str, time: &str, address: &str) -> String {
        if self.long_ids {
            format!("{id:<17} {size:>8} {time:<19} {address}\n")
        } else {
            format!("{id:<11} {size:>7} {time:<20} {address}\n")
        }
    }
}

fn reason_line(reason: &str) -> String {
    let reason =
        if reason.is_empty() { "reason unavailable".to_owned() } else { printable(reason) };
    let width = REASON_WIDTH.saturating_sub(reason.len());
    format!("{:width$}({reason})\n", "")
}

/// The JSON form of one message, on a line of its own.
#[must_use]
pub fn json(entry: &QueueEntry) -> String {
    let mut text = format!(
        "{{\"queue_name\": {}, \"queue_id\": {}, \"arrival_time\": {}, \"message_size\": {}, \"forced_expire\": {}, \"sender\": {}, \"recipients\": [",
        quoted(&entry.queue_name),
        quoted(&entry.queue_id),
        entry.time,
        entry.size,
        entry.forced_expire,
        quoted(&entry.sender)
    );
    for (index, recipient) in entry.recipients.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&json_recipient(recipient));
    }
    text.push_str("]}\n");
    text
}

fn json_recipient(recipient: &QueueRecipient) -> String {
    let mut text = String::from("{");
    if !recipient.original.is_empty() {
        let _ = write!(text, "\"orig_address\": {}, ", quoted(&recipient.original));
    }
    let _ = write!(text, "\"address\": {}", quoted(&recipient.address));
    if !recipient.reason.is_empty() {
        let name = match recipient.log_class.as_str() {
            "" | "defer" => "delay_reason",
            "bounce" => "bounce_reason",
            _ => "other_reason",
        };
        let _ = write!(text, ", \"{name}\": {}", quoted(&recipient.reason));
    }
    text.push('}');
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Senders and reasons come from strangers: nothing of theirs moves the operator's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(address: &str, reason: &str) -> QueueRecipient {
        QueueRecipient { address: address.into(), reason: reason.into(), ..Default::default() }
    }

    fn entries() -> [QueueEntry; 2] {
        let refused = "connect to 127.0.0.1[127.0.0.1]:1: Connection refused";
        let first = QueueEntry {
            queue_name: "deferred".into(),
            queue_id: "329C49A4498".into(),
            time: 1_795_295_949,
            size: 3250,
            forced_expire: false,
            sender: "pfxbob@mail.example.test".into(),
            recipients: vec![
                recipient("x@nohost.test", refused),
                recipient("y@nohost.test", refused),
                recipient("z@\u{1b}[2J", ""),
            ],
        };
        let second = QueueEntry {
            queue_name: "hold".into(),
            queue_id: "1D3C99A448A".into(),
            forced_expire: true,
            recipients: vec![recipient("pfxalice@mail.example.test", "")],
            sender: "hold@b.test".into(),
            ..first.clone()
        };
        [first, second]
    }

    #[test]
    fn the_text_is_that_of_mailq() {
        // The time zone is the machine's; its hours are not what this is about.
        let mut listing = Listing::new(false);
        let text: String = entries().iter().map(|entry| listing.message(entry)).collect();
        let time: String =
            message::date::format_ctime(entries()[0].time).chars().take(20).collect();
        let text = format!("{text}{}", listing.footer()).replace(&time, "Sat Nov 21 21:19:09 ");
        insta::assert_snapshot!(text);
        assert_eq!(Listing::new(false).footer(), "Mail queue is empty\n");
    }

    #[test]
    fn the_json_is_that_of_postqueue() {
        insta::assert_snapshot!(json(&entries()[0]));
    }
}
