//! Where in a message we are: in its own header, in that of a part, in an attached message's.
//!
//! Only as much of MIME as the checks need, in constant memory but for a bounded stack.

use crate::parameters::ContentType;

/// Whose header it is; each has its own checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    #[default]
    Primary,
    Part,
    /// Of an attached message (message/rfc822).
    Nested,
}

/// What the header that is being read says of the body behind it; without a word, what its multipart says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Leaf,
    Multipart,
    /// message/rfc822: a header follows.
    Attached,
    /// message/partial and message/external-body, which are 7bit always (RFC 2046 sections 5.2.2 and 5.2.3).
    Fragment,
    OtherMessage,
}

/// Content-Transfer-Encoding, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    SevenBit,
    EightBit,
    Binary,
    Base64,
    QuotedPrintable,
}

impl Encoding {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::SevenBit, "7bit"),
        (Self::EightBit, "8bit"),
        (Self::Binary, "binary"),
        (Self::Base64, "base64"),
        (Self::QuotedPrintable, "quoted-printable"),
    ];

    fn parse(value: &[u8]) -> Option<Self> {
        let mut words = value.split(|octet| b" \t\r\n;(".contains(octet));
        let word = words.find(|word| !word.is_empty())?;
        let is_it = |(_, name): &&(Self, &str)| word.eq_ignore_ascii_case(name.as_bytes());
        Self::NAMES.iter().find(is_it).map(|(encoding, _)| *encoding)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == self).map_or("unknown", |(_, name)| name)
    }

    /// Whether the octets of the body are those of the content.
    fn is_identity(self) -> bool {
        !matches!(self, Self::Base64 | Self::QuotedPrintable)
    }
}

/// Which body follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Body,
    /// The header of an attached message begins at once.
    NestedHeader,
}

/// A multipart that is open.
#[derive(Debug)]
struct Level {
    boundary: Vec<u8>,
    /// What its parts are when they do not say: attached messages in multipart/digest.
    parts: Kind,
}

#[derive(Debug, Default)]
pub struct Mime {
    levels: Vec<Level>,
    pub section: Section,
    kind: Kind,
    pub encoding: Encoding,
    pub deepest: usize,
    pub longest_boundary: usize,
}

/// The length of the field's name, if the line begins a header field.
#[must_use]
pub fn field_name(line: &[u8]) -> Option<usize> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = line.get(..colon)?.trim_ascii_end();
    let valid = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    valid.then_some(colon)
}

