//! The content on its way through: header fields one by one, body lines as they come.

pub(super) use message::sections::field_name;
use message::sections::{After, Encoding, Mime, Section, TooDeep};
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus};
use protocol::postfix::record::{Record, RecordType};

use super::message::Message;
use super::settings::Strict;

/// How far the content has been read.
#[derive(Default)]
pub(crate) struct Content {
    mime: Mime,
    place: Place,
    /// The last record was no complete line.
    line_open: bool,
    /// The field that is being collected, its lines divided by LF.
    field: Vec<u8>,
    /// How far the body lines behind the last header go, as `body_checks_size_limit` counts.
    checked: usize,
    /// Where the body's header lines are (`Received:` …), for the missing ones.
    pub seen: Seen,
    pub utf8_header: bool,
    pub hops: usize,
    /// The Received field of smtpd or pickup, which filters do not see.
    pub own_field: Vec<u8>,
    begun: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Header,
    Body,
}

/// Which fields the message's own header has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Some field begins with `Resent-`.
    pub resent: bool,
    pub message_id: bool,
    pub resent_message_id: bool,
    pub date: bool,
    pub resent_date: bool,
    pub from: bool,
    pub resent_from: bool,
    pub visible_recipient: bool,
}

impl Message {
    pub(super) async fn content_record(&mut self, record: Record) {
        if !self.content.begun {
            self.content.begun = true;
            let limits = &self.service.settings.limits;
            self.content.mime.deepest = limits.mime_nesting;
            self.content.mime.longest_boundary = limits.mime_boundary;
        }
        let Some(data) = self.acceptable(&record.data) else { return };
        let continues = self.content.line_open;
        self.content.line_open = record.kind == RecordType::CONTINUED;
        match self.content.place {
            Place::Header => self.header_piece(record.kind, &data, continues).await,
            Place::Body => self.body_piece(record.kind, &data, continues).await,
        }
    }

    /// The last field, and a header that had no body behind it.
    pub(super) async fn end_content(&mut self) {
        if self.content.place == Place::Header && self.writes() {
            self.end_field().await;
            self.end_header().await;
        }
        self.received_is_there();
    }

    /// smtpd and pickup put one in front of everything; its lack shows a broken client.
    fn received_is_there(&mut self) {
        if self.content.hops == 0 && self.writes() {
            self.warn("message rejected: no Received: header");
            self.status.add(CleanupStatus::BAD);
        }
    }

    /// Without characters that are not wanted; nothing if the message is refused for them.
    fn acceptable(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let settings = &self.service.settings;
        if data.iter().any(|octet| settings.reject_characters.contains(octet)) {
            let text = first(data, 200);
            let around = self.circumstances();
            self.info(&format!("reject: content {text} {around}: 5.7.1 disallowed character"));
            self.status.add(CleanupStatus::CONT);
            if self.reason.is_empty() {
                "5.7.1 disallowed character".clone_into(&mut self.reason);
            }
            return None;
        }
        let stray = |octet: u8| settings.replace_stray_cr_lf && matches!(octet, b'\r' | b'\n');
        let kept = data.iter().filter(|octet| !settings.strip_characters.contains(octet));
        Some(kept.map(|&octet| if stray(octet) { b' ' } else { octet }).collect())
    }

    async fn header_piece(&mut self, kind: RecordType, data: &[u8], continues: bool) {
        if continues {
            self.extend_field(data);
            return;
        }
        let folded = data.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
        if folded && !self.content.field.is_empty() {
            self.extend_field(b"\n");
            self.extend_field(data);
            return;
        }
        self.end_field().await;
        if field_name(data).is_some() {
            self.extend_field(data);
            return;
        }
        let after = self.end_header().await;
        self.content.checked += 1;
        if data.is_empty() && kind == RecordType::LINE {
            self.content.checked = 1;
            self.put_text(RecordType::LINE, b"");
            if after == After::Body {
                self.content.place = Place::Body;
            }
            return;
        }
        // No header field: the body begins without an empty line.
        self.put_text(RecordType::LINE, b"");
        self.content.place = Place::Body;
        Box::pin(self.body_piece(kind, data, false)).await;
    }

    /// What exceeds `header_size_limit` is dropped.
    fn extend_field(&mut self, data: &[u8]) {
        let limit = self.service.settings.limits.header_size;
        let room = limit.saturating_sub(self.content.field.len()).min(data.len());
        self.content.field.extend_from_slice(data.get(..room).unwrap_or_default());
    }

