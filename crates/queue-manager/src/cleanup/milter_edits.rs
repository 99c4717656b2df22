//! A message in its queue file as filters see and change it.

use std::fs::File;
use std::io;

use mail_types::{Notify, unquote_822};
use neighbours::milter::{self, Change, Piece, Response};
use protocol::postfix::cleanup::CleanupStatus;
use protocol::postfix::record::{self, RecordType};
use protocol::smtp::xtext_decode;
use queue::edit::{EditError, Editor, field_records};
use queue::{Content, LineEnd, ReadError};
use routing::expand::Role;

use super::message::Message;

/// So much of a field that a filter writes is kept, as with Postfix, even where `header_size_limit` allows more.
const LONGEST_FIELD: usize = 60_000;

/// The file is in the page cache, since it has just been written: reads and edits do not wait for the disk.
pub(super) struct Edited<'m> {
    message: &'m mut Message,
    editor: Editor,
    reader: File,
    content: Option<Content<File>>,
    /// A line of the new body that is not complete.
    line: Vec<u8>,
    in_body: bool,
}

impl<'m> Edited<'m> {
    pub fn new(message: &'m mut Message, file: File) -> io::Result<Self> {
        let limit = message.service.settings.limits.message_size;
        let limit = Some(limit).filter(|&limit| limit > 0);
        let reader = file.try_clone()?;
        let own = &message.content.own_field;
        let editor = Editor::new(file, message.points, message.length(), limit, own);
        let (line, in_body) = (Vec::new(), false);
        Ok(Self { message, editor, reader, content: None, line, in_body })
    }

    /// What else is written goes behind the edits.
    pub fn end(self) {
        self.message.continue_at(self.editor.end());
    }

    fn unreadable(&mut self, error: &ReadError) -> Response {
        self.message.warn(&format!("read queue file: {error}"));
        self.message.status.add(CleanupStatus::WRITE);
        self.fault()
    }

    /// What the status of the message means to a client.
    fn fault(&self) -> Response {
        let fault = self.message.status.fault();
        let text = fault.map(|fault| format!("{} {} {}", fault.code, fault.dsn, fault.text));
        Response::Reply(text.unwrap_or_else(|| "451 4.3.0 queue file write error".to_owned()))
    }

    fn outcome(&mut self, result: Result<(), EditError>) -> Option<Response> {
        match result {
            Ok(()) if self.message.status.is_ok() => return None,
            Ok(()) => {}
            Err(EditError::Full) => {
                self.message.warn("queue file size limit exceeded");
                self.message.status.add(CleanupStatus::SIZE);
            }
            Err(error) => self.message.write_failed(&io::Error::other(error)),
        }
        Some(self.fault())
    }

    fn line_limit(&self) -> usize {
        self.message.service.settings.limits.line_length.max(1)
    }

    fn field(&mut self, field: &[u8]) -> Vec<u8> {
        let limit = self.message.service.settings.limits.header_size.min(LONGEST_FIELD);
        self.message.content.utf8_header |= !field.is_ascii();
        field_records(field.get(..limit).unwrap_or(field), self.line_limit())
    }

    async fn apply(&mut self, change: Change) -> Result<(), EditError> {
        match change {
            Change::AddHeader { field } => {
                let field = self.field(&field);
                self.editor.add_header(&field)
            }
            Change::InsertHeader { index, field } => {
                let field = self.field(&field);
                self.editor.insert_header(index, &field)
            }
            Change::ChangeHeader { index, name, field } => {
                let field = self.field(&field);
                self.editor.change_header(index, &name, &field)
            }
            Change::DeleteHeader { index, name } => self.editor.delete_header(index, &name),
            Change::ChangeFrom { address, parameters } => {
                self.change_from(&address, &parameters).await
            }
            Change::AddRecipient { address, parameters } => {
                self.add_recipient(&address, &parameters).await
            }
            Change::DeleteRecipient { address } => self.delete_recipient(&address),
            Change::Body(bytes) => self.body(&bytes),
            Change::EndBody => self.end_body(),
        }
    }