/// Fields of MIME, which Postfix checks by the rules for parts wherever they stand.
#[must_use]
pub fn is_mime_field(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"content-description",
        b"content-disposition",
        b"content-id",
        b"content-transfer-encoding",
        b"content-type",
        b"mime-version",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Multiparts nest more than `mime_nesting_limit` deep; what is in the deepest is not looked into.
#[derive(Debug, PartialEq, Eq)]
pub struct TooDeep;

impl Mime {
    /// Multiparts may nest `deepest` deep, and of a boundary so many octets count.
    #[must_use]
    pub fn within(deepest: usize, longest_boundary: usize) -> Self {
        Self { deepest, longest_boundary, ..Self::default() }
    }

    /// A Content-Type field of the current header.
    pub fn content_type(&mut self, value: &[u8]) -> Result<(), TooDeep> {
        let content_type = ContentType::parse(value);
        self.kind = kind(&content_type, value);
        let boundary = content_type.parameter("boundary").filter(|_| self.kind == Kind::Multipart);
        let Some(boundary) = boundary else { return Ok(()) };
        // Postfix counts from the second multipart on, since 3.3.
        if self.levels.len() > self.deepest.saturating_add(1) {
            return Err(TooDeep);
        }
        let length = boundary.len().min(self.longest_boundary);
        let boundary = boundary.get(..length).unwrap_or_default().to_vec();
        let digest = content_type.is("multipart", "digest");
        let parts = if digest { Kind::Attached } else { Kind::Leaf };
        self.levels.push(Level { boundary, parts });
        Ok(())
    }

    /// A Content-Transfer-Encoding field of the current header. An unknown one says nothing.
    pub fn transfer_encoding(&mut self, value: &[u8]) {
        self.encoding = Encoding::parse(value).unwrap_or(self.encoding);
    }

    /// Whether the header gives a composite body an encoding that it may not have (RFC 2045 section 6.4).
    pub fn is_wrongly_encoded(&self) -> bool {
        match self.kind {
            Kind::Leaf => false,
            Kind::Fragment => matches!(self.encoding, Encoding::EightBit | Encoding::Binary),
            Kind::Multipart | Kind::Attached | Kind::OtherMessage => !self.encoding.is_identity(),
        }
    }

    /// The empty line behind a header.
    pub fn end_of_header(&mut self) -> After {
        match self.kind {
            Kind::Attached => {
                self.begin(Section::Nested, Kind::Leaf);
                After::NestedHeader
            }
            Kind::Multipart => {
                self.begin(self.section, Kind::Leaf);
                After::Body
            }
            Kind::Leaf | Kind::Fragment | Kind::OtherMessage => After::Body,
        }
    }

    fn begin(&mut self, section: Section, kind: Kind) {
        (self.section, self.kind, self.encoding) = (section, kind, Encoding::default());
    }

    /// Whether this line of a body is a delimiter behind which a part's header begins. A closing
    /// delimiter ends its multipart and everything in it.
    pub fn begins_part(&mut self, line: &[u8]) -> bool {
        let Some(rest) = line.strip_prefix(b"--") else { return false };
        let matches = |level: &Level| rest.starts_with(&level.boundary);
        let Some(at) = self.levels.iter().rposition(matches) else { return false };
        let Some(level) = self.levels.get(at) else { return false };
        let (length, parts) = (level.boundary.len(), level.parts);
        if rest.get(length..).is_some_and(|tail| tail.starts_with(b"--")) {
            self.levels.truncate(at);
            self.begin(self.section, Kind::Leaf);
            return false;
        }
        self.levels.truncate(at + 1);
        self.begin(Section::Part, parts);
        true
    }
}

fn kind(content_type: &ContentType, value: &[u8]) -> Kind {
    let begins = |wanted: &[u8]| {
        let value = value.trim_ascii_start();
        value.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted))
    };
    if begins(b"multipart/") {
        Kind::Multipart
    } else if content_type.is("message", "rfc822") || content_type.is("message", "global") {
        Kind::Attached
    } else if content_type.is("message", "partial") || content_type.is("message", "external-body") {
        Kind::Fragment
    } else if begins(b"message/") {
        Kind::OtherMessage
    } else {
        Kind::Leaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_attached_messages_are_found() {
        let mut mime = Mime { deepest: 5, longest_boundary: 2048, ..Mime::default() };
        assert_eq!(mime.content_type(b" multipart/mixed; boundary=\"b 1\""), Ok(()));
        assert_eq!(mime.end_of_header(), After::Body);
        assert!(!mime.begins_part(b"--other"));
        assert!(mime.begins_part(b"--b 1"));
        assert_eq!(mime.content_type(b" message/rfc822"), Ok(()));
        assert_eq!(mime.end_of_header(), After::NestedHeader);
        assert_eq!(mime.section, Section::Nested);
        assert_eq!(mime.content_type(b" multipart/alternative; boundary=inner"), Ok(()));
        assert_eq!(mime.end_of_header(), After::Body);
        assert!(mime.begins_part(b"--inner"));
        assert!(!mime.begins_part(b"--inner--"));
        assert!(mime.begins_part(b"--b 1 "));
        assert!(!mime.begins_part(b"--b 1--"));
        assert!(!mime.begins_part(b"--b 1"));
    }

    #[test]
    fn a_composite_body_has_no_encoding_of_its_own() {
        for (kind, encoding, wrong) in [
            ("multipart/mixed; boundary=b", "base64", true),
            ("multipart/mixed; boundary=b", "8BIT", false),
            ("message/rfc822", "Quoted-Printable (why)", true),
            ("message/partial", "8bit", true),
            ("message/partial", "base64", false),
            ("text/plain", "base64", false),
        ] {
            let mut mime = Mime { deepest: 5, longest_boundary: 2048, ..Mime::default() };
            assert_eq!(mime.content_type(kind.as_bytes()), Ok(()));
            mime.transfer_encoding(encoding.as_bytes());
            assert_eq!(mime.is_wrongly_encoded(), wrong, "{kind} {encoding}");
        }
    }

    #[test]
    fn multiparts_nest_as_deep_as_allowed_and_two_more() {
        let mut mime = Mime { deepest: 1, longest_boundary: 2048, ..Mime::default() };
        let told = ["a", "b", "c", "d"].map(|boundary| {
            mime.content_type(format!("multipart/mixed; boundary={boundary}").as_bytes())
        });
        assert_eq!(told, [Ok(()), Ok(()), Ok(()), Err(TooDeep)]);
    }
}