    async fn end_field(&mut self) {
        let field = std::mem::take(&mut self.content.field);
        let Some(length) = field_name(&field) else { return };
        if !self.writes() {
            return;
        }
        let section = self.content.mime.section;
        let name = field.get(..length).unwrap_or_default().trim_ascii_end();
        self.note_mime(name, field.get(length + 1..).unwrap_or_default(), &field);
        if self.strict().header && !field.is_ascii() {
            self.mime_fault("improper use of 8-bit data in message header", &field);
        }
        if section == Section::Primary {
            self.content.utf8_header |= !field.is_ascii();
            let value = field.get(length + 1..).unwrap_or_default().trim_ascii();
            let eight_bit =
                value.eq_ignore_ascii_case(b"8bit") || value.eq_ignore_ascii_case(b"binary");
            let detect = self.service.settings.detect_8bit;
            if detect && eight_bit && name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                "8bit".clone_into(&mut self.envelope.encoding);
            }
        }
        if self.flags.contains(CleanupFlags::FILTER) {
            let Some(field) = self.check_header(section, field).await else { return };
            self.header_field(section, field).await;
        } else {
            self.header_field(section, field).await;
        }
    }

    /// What the field says of the body, if MIME is looked at.
    fn note_mime(&mut self, name: &[u8], value: &[u8], field: &[u8]) {
        if !self.service.settings.mime {
            return;
        }
        if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            self.content.mime.transfer_encoding(value);
        }
        if name.eq_ignore_ascii_case(b"content-type") {
            let deep = self.content.mime.content_type(value) == Err(TooDeep);
            if deep && self.strict().nesting {
                self.mime_fault("MIME nesting exceeds safety limit", field);
            }
        }
    }

    /// What of MIME is refused: nothing where the content is not checked at all.
    fn strict(&self) -> Strict {
        let asked = self.service.settings.mime && self.flags.contains(CleanupFlags::FILTER);
        if asked { self.service.settings.strict } else { Strict::default() }
    }

    fn mime_fault(&mut self, what: &str, text: &[u8]) {
        let text = first(text, 100);
        self.info(&format!("reject: mime-error {what}: {text} {}", self.parties()));
        self.status.add(CleanupStatus::CONT);
        if self.reason.is_empty() {
            self.reason = format!("5.6.0 {what}");
        }
    }

    async fn end_header(&mut self) -> After {
        if self.content.mime.section == Section::Primary {
            self.missing_fields().await;
            self.header_point();
        }
        if self.strict().encoding && self.content.mime.is_wrongly_encoded() {
            let name = self.content.mime.encoding.name();
            self.mime_fault("invalid message/* or multipart/* encoding domain", name.as_bytes());
        }
        self.content.mime.end_of_header()
    }

    async fn body_piece(&mut self, kind: RecordType, data: &[u8], continues: bool) {
        let plain = self.content.mime.encoding == Encoding::SevenBit;
        if self.strict().body && plain && !data.is_ascii() && self.writes() {
            self.mime_fault("improper use of 8-bit data in message body", data);
        }
        let begins_part = !continues && self.content.mime.begins_part(data);
        let checks = &self.service.settings.checks;
        let seen = self.content.checked;
        self.content.checked += data.len() + 1;
        let checked = self.flags.contains(CleanupFlags::FILTER) && !checks.body.is_empty();
        if checked && seen < checks.body_size && !data.is_empty() {
            self.check_body(kind, data).await;
        } else {
            self.put_text(kind, data);
        }
        if begins_part {
            self.content.place = Place::Header;
        }
    }
}

/// The beginning of a text for the log.
pub(super) fn first(text: &[u8], octets: usize) -> String {
    let text = String::from_utf8_lossy(text.get(..octets).unwrap_or(text)).into_owned();
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::field_name;

    #[test]
    fn a_field_has_a_name_of_printable_ascii() {
        for (line, length) in [
            ("Subject: x", Some(7)),
            ("Subject : x", Some(8)),
            ("X-a!b:", Some(5)),
            (": x", None),
            (" folded: x", None),
            ("two words: x", None),
            ("From sender@host Sat Nov 21 21:18:20", None),
            ("Größe: x", None),
            ("", None),
        ] {
            assert_eq!(field_name(line.as_bytes()), length, "{line}");
        }
    }
}
