//! The MIME tree of a stored message, in one pass and bounded memory (RFC 2045, RFC 2046).
//!
//! Lines go through one at a time; a part is a range of the file, its body is never kept. Ends of
//! parts follow Dovecot: the line end before a boundary belongs to the boundary, and a line that
//! begins with an open boundary matches it.

use std::io::{self, BufRead, BufReader, Read};

use mail_types::mime::{Content, Envelope, Message, Parameter, Part, Size};

use crate::address;
use crate::header::{self, Field};
use crate::parameters::{ContentType, disposition, first_token, languages};

/// How much of a hostile message is looked into.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub parts: usize,
    pub depth: usize,
    /// Octets of one part's header that are understood; the rest is only counted.
    pub header: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { parts: 10_000, depth: 100, header: 256 * 1024 }
    }
}

/// Boundaries are at most 70 octets; Dovecot looks at 80.
const LONGEST_BOUNDARY: usize = 80;

/// Reads a message and gives its tree.
///
/// # Errors
///
/// What reading returns. No content is an error.
pub fn scan(input: impl Read, limits: Limits) -> io::Result<Message> {
    let mut lines = Lines::new(input);
    let mut scanner = Scanner::new(limits);
    while let Some(line) = lines.next()? {
        scanner.line(&line);
    }
    Ok(scanner.finish())
}

/// A place in the message: octets before it as stored, as counted on the wire, and LFs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    physical: u64,
    wire: u64,
    lines: u64,
}

impl Mark {
    fn to(self, end: Self) -> Size {
        Size {
            physical: end.physical.saturating_sub(self.physical),
            wire: end.wire.saturating_sub(self.wire),
            lines: end.lines.saturating_sub(self.lines),
        }
    }
}

/// One line, or the first piece of a very long one.
struct Line {
    text: Vec<u8>,
    /// A later piece of a line: it cannot be a boundary.
    continued: bool,
    /// 0, 1 (LF) or 2 (CRLF) octets of line end.
    ending: u8,
}

struct Lines<R> {
    input: BufReader<R>,
    continued: bool,
}

/// A longer line comes in pieces.
const PIECE: usize = 8 * 1024;

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(64 * 1024, input), continued: false }
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let mut ended = false;
        while !ended && text.len() < PIECE {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let most = buffer.len().min(PIECE - text.len());
            let length = match buffer[..most].iter().position(|&octet| octet == b'\n') {
                Some(at) => {
                    ended = true;
                    at + 1
                }
                None => most,
            };
            text.extend_from_slice(&buffer[..length]);
            self.input.consume(length);
        }
        if text.is_empty() {
            return Ok(None);
        }
        // A CR at the end of a piece goes with its LF, if that comes.
        if !ended && text.ends_with(b"\r") && self.input.fill_buf()?.first() == Some(&b'\n') {
            text.push(b'\n');
            self.input.consume(1);
            ended = true;
        }
        let ending = if !ended { 0 } else { 1 + u8::from(text.ends_with(b"\r\n")) };
        let continued = std::mem::replace(&mut self.continued, !ended);
        Ok(Some(Line { text, continued, ending }))
    }
}

/// A part that is not at its end yet.
struct Open {
    part: Part,
    header_start: Mark,
    body_start: Mark,
    /// Octets of its header, up to the limit.
    header: Vec<u8>,
    in_header: bool,
    /// Of a multipart, until its closing delimiter.
    boundary: Option<Vec<u8>>,
    children: Vec<Part>,
    /// The child of a `message/rfc822`.
    message: Option<Box<Message>>,
    envelope: Envelope,
    kind: Kind,
    in_digest: bool,
    /// Its Content fields count: a part of a multipart, or MIME-Version or Content-Type is there.
    is_mime: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Leaf,
    Multipart,
    Message,
}

