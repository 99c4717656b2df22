//! `smtp_header_checks`, `smtp_body_checks` and `smtp_generic_maps`: what is changed in the content on its way out.

use message::sections::{After, Mime, Section, field_name, is_mime_field};
use protocol::postfix::delivery::DeliveryRequest;
use queue::LineEnd;
use routing::{Key, Maps};

use crate::server::Service;

/// As much of a line as is logged.
const SHOWN: usize = 60;

/// What a downgrade writes into headers.
const WRITTEN: [&[u8]; 2] =
    [b"Content-Transfer-Encoding: quoted-printable", b"Content-Transfer-Encoding: 7bit"];

/// A table has no answer, so the message must not go out now.
#[derive(Debug)]
pub struct NoAnswer;

/// The stage between queue file and wire: lines go in with [`Rewriter::put`], what became of them is in `out`.
pub struct Rewriter<'a> {
    service: &'a Service,
    request: &'a DeliveryRequest,
    /// The encoding that a field names may be of our making.
    downgrading: bool,
    mime: Mime,
    place: Place,
    /// The field that is being collected, its lines divided by LF.
    field: Vec<u8>,
    /// The last piece was no complete line.
    line_open: bool,
    pub out: Vec<(Vec<u8>, LineEnd)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Body,
}

/// What a rule makes of a field or of a line.
#[derive(Debug, PartialEq, Eq)]
enum Action<'r> {
    Keep,
    Drop,
    Logged(&'static str),
    Strip,
    Prepend,
    Replace,
    Unknown(&'r str),
}

impl<'r> Action<'r> {
    /// With the text behind its word.
    fn parse(rule: &'r str) -> (Self, &'r str) {
        let (word, text) = rule.split_once([' ', '\t']).unwrap_or((rule, ""));
        let action = match word.to_ascii_uppercase().as_str() {
            "DUNNO" | "OK" => Self::Keep,
            "IGNORE" => Self::Drop,
            "WARN" => Self::Logged("warning"),
            "INFO" => Self::Logged("info"),
            "STRIP" => Self::Strip,
            "PREPEND" => Self::Prepend,
            "REPLACE" => Self::Replace,
            _ => Self::Unknown(rule),
        };
        (action, text.trim_start())
    }
}

/// What becomes of it.
enum Fate {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

/// Which table was asked about what.
#[derive(Clone, Copy)]
struct Question<'q> {
    maps: &'q Maps,
    name: &'static str,
    /// `header` or `body`, for the log.
    place: &'static str,
}

impl<'a> Rewriter<'a> {
    /// Nothing where no content is changed.
    pub fn new(
        service: &'a Service,
        request: &'a DeliveryRequest,
        downgrading: bool,
    ) -> Option<Self> {
        let settings = &service.settings;
        let checks = &settings.checks;
        let needed = settings.generic.is_some() || checks.looks_into_parts();
        needed.then(|| Self {
            service,
            request,
            downgrading,
            mime: Mime::within(checks.nesting, checks.boundary),
            place: Place::Header,
            field: Vec::new(),
            line_open: false,
            out: Vec::new(),
        })
    }

    /// # Errors
    ///
    /// [`NoAnswer`]
    pub async fn put(&mut self, piece: &[u8], end: LineEnd) -> Result<(), NoAnswer> {
        let continues = std::mem::replace(&mut self.line_open, end == LineEnd::Continued);
        match self.place {
            Place::Header => self.header_piece(piece, end, continues).await,
            Place::Body => self.body_piece(piece, end, continues).await,
        }
    }

    /// The content is over.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`]
    pub async fn finish(&mut self) -> Result<(), NoAnswer> {
        self.end_field().await
    }

    async fn header_piece(
        &mut self,
        piece: &[u8],
        end: LineEnd,
        continues: bool,
    ) -> Result<(), NoAnswer> {
        let folded = matches!(piece.first(), Some(b' ' | b'\t'));
        if !self.field.is_empty() && (continues || folded) {
            // A line that begins beyond `header_size_limit` is dropped.
            if self.field.len() < self.service.settings.checks.largest_field {
                if !continues {
                    self.field.push(b'\n');
                }
                self.field.extend_from_slice(piece);
            }
            return Ok(());
        }
        self.end_field().await?;
        if !continues && field_name(piece).is_some() {
            self.field = piece.to_vec();
            return Ok(());
        }
        if piece.is_empty() && end == LineEnd::Newline {
            self.out.push((Vec::new(), end));
            if !self.service.settings.checks.looks_into_parts()
                || self.mime.end_of_header() == After::Body
            {
                self.place = Place::Body;
            }
            return Ok(());
        }
        self.place = Place::Body;
        self.body_piece(piece, end, continues).await
    }

    async fn end_field(&mut self) -> Result<(), NoAnswer> {
        let mut field = std::mem::take(&mut self.field);
        let Some(length) = field_name(&field) else { return Ok(()) };
        let section = self.mime.section;
        let name = field.get(..length).unwrap_or_default().trim_ascii_end();
        let value = field.get(length + 1..).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"content-type") {
            // What nests too deep is not looked into.
            let _ = self.mime.content_type(value);
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            self.mime.transfer_encoding(value);
        }
        match self.check(self.header_question(section, name, &field), &field).await? {
            Fate::Keep => {}
            Fate::Drop => return Ok(()),
            Fate::Replace(text) => field = text,
        }
        if section == Section::Primary && self.service.settings.generic.is_some() {
            match crate::generic::field(self.service, &field).await {
                Ok(Some(text)) => field = text.into_bytes(),
                Ok(None) => {}
                Err(why) => {
                    self.service.reporter.warn(self.request, &why);
                    return Err(NoAnswer);
                }
            }
        }
        self.put_lines(&field);
        Ok(())
    }

    fn header_question(&self, section: Section, name: &[u8], field: &[u8]) -> Question<'a> {
        let checks = &self.service.settings.checks;
        let lmtp = self.service.settings.lmtp;
        let pick = |maps, smtp, of_lmtp| Question {
            maps,
            name: if lmtp { of_lmtp } else { smtp },
            place: "header",
        };
        match section {
            // Postfix does not look at the name of what it writes itself.
            _ if is_mime_field(name) && !(self.downgrading && WRITTEN.contains(&field)) => {
                pick(&checks.mime_header, "smtp_mime_header_checks", "lmtp_mime_header_checks")
            }
            Section::Primary => pick(&checks.header, "smtp_header_checks", "lmtp_header_checks"),
            Section::Part => {
                pick(&checks.mime_header, "smtp_mime_header_checks", "lmtp_mime_header_checks")
            }
            Section::Nested => pick(
                &checks.nested_header,
                "smtp_nested_header_checks",
                "lmtp_nested_header_checks",
            ),
        }
    }

    async fn body_piece(
        &mut self,
        piece: &[u8],
        end: LineEnd,
        continues: bool,
    ) -> Result<(), NoAnswer> {
        let checks = &self.service.settings.checks;
        let begins_part = checks.looks_into_parts() && !continues && self.mime.begins_part(piece);
        let lmtp = self.service.settings.lmtp;
        let name = if lmtp { "lmtp_body_checks" } else { "smtp_body_checks" };
        let question = Question { maps: &checks.body, name, place: "body" };
        match self.check(question, piece).await? {
            Fate::Keep => self.out.push((piece.to_vec(), end)),
            Fate::Drop => {}
            Fate::Replace(text) => self.out.push((text, end)),
        }
        if begins_part {
            self.place = Place::Header;
        }
        Ok(())
    }

    fn put_lines(&mut self, text: &[u8]) {
        let lines = text.split(|&octet| octet == b'\n');
        self.out.extend(lines.map(|line| (line.to_vec(), LineEnd::Newline)));
    }

    async fn check(&mut self, question: Question<'_>, text: &[u8]) -> Result<Fate, NoAnswer> {
        if text.is_empty() {
            return Ok(Fate::Keep);
        }
        for table in question.maps.iter() {
            let found = self.service.tables.lookup_bytes(table, text, Key::Whole).await;
            let Ok(found) = found else {
                let what = format!("smtp {} checks lookup error", question.place);
                self.service.reporter.warn(self.request, &what);
                return Err(NoAnswer);
            };
            if let Some(rule) = found {
                return Ok(self.act(&String::from_utf8_lossy(&rule), question, text));
            }
        }
        Ok(Fate::Keep)
    }

    fn act(&mut self, rule: &str, question: Question<'_>, line: &[u8]) -> Fate {
        let name = question.name;
        let (action, text) = Action::parse(rule);
        let word = match action {
            Action::Keep => return Fate::Keep,
            Action::Drop => return Fate::Drop,
            Action::Unknown(rule) => {
                self.warn(&format!("unsupported command in {name} map: {rule}"));
                return Fate::Keep;
            }
            Action::Logged(word) => word,
            Action::Strip => "strip",
            Action::Prepend => "prepend",
            Action::Replace => "replace",
        };
        if matches!(action, Action::Prepend | Action::Replace) {
            let verb = word.to_ascii_uppercase();
            if text.is_empty() {
                self.warn(&format!("{verb} action without text in {name} map"));
                return Fate::Keep;
            }
            if question.place == "header" && field_name(text.as_bytes()).is_none() {
                self.warn(&format!(
                    "bad {verb} header text \"{text}\" in {name} map -- need \"headername: headervalue\""
                ));
                return Fate::Keep;
            }
        }
        self.log(word, question.place, line, text);
        match action {
            Action::Strip => Fate::Drop,
            Action::Replace => Fate::Replace(text.as_bytes().to_vec()),
            Action::Prepend => {
                self.put_lines(text.as_bytes());
                Fate::Keep
            }
            _ => Fate::Keep,
        }
    }

    fn warn(&self, text: &str) {
        self.service.reporter.note(&format!("warning: {text}"));
    }

    /// `ID: replace: header Subject: x: Subject: y`
    fn log(&self, action: &str, place: &str, line: &[u8], text: &str) {
        let line = String::from_utf8_lossy(line.get(..SHOWN).unwrap_or(line));
        let told = match text {
            "" => format!("{action}: {place} {line}"),
            text => format!("{action}: {place} {line}: {text}"),
        };
        self.service.reporter.info(self.request, &told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_word_and_a_text() {
        for (rule, action) in [
            ("IGNORE why", (Action::Drop, "why")),
            ("strip", (Action::Strip, "")),
            ("Replace  X: y ", (Action::Replace, "X: y ")),
            ("WARN", (Action::Logged("warning"), "")),
            ("ok", (Action::Keep, "")),
            ("REJECT no", (Action::Unknown("REJECT no"), "no")),
        ] {
            assert_eq!(Action::parse(rule), action, "{rule}");
        }
    }
}
