//! header_checks and body_checks: what a table's answer does with a line and with the message.

use mail_types::EnhancedStatus;
use message::sections::{Section, is_mime_field};
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus};
use protocol::postfix::record::RecordType;
use routing::{Key, LookupError, Maps};

use super::content::{field_name, first};
use super::message::Message;

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Dunno,
    /// No further rules for this message.
    Pass(String),
    Reject(String),
    Discard(String),
    Hold(String),
    Warn(String),
    Info(String),
    Ignore,
    Strip(String),
    Prepend(String),
    Replace(String),
    Filter(String),
    Redirect(String),
    Bcc(String),
    Unknown(String),
}

impl Action {
    pub fn parse(result: &str) -> Self {
        let result = result.trim();
        let (word, text) = result.split_once([' ', '\t']).unwrap_or((result, ""));
        let text = text.trim_start().to_owned();
        match word.to_ascii_uppercase().as_str() {
            "DUNNO" | "OK" => Self::Dunno,
            "PASS" => Self::Pass(text),
            "REJECT" => Self::Reject(text),
            "DISCARD" => Self::Discard(text),
            "HOLD" => Self::Hold(text),
            "WARN" => Self::Warn(text),
            "INFO" => Self::Info(text),
            "IGNORE" => Self::Ignore,
            "STRIP" => Self::Strip(text),
            "PREPEND" => Self::Prepend(text),
            "REPLACE" => Self::Replace(text),
            "FILTER" => Self::Filter(text),
            "REDIRECT" => Self::Redirect(text),
            "BCC" => Self::Bcc(text),
            _ => Self::Unknown(word.to_owned()),
        }
    }
}

/// What becomes of the line.
enum Line {
    Keep,
    Drop,
    Replace(String),
    Prepend(String),
}

impl Message {
    /// The field if it stays, itself or its replacement.
    pub(super) async fn check_header(
        &mut self,
        section: Section,
        field: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let checks = &self.service.settings.checks;
        let end = field_name(&field).unwrap_or(0);
        let is_of_mime = field.get(..end).is_some_and(|name| is_mime_field(name.trim_ascii_end()));
        let (maps, name) = match section {
            _ if is_of_mime => (&checks.mime_header, "mime_header_checks"),
            Section::Primary => (&checks.header, "header_checks"),
            Section::Part => (&checks.mime_header, "mime_header_checks"),
            Section::Nested => (&checks.nested_header, "nested_header_checks"),
        };
        let maps = maps.clone();
        match self.check(&maps, name, "header", &field).await {
            Line::Keep => Some(field),
            Line::Drop => None,
            Line::Replace(text) | Line::Prepend(text) if field_name(text.as_bytes()).is_none() => {
                self.warn(&format!("bad header text in {name} map: {text}"));
                Some(field)
            }
            Line::Replace(text) => Some(text.into_bytes()),
            Line::Prepend(text) => {
                self.put_field(text.as_bytes());
                Some(field)
            }
        }
    }

    /// Checks a body line and writes what becomes of it.
    pub(super) async fn check_body(&mut self, kind: RecordType, line: &[u8]) {
        let maps = self.service.settings.checks.body.clone();
        match self.check(&maps, "body_checks", "body", line).await {
            Line::Keep => self.put_text(kind, line),
            Line::Drop => {}
            Line::Replace(text) => self.put_text(kind, text.as_bytes()),
            Line::Prepend(text) => {
                self.put_text(RecordType::LINE, text.as_bytes());
                self.put_text(kind, line);
            }
        }
    }

    async fn check(&mut self, maps: &Maps, name: &str, class: &str, line: &[u8]) -> Line {
        if maps.is_empty() || !self.writes() {
            return Line::Keep;
        }
        let found = self.find(maps, line).await;
        match self.answered(name, found).flatten() {
            Some(result) => self.act(Action::parse(&result), name, class, line).await,
            None => Line::Keep,
        }
    }

    async fn find(&self, maps: &Maps, line: &[u8]) -> Result<Option<String>, LookupError> {
        for table in maps.iter() {
            if let Some(answer) = self.service.tables.lookup_bytes(table, line, Key::Whole).await? {
                return Ok(Some(String::from_utf8_lossy(&answer).into_owned()));
            }
        }
        Ok(None)
    }

