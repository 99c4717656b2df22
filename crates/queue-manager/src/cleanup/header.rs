//! Header fields: which are dropped, whose addresses are rewritten, and those that are missing.

use mail_types::quote_822;
use message::sections::Section;
use protocol::postfix::cleanup::CleanupStatus;
use protocol::postfix::record::RecordType;
use routing::expand::Role;
use routing::rewrite::Context;

use super::content::{field_name, first};
use super::message::Message;
use message::addresses;

const SENDERS: &[&str] = &[
    "from",
    "sender",
    "reply-to",
    "errors-to",
    "return-receipt-to",
    "return-path",
    "resent-from",
    "resent-sender",
    "resent-reply-to",
    "disposition-notification-to",
];
const RECIPIENTS: &[&str] = &[
    "to",
    "cc",
    "bcc",
    "apparently-to",
    "resent-to",
    "resent-cc",
    "resent-bcc",
    "mail-followup-to",
    "mail-reply-to",
];

impl Message {
    /// A field that has passed the checks: its lines divided by LF.
    pub(super) async fn header_field(&mut self, section: Section, field: Vec<u8>) {
        if section != Section::Primary {
            self.put_lines(&field);
            return;
        }
        let length = field_name(&field).unwrap_or(0);
        let name = String::from_utf8_lossy(field.get(..length).unwrap_or_default())
            .trim_end()
            .to_ascii_lowercase();
        let value = field.get(length + 1..).unwrap_or_default();
        self.note(&name, value);
        if name == "received" && self.content.hops == 1 {
            self.content.own_field.clone_from(&field);
        }
        if !self.writes() || self.service.settings.drop.contains(&name) {
            return;
        }
        let role = if SENDERS.contains(&name.as_str()) {
            Some((Role::Sender, "header_sender"))
        } else if RECIPIENTS.contains(&name.as_str()) {
            Some((Role::Recipient, "header_recipient"))
        } else {
            None
        };
        match (role, self.envelope.context) {
            (Some((role, class)), Some(context)) => {
                let rewritten = self.rewrite_field(&field, role, class, context).await;
                self.put_field(&rewritten);
            }
            _ => self.put_field(&field),
        }
    }

    /// Keeps in mind what the header has, and counts hops.
    fn note(&mut self, name: &str, value: &[u8]) {
        let seen = &mut self.content.seen;
        seen.resent |= name.starts_with("resent-");
        match name {
            "received" => {
                self.content.hops += 1;
                if self.content.hops > self.service.settings.limits.hops {
                    self.warn("message rejected: hopcount exceeded");
                    self.status.add(CleanupStatus::HOPS);
                }
            }
            "message-id" | "resent-message-id" => {
                let known = match name {
                    "message-id" => std::mem::replace(&mut seen.message_id, true),
                    _ => std::mem::replace(&mut seen.resent_message_id, true),
                };
                if !known {
                    let prefix = name.strip_suffix("message-id").unwrap_or_default();
                    let id = first(value.trim_ascii(), 2048);
                    self.info(&format!("{prefix}message-id={id}"));
                }
            }
            "date" => seen.date = true,
            "resent-date" => seen.resent_date = true,
            "from" => seen.from = true,
            "resent-from" => seen.resent_from = true,
            "to" | "cc" | "resent-to" | "resent-cc" => seen.visible_recipient = true,
            _ => {}
        }
    }

    async fn rewrite_field(
        &mut self,
        field: &[u8],
        role: Role,
        class: &str,
        context: Context,
    ) -> Vec<u8> {
        // Addresses are text; a field that is not stays as it is.
        let Ok(text) = std::str::from_utf8(field) else { return field.to_vec() };
        let value = text.find(':').map_or(0, |colon| colon + 1);
        let mut result = String::with_capacity(text.len());
        let mut done = 0;
        let most = self.service.settings.limits.addresses;
        for span in addresses::spans(text.get(value..).unwrap_or_default()).into_iter().take(most) {
            let (start, end) = (value + span.start, value + span.end);
            let Some(address) = text.get(start..end) else { continue };
            result.push_str(text.get(done..start).unwrap_or_default());
            result.push_str(&self.header_address(address, role, class, context).await);
            done = end;
        }
        result.push_str(text.get(done..).unwrap_or_default());
        if result == text { field.to_vec() } else { addresses::fold(&result).into_bytes() }
    }