impl Open {
    fn new(at: Mark, in_digest: bool) -> Self {
        Self {
            part: Part::default(),
            header_start: at,
            body_start: at,
            header: Vec::new(),
            in_header: true,
            boundary: None,
            children: Vec::new(),
            message: None,
            envelope: Envelope::default(),
            kind: Kind::Leaf,
            in_digest,
            is_mime: false,
        }
    }
}

struct Scanner {
    limits: Limits,
    /// From the message to the innermost part; never empty.
    open: Vec<Open>,
    parts: usize,
    at: Mark,
    /// Before the last line end.
    before_ending: Mark,
}

impl Scanner {
    fn new(limits: Limits) -> Self {
        let at = Mark::default();
        Self { limits, open: vec![Open::new(at, false)], parts: 1, at, before_ending: at }
    }

    fn line(&mut self, line: &Line) {
        if !line.continued
            && line.text.starts_with(b"--")
            && let Some((index, closes)) = self.boundary(&line.text)
        {
            self.delimiter(index, closes, line);
            return;
        }
        self.advance(line);
        let Some(open) = self.open.last_mut() else { return };
        if open.in_header {
            let room = self.limits.header.saturating_sub(open.header.len());
            open.header.extend_from_slice(&line.text[..line.text.len().min(room)]);
            if !line.continued && matches!(line.text.as_slice(), b"\n" | b"\r\n") {
                self.end_header();
            }
        }
    }

    fn advance(&mut self, line: &Line) {
        let ending = u64::from(line.ending);
        let text = line.text.len() as u64 - ending;
        self.before_ending = Mark {
            physical: self.at.physical + text,
            wire: self.at.wire + text,
            lines: self.at.lines,
        };
        let ended = u64::from(ending > 0);
        self.at = Mark {
            physical: self.before_ending.physical + ending,
            wire: self.before_ending.wire + 2 * ended,
            lines: self.at.lines + ended,
        };
    }

    /// The open multipart whose delimiter this line is: the longest boundary, then the innermost.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line[2..].trim_ascii_end();
        let mut best: Option<(usize, &[u8])> = None;
        for (index, open) in self.open.iter().enumerate() {
            let Some(boundary) = open.boundary.as_deref() else { continue };
            if text.starts_with(boundary)
                && best.is_none_or(|(_, longest)| boundary.len() >= longest.len())
            {
                best = Some((index, boundary));
            }
        }
        best.map(|(index, boundary)| (index, text[boundary.len()..].starts_with(b"--")))
    }

    fn delimiter(&mut self, index: usize, closes: bool, line: &Line) {
        // The line end before the delimiter is its own, unless that line is the header's.
        let end = self.before_ending;
        while self.open.len() > index + 1 {
            self.close_innermost(end);
        }
        self.advance(line);
        let at = self.at;
        // Its line end is its own: a delimiter right behind it ends there and not before.
        self.before_ending = at;
        let Some(multipart) = self.open.last_mut() else { return };
        if closes {
            multipart.boundary = None;
            return;
        }
        if self.parts < self.limits.parts {
            let in_digest = multipart.part.subtype.eq_ignore_ascii_case(b"digest");
            self.parts += 1;
            self.open.push(Open { is_mime: true, ..Open::new(at, in_digest) });
        }
    }

    fn end_header(&mut self) {
        let (at, depth) = (self.at, self.open.len());
        let Some(open) = self.open.last_mut() else { return };
        open.in_header = false;
        open.body_start = at;
        let boundary = describe(open);
        let is_message =
            open.part.is("message") && open.part.subtype.eq_ignore_ascii_case(b"rfc822");
        if let Some(boundary) = boundary {
            open.kind = Kind::Multipart;
            open.boundary = boundary.filter(|_| depth < self.limits.depth);
        } else if is_message && depth < self.limits.depth && self.parts < self.limits.parts {
            open.kind = Kind::Message;
            self.parts += 1;
            self.open.push(Open::new(at, false));
        }
    }

    fn close_innermost(&mut self, end: Mark) {
        let Some(mut open) = self.open.pop() else { return };
        if open.in_header {
            open.in_header = false;
            open.body_start = self.at;
            if let Some(boundary) = describe(&mut open) {
                open.kind = Kind::Multipart;
                open.boundary = boundary;
            }
        }
        let message = seal(open, end);
        match self.open.last_mut() {
            Some(parent) if parent.kind == Kind::Message => {
                parent.message = Some(Box::new(message));
            }
            Some(parent) => parent.children.push(message.part),
            None => {}
        }
    }

    fn finish(mut self) -> Message {
        let end = self.at;
        while self.open.len() > 1 {
            self.close_innermost(end);
        }
        match self.open.pop() {
            Some(mut open) => {
                if open.in_header {
                    open.body_start = end;
                    if describe(&mut open).is_some() {
                        open.kind = Kind::Multipart;
                    }
                }
                seal(open, end)
            }
            None => Message::default(),
        }
    }
}