    async fn act(&mut self, action: Action, name: &str, class: &str, line: &[u8]) -> Line {
        match action {
            Action::Dunno => Line::Keep,
            Action::Ignore => Line::Drop,
            Action::Pass(text) => {
                self.log_check("pass", class, line, &text);
                self.flags = self.flags.without(CleanupFlags::FILTER);
                Line::Keep
            }
            Action::Reject(text) => {
                let told = refusal(&text);
                self.log_check("reject", class, line, &told);
                if self.reason.is_empty() {
                    self.reason = told;
                }
                self.status.add(CleanupStatus::CONT);
                Line::Drop
            }
            Action::Discard(text) => {
                self.log_check("discard", class, line, &text);
                self.flags = self.flags.with(CleanupFlags::DISCARD);
                Line::Drop
            }
            Action::Hold(text) => {
                if !self.flags.contains(CleanupFlags::HOLD) {
                    self.log_check("hold", class, line, &text);
                    self.flags = self.flags.with(CleanupFlags::HOLD);
                }
                Line::Keep
            }
            Action::Warn(text) => self.kept("warning", class, line, &text),
            Action::Info(text) => self.kept("info", class, line, &text),
            Action::Strip(text) => {
                self.log_check("strip", class, line, &text);
                Line::Drop
            }
            Action::Prepend(text) if !text.is_empty() => {
                self.log_check("prepend", class, line, &text);
                Line::Prepend(text)
            }
            Action::Replace(text) if !text.is_empty() => {
                self.log_check("replace", class, line, &text);
                Line::Replace(text)
            }
            Action::Filter(text) if text.contains(':') => {
                self.log_check("filter", class, line, &text);
                self.envelope.filter = Some(text);
                Line::Keep
            }
            Action::Redirect(text) if text.contains('@') => {
                self.log_check("redirect", class, line, &text);
                self.envelope.redirect = Some(self.rewritten(&text));
                // As Postfix: nothing that is checked later undoes it.
                self.flags = self.flags.without(CleanupFlags::FILTER);
                Line::Keep
            }
            Action::Bcc(text) if text.contains('@') => {
                self.log_check("bcc", class, line, &text);
                if self.flags.contains(CleanupFlags::BCC_OK) {
                    self.envelope.bcc.push(text);
                }
                Line::Keep
            }
            useless => self.useless(&useless, name),
        }
    }

    fn kept(&self, action: &str, class: &str, line: &[u8], text: &str) -> Line {
        self.log_check(action, class, line, text);
        Line::Keep
    }

    /// A rule that does not say what it must: the line stays, and the operator hears of it.
    fn useless(&self, action: &Action, map: &str) -> Line {
        let what = match action {
            Action::Bcc(text) => {
                format!("bad BCC address {text:?} in {map} map -- need user@domain")
            }
            Action::Redirect(text) => {
                format!("bad REDIRECT target {text:?} in {map} map -- need user@domain")
            }
            Action::Filter(text) => {
                format!("bad FILTER command {text:?} in {map} map -- need transport:destination")
            }
            Action::Prepend(_) => format!("PREPEND action without text in {map} map"),
            Action::Replace(_) => format!("REPLACE action without text in {map} map"),
            Action::Unknown(word) => format!("unknown command in {map} map: {word}"),
            other => format!("{other:?} in {map} map"),
        };
        self.warn(&what);
        Line::Keep
    }

    /// `ID: reject: header Subject: x from name[address]; from=<…> … helo=<…>: text`
    fn log_check(&self, action: &str, class: &str, line: &[u8], text: &str) {
        let mut told = format!("{action}: {class} {} {}", first(line, 200), self.circumstances());
        if !text.is_empty() {
            told.push_str(": ");
            told.push_str(text);
        }
        self.info(&told);
    }
}

/// The reason that the client hears, always with an enhanced status in front.
fn refusal(text: &str) -> String {
    match EnhancedStatus::prefix_of(text) {
        _ if text.is_empty() => "5.7.1 message content rejected".to_owned(),
        Some((status, "")) => format!("{status} message content rejected"),
        Some(_) => text.to_owned(),
        None => format!("5.7.1 {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_word_and_a_text() {
        for (rule, action) in [
            ("REJECT", Action::Reject(String::new())),
            ("reject 5.7.2 no", Action::Reject("5.7.2 no".into())),
            ("PREPEND X-A:  b ", Action::Prepend("X-A:  b".into())),
            ("IGNORE", Action::Ignore),
            ("dunno", Action::Dunno),
            ("ACCEPT x", Action::Unknown("ACCEPT".into())),
        ] {
            assert_eq!(Action::parse(rule), action, "{rule}");
        }
    }

    #[test]
    fn a_refusal_has_a_status() {
        assert_eq!(refusal(""), "5.7.1 message content rejected");
        assert_eq!(refusal("no such subject"), "5.7.1 no such subject");
        assert_eq!(refusal("5.7.9 no"), "5.7.9 no");
    }
}