    async fn change_from(&mut self, address: &[u8], parameters: &[u8]) -> Result<(), EditError> {
        let (mut wanted_ret, mut wanted_id) = (None, None);
        for word in String::from_utf8_lossy(parameters).split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let ret = match value.to_ascii_uppercase().as_str() {
                "FULL" => Some(1),
                "HDRS" => Some(2),
                _ => None,
            };
            let id =
                xtext_decode(value).filter(|id| !id.is_empty() && !id.contains(char::is_control));
            match (name.to_ascii_uppercase().as_str(), ret, id) {
                ("RET", Some(ret), _) => wanted_ret = Some(ret),
                ("ENVID", _, Some(id)) => wanted_id = Some(id),
                _ => self.message.warn(&format!(
                    "Ignoring bad ESMTP parameter \"{word}\" in SMFI_CHGFROM request"
                )),
            }
        }
        let mut records = Vec::new();
        if let Some(id) = wanted_id {
            record::write_attribute(&mut records, "envelope_id", &id);
            self.message.envelope.envelope_id = id;
        }
        if let Some(ret) = wanted_ret {
            record::write_attribute(&mut records, "ret_flags", ret.to_string());
            self.message.envelope.ret = ret;
        }
        let sender = self.message.rewritten(&internal(address));
        let sender = self.message.mapped(Role::Sender, "envelope_sender", sender).await;
        let at = records.len() as u64;
        record::write(&mut records, RecordType::SENDER, sender.as_bytes());
        self.editor.change_sender(&records, at)?;
        self.message.envelope.sender = Some(sender);
        Ok(())
    }

    async fn add_recipient(&mut self, address: &[u8], parameters: &[u8]) -> Result<(), EditError> {
        let (mut notify, mut original) = (0, String::new());
        for word in String::from_utf8_lossy(parameters).split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name.to_ascii_uppercase().as_str() {
                "NOTIFY" => match Notify::parse(value) {
                    Some(wanted) => notify = wanted.bits(),
                    None => self.ignored("Bad NOTIFY parameter", word),
                },
                "ORCPT" => {
                    match value.split_once(';').map(|(kind, rest)| (kind, xtext_decode(rest))) {
                        Some((kind, Some(rest))) if !kind.is_empty() => {
                            original = format!("{kind};{rest}");
                        }
                        _ => self.ignored("Bad ORCPT parameter", word),
                    }
                }
                _ => self.ignored("ignoring ESMTP argument", word),
            }
        }
        let address = internal(address);
        if address.is_empty() {
            self.message.warn("ignoring attempt from Milter to add null recipient");
            return Ok(());
        }
        self.message.continue_at(self.editor.end());
        self.message.add_recipient(&address, notify, original).await;
        let records = self.message.take_output();
        self.editor.add_recipients(&records)
    }

    fn ignored(&self, what: &str, word: &str) {
        let word: String = word.chars().take(100).collect();
        let place = "from Milter or header/body_checks";
        self.message.warn(&format!("{what} {place}: \"{word}\""));
    }

    fn delete_recipient(&mut self, address: &[u8]) -> Result<(), EditError> {
        let original = internal(address);
        let cancelled = self.editor.cancel_recipients(original.as_bytes())?;
        let envelope = &mut self.message.envelope;
        // It may be added again.
        for address in cancelled {
            let address = String::from_utf8_lossy(&address).to_lowercase();
            let end = format!("\n{}\n{address}", original.to_lowercase());
            envelope.seen.retain(|key| *key != address && !key.ends_with(&end));
        }
        envelope.written.retain(|recipient| recipient.original != original);
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), EditError> {
        if !self.in_body {
            self.in_body = true;
            self.line.clear();
            self.editor.begin_body()?;
        }
        let limit = self.line_limit();
        for piece in bytes.split_inclusive(|&octet| octet == b'\n') {
            let complete = piece.ends_with(b"\n");
            self.line.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            while self.line.len() > limit {
                let rest = self.line.split_off(limit);
                self.editor.body_line(RecordType::CONTINUED, &self.line)?;
                self.line = rest;
            }
            if complete {
                let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
                self.editor.body_line(RecordType::LINE, line)?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn end_body(&mut self) -> Result<(), EditError> {
        self.in_body = false;
        if !self.line.is_empty() {
            self.editor.body_line(RecordType::LINE, &self.line)?;
            self.line.clear();
        }
        let size = self.editor.end_body()?;
        self.message.size.message_size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(())
    }
}

impl milter::Message for Edited<'_> {
    fn rewind(&mut self) -> Result<(), Response> {
        let begun = self
            .reader
            .try_clone()
            .and_then(|reader| Content::at(reader, self.message.points.data));
        match begun {
            Ok(content) => {
                self.content = Some(content);
                Ok(())
            }
            Err(error) => Err(self.unreadable(&error.into())),
        }
    }

    fn next(&mut self) -> Result<Option<Piece>, Response> {
        let Some(content) = &mut self.content else { return Ok(None) };
        match content.next_piece() {
            Ok(Some((bytes, LineEnd::Newline))) => Ok(Some(Piece::Line(bytes))),
            Ok(Some((bytes, LineEnd::Continued))) => Ok(Some(Piece::Continued(bytes))),
            Ok(None) => Ok(None),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn own_field(&self) -> &[u8] {
        &self.message.content.own_field
    }

    fn longest_field(&self) -> usize {
        self.message.service.settings.limits.header_size
    }

    async fn change(&mut self, change: Change) -> Option<Response> {
        let result = self.apply(change).await;
        self.outcome(result)
    }
}

/// A filter's address, with or without `<>`, in internal form.
fn internal(address: &[u8]) -> String {
    let text = without_comments(&String::from_utf8_lossy(address));
    let inner = text.rfind('<').and_then(|start| text.get(start + 1..));
    match inner {
        Some(inner) => unquote_822(inner.split('>').next().unwrap_or_default().trim()),
        None => unquote_822(first_address(&text)),
    }
}

fn without_comments(text: &str) -> String {
    let (mut kept, mut depth, mut quoted) = (String::new(), 0_usize, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if depth > 0 => drop(chars.next()),
            '\\' => kept.extend([Some(c), chars.next()].into_iter().flatten()),
            '(' if !quoted => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            c => {
                quoted ^= c == '"';
                kept.push(c);
            }
        }
    }
    kept
}

/// Up to a blank outside quotes: what stands behind it would be another address.
fn first_address(text: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let text = text.trim();
    let end = text.find(|c: char| {
        let skipped = escaped;
        escaped = c == '\\' && !skipped;
        quoted ^= c == '"' && !skipped;
        c.is_whitespace() && !quoted && !skipped
    });
    text.get(..end.unwrap_or(text.len())).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::internal;

    #[test]
    fn addresses_come_in_either_form() {
        for (external, expected) in [
            ("<a@b.test>", "a@b.test"),
            ("a@b.test", "a@b.test"),
            ("<>", ""),
            ("", ""),
            ("Name <\"a b\"@c.test>", "a b@c.test"),
            ("\"a (b\"@c.test", "a (b@c.test"),
            ("(some (nested) \\) comment) a@b.test (more)", "a@b.test"),
            ("(only a comment)", ""),
            ("a b@c d", "a"),
            ("(unended", ""),
        ] {
            assert_eq!(internal(external.as_bytes()), expected);
        }
    }
}