    async fn header_address(
        &mut self,
        address: &str,
        role: Role,
        class: &str,
        context: Context,
    ) -> String {
        let external = self.service.settings.routing.rewriting.rewrite(context, address);
        let internal = mail_types::unquote_822(&external);
        let mapped = self.mapped(role, class, internal.clone()).await;
        if mapped == internal { external } else { quote_822(&mapped) }
    }

    /// Before the empty line: Message-Id, Date, From and a recipient, for mail of our own.
    pub(super) async fn missing_fields(&mut self) {
        let settings = &self.service.settings;
        let add = self.envelope.context.is_some() || settings.always_add_missing_headers;
        let seen = self.content.seen;
        let (prefix, id, date, from) = if seen.resent {
            ("Resent-", seen.resent_message_id, seen.resent_date, seen.resent_from)
        } else {
            ("", seen.message_id, seen.date, seen.from)
        };
        if add && !id {
            let id = self.message_id();
            self.put_field(format!("{prefix}Message-Id: <{id}>").as_bytes());
            self.info(&format!("{}message-id=<{id}>", prefix.to_ascii_lowercase()));
        }
        let added = add && !id && prefix.is_empty();
        if !seen.message_id && !added {
            self.info("message-id=<>");
        }
        if !add {
            return;
        }
        if !date {
            let arrival = self.envelope.arrival.unwrap_or(self.created).seconds;
            let date = message::date::format_with_zone(arrival);
            self.put_field(format!("{prefix}Date: {date}").as_bytes());
        }
        if !from {
            let from = self.default_from();
            self.put_field(format!("{prefix}From: {from}").as_bytes());
        }
        let undisclosed = self.service.settings.undisclosed.clone();
        if !seen.visible_recipient && !undisclosed.is_empty() {
            self.put_field(undisclosed.as_bytes());
        }
    }

    fn message_id(&self) -> String {
        let host = &self.service.shared.myhostname;
        if self.service.shared.queue.long_ids {
            return format!("{}@{host}", self.id);
        }
        format!("{}.{}@{host}", message::date::format_utc_digits(self.created.seconds), self.id)
    }

    fn default_from(&self) -> String {
        let sender = self.envelope.sender.as_deref().unwrap_or_default();
        if sender.is_empty() {
            return quote_822("MAILER-DAEMON");
        }
        let (address, name) = (quote_822(sender), self.envelope.full_name.trim());
        match name.is_empty() {
            true => address,
            false if self.service.settings.obsolete_from => format!("{address} {}", comment(name)),
            false => format!("{} <{address}>", phrase(name)),
        }
    }

    /// Writes a field of the message's own header; if filters may edit it, with room for a pointer.
    pub(super) fn put_field(&mut self, field: &[u8]) {
        if !self.has_milters() {
            return self.put_lines(field);
        }
        let (first, rest) = match field.iter().position(|&octet| octet == b'\n') {
            Some(end) => (field.get(..end).unwrap_or_default(), field.get(end + 1..)),
            None => (field, None),
        };
        self.put_text(RecordType::LINE, first);
        self.put_padding(RecordType::PADDING, first.len());
        if let Some(rest) = rest {
            self.put_lines(rest);
        }
    }

    /// Writes a field line by line.
    fn put_lines(&mut self, field: &[u8]) {
        for line in field.split(|&octet| octet == b'\n') {
            self.put_text(RecordType::LINE, line);
        }
    }
}

/// A display name as a comment, the way of RFC 822's time.
fn comment(name: &str) -> String {
    let mut comment = String::from("(");
    for c in name.chars().filter(|c| !c.is_control()) {
        if matches!(c, '(' | ')' | '\\') {
            comment.push('\\');
        }
        comment.push(c);
    }
    comment + ")"
}

/// A display name, quoted where it is no sequence of atoms (RFC 5322 section 3.2.5).
fn phrase(name: &str) -> String {
    const SPECIALS: &str = "()<>@,;:\\\".[]";
    if name.chars().all(|c| !SPECIALS.contains(c) && !c.is_control()) {
        return name.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in name.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::{comment, phrase};

    #[test]
    fn names_are_quoted_when_they_must() {
        for (name, quoted) in
            [("Joe User", "Joe User"), ("Joe Q. User", "\"Joe Q. User\""), ("a\"b", "\"a\\\"b\"")]
        {
            assert_eq!(phrase(name), quoted);
        }
        assert_eq!(comment("Joe (the) User"), "(Joe \\(the\\) User)");
    }
}