/// Completes a part that ends at `end`.
fn seal(open: Open, end: Mark) -> Message {
    let Open { mut part, header_start, body_start, children, message, envelope, kind, .. } = open;
    part.header = header_start.physical..body_start.physical;
    part.header_size = header_start.to(body_start);
    part.body = body_start.physical..end.physical.max(body_start.physical);
    part.body_size = body_start.to(end);
    part.content = match (kind, message) {
        (Kind::Multipart, _) if children.is_empty() => Content::Multipart(vec![empty_text(end)]),
        (Kind::Multipart, _) => Content::Multipart(children),
        (Kind::Message, Some(message)) => Content::Message(message),
        // A message without a single line: an empty one.
        (Kind::Message, None) => Content::Message(Box::new(Message {
            envelope: Envelope::default(),
            part: empty_text(end),
        })),
        (Kind::Leaf, _) => Content::Leaf,
    };
    Message { envelope, part }
}

fn empty_text(at: Mark) -> Part {
    let mut open = Open::new(at, false);
    describe(&mut open);
    let here = at.physical..at.physical;
    Part { header: here.clone(), body: here, ..open.part }
}

/// Fills in what the header says. `Some` for a multipart, with its boundary.
fn describe(open: &mut Open) -> Option<Option<Vec<u8>>> {
    let header = std::mem::take(&mut open.header);
    let mut kind = None;
    let part = &mut open.part;
    let mut is_mime = open.is_mime;
    for field in header::fields(&header) {
        is_mime |= field.is("MIME-Version") || field.is("Content-Type");
        let content = field.name.len() > 8 && field.name[..8].eq_ignore_ascii_case(b"content-");
        if content {
            content_field(part, &mut kind, &field);
        } else {
            envelope_field(&mut open.envelope, &field);
        }
    }
    if !is_mime {
        *part = Part::default();
    }
    if part.encoding.is_empty() {
        part.encoding = b"7bit".to_vec();
    }
    let kind = kind.unwrap_or_else(|| ContentType {
        media_type: if open.in_digest { b"message".to_vec() } else { b"text".to_vec() },
        subtype: if open.in_digest { b"rfc822".to_vec() } else { b"plain".to_vec() },
        parameters: Vec::new(),
    });
    let boundary = kind.media_type.eq_ignore_ascii_case(b"multipart").then(|| {
        let boundary = kind.parameter("boundary").filter(|boundary| !boundary.is_empty())?;
        Some(boundary[..boundary.len().min(LONGEST_BOUNDARY)].trim_ascii_end().to_vec())
    });
    part.parameters = kind.parameters;
    let has_charset =
        part.parameters.iter().any(|known| known.name.eq_ignore_ascii_case(b"charset"));
    if kind.media_type.eq_ignore_ascii_case(b"text") && !has_charset {
        part.parameters.push(Parameter { name: b"charset".to_vec(), value: b"us-ascii".to_vec() });
    }
    part.media_type = kind.media_type;
    part.subtype = kind.subtype;
    boundary
}

/// Of several fields of one name the first counts.
fn content_field(part: &mut Part, kind: &mut Option<ContentType>, field: &Field<'_>) {
    let value = field.unfolded();
    let text = |slot: &mut Option<Vec<u8>>| {
        if slot.is_none() && !value.is_empty() {
            *slot = Some(value.clone());
        }
    };
    let name = field.name[8..].to_ascii_lowercase();
    match name.as_slice() {
        b"type" if kind.is_none() => *kind = Some(ContentType::parse(&value)),
        b"transfer-encoding" if part.encoding.is_empty() => {
            part.encoding = first_token(&value).unwrap_or_default();
        }
        b"id" => text(&mut part.id),
        b"description" => text(&mut part.description),
        b"md5" => text(&mut part.md5),
        b"location" => text(&mut part.location),
        b"disposition" if part.disposition.is_none() => part.disposition = disposition(&value),
        b"language" if part.languages.is_empty() => part.languages = languages(&value),
        _ => {}
    }
}

/// Of several text fields of one name the last counts; addresses are all shown, so that none can
/// hide behind another (both as in Dovecot).
fn envelope_field(envelope: &mut Envelope, field: &Field<'_>) {
    let addresses = |list: &mut Vec<_>| list.extend(address::parse(&field.unfolded()));
    let text = |slot: &mut Option<Vec<u8>>| {
        *slot = Some(header::unfold_start(field.value));
    };
    let name = field.name.to_ascii_lowercase();
    match name.as_slice() {
        b"date" => text(&mut envelope.date),
        b"subject" => text(&mut envelope.subject),
        b"from" => addresses(&mut envelope.from),
        b"sender" => addresses(&mut envelope.sender),
        b"reply-to" => addresses(&mut envelope.reply_to),
        b"to" => addresses(&mut envelope.to),
        b"cc" => addresses(&mut envelope.cc),
        b"bcc" => addresses(&mut envelope.bcc),
        b"in-reply-to" => text(&mut envelope.in_reply_to),
        b"message-id" => text(&mut envelope.message_id),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(part: &Part, text: &[u8]) -> String {
        let name = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let kind = format!("{}/{}", name(&part.media_type), name(&part.subtype));
        let range = |range: &std::ops::Range<u64>| {
            let (start, end) = (range.start as usize, range.end as usize);
            name(&text[start..end]).replace('\n', "|").replace('\r', "")
        };
        match &part.content {
            Content::Leaf => format!("{kind}[{}]", range(&part.body)),
            Content::Multipart(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| tree(part, text)).collect();
                format!("{kind}({})", parts.join(" "))
            }
            Content::Message(message) => format!("{kind}<{}>", tree(&message.part, text)),
        }
    }

    fn scanned(text: &str) -> Message {
        scan(text.as_bytes(), Limits::default()).unwrap()
    }

    fn shown(text: &str) -> String {
        tree(&scanned(text).part, text.as_bytes())
    }

    const MIXED: &str = "Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b\n\
        Content-Type: multipart/alternative; boundary=\"bb\"\n\n--bb\nContent-Type: text/html\n\n<p>\n\n--bb--\n\
        epilogue\n--b\nContent-Type: message/rfc822\n\nSubject: inner\n\nbody\n--b--\nend\n";

    #[test]
    fn parts_end_where_dovecot_ends_them() {
        let expected = "multipart/mixed(text/plain[one] multipart/alternative(text/html[<p>|]) message/rfc822<text/plain[body]>)";
        assert_eq!(shown(MIXED), expected);
        assert_eq!(shown(&MIXED.replace('\n', "\r\n")), expected);
        let message = scanned(MIXED);
        assert_eq!(message.part.header_size, Size { physical: 43, wire: 45, lines: 2 });
        let inner = message.part.at(&[3]).and_then(Part::message).unwrap();
        assert_eq!(inner.envelope.subject.as_deref(), Some(&b"inner"[..]));
        assert_eq!(inner.part.body_size, Size { physical: 4, wire: 4, lines: 0 });
    }

    #[test]
    fn broken_structures_have_a_tree_all_the_same() {
        for (text, expected) in [
            ("", "text/plain[]"),
            ("Subject: only a header", "text/plain[]"),
            ("\nno header\n", "text/plain[no header|]"),
            ("Content-Type: multipart/mixed\n\nx\n", "multipart/mixed(text/plain[])"),
            (
                "Content-Type: multipart/mixed; boundary=b\n\nno parts\n",
                "multipart/mixed(text/plain[])",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nnever closed\n",
                "multipart/mixed(text/plain[never closed|])",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\nx\n--b--\n",
                "multipart/mixed(text/plain[] text/plain[x])",
            ),
            (
                "Content-Type: multipart/digest; boundary=b\n\n--b\n\nA: b\n\nx\n--b--\n",
                "multipart/digest(message/rfc822<text/plain[x]>)",
            ),
            ("Content-Type: message/rfc822\n\n", "message/rfc822<text/plain[]>"),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n--b\n\nlate\n",
                "multipart/mixed(text/plain[x])",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_inner_boundary_may_begin_like_the_outer_one() {
        let text = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nx\n--bb\n\ny\n--bb--\n--b\n\nz\n--b--\n";
        assert_eq!(
            shown(text),
            "multipart/mixed(multipart/mixed(text/plain[x] text/plain[y]) text/plain[z])"
        );
    }

    #[test]
    fn the_header_is_described() {
        let message = scanned(
            "Date: Sat, 1 Jan 2022 00:00:00 +0000\nFrom: a@b\nFrom: c@d\nSubject: x\nSubject: =?utf-8?q?y?=\n z\nBcc:\n\
             Content-Type: text/html; charset=utf-8\nContent-ID: <i@d>\nContent-Transfer-Encoding: BASE64\n\
             Content-Disposition: attachment; filename=\"a b\"\nContent-Language: ja, en\n\nx\ny",
        );
        assert_eq!(message.envelope.from.len(), 2);
        assert_eq!(message.envelope.shown_sender().len(), 2);
        assert_eq!(message.envelope.subject.as_deref(), Some(&b"=?utf-8?q?y?= z"[..]));
        assert!(message.envelope.bcc.is_empty());
        let part = &message.part;
        assert_eq!(part.encoding, b"BASE64");
        assert_eq!(part.id.as_deref(), Some(&b"<i@d>"[..]));
        assert_eq!(part.languages, [b"ja".to_vec(), b"en".to_vec()]);
        assert_eq!(part.disposition.as_ref().unwrap().parameters[0].value, b"a b");
        assert_eq!(part.body_size, Size { physical: 3, wire: 4, lines: 1 });
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let mut deep = String::new();
        for level in 0..300 {
            deep.push_str(&format!(
                "Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"
            ));
        }
        let mut depth = 0;
        let message = scanned(&deep);
        let mut part = &message.part;
        while let Content::Multipart(parts) = &part.content {
            depth += 1;
            part = &parts[0];
        }
        assert!(depth <= 101, "{depth}");
        let wide =
            format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\n".repeat(20_000));
        let Content::Multipart(parts) = scanned(&wide).part.content else { panic!() };
        assert!(parts.len() < 10_000);
    }

    proptest! {
        #[test]
        fn sizes_add_up(text in "(Content-Type: multipart/mixed; boundary=b\n|Content-Type: message/rfc822\n|\n|--b\n|--b--\n|x\r\n|y\n){0,12}") {
            let message = scanned(&text);
            let part = &message.part;
            prop_assert_eq!(part.header_size.physical + part.body_size.physical, text.len() as u64);
            prop_assert_eq!(part.body.end, text.len() as u64);
            prop_assert_eq!(part.header_size.wire + part.body_size.wire, crate::content::wire_size(text.as_bytes()).unwrap());
        }
    }
}
