//! Structured field values: `type/subtype; name=value`, tokens, comments (RFC 2045 section 5.1).

use mail_types::mime::{Disposition, Parameter};

/// Reads tokens and quoted strings, passing over white space and comments.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Passes white space and comments; gives the text of the last comment.
    pub fn skip_blank(&mut self) -> Option<Vec<u8>> {
        let mut comment = None;
        while let Some(&octet) = self.rest.first() {
            match octet {
                b' ' | b'\t' | b'\r' | b'\n' | 0 => self.rest = &self.rest[1..],
                b'(' => comment = Some(self.comment()),
                _ => break,
            }
        }
        comment
    }

    /// A comment, nested ones kept with their parentheses. Depth costs a counter, not a stack.
    fn comment(&mut self) -> Vec<u8> {
        let (mut depth, mut text) = (0_usize, Vec::new());
        let mut octets = self.rest.iter().enumerate();
        while let Some((at, &octet)) = octets.next() {
            match octet {
                b'(' => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = &self.rest[at + 1..];
                        return text;
                    }
                }
                b'\\' => {
                    if let Some((_, &quoted)) = octets.next() {
                        text.push(quoted);
                    }
                    continue;
                }
                _ => {}
            }
            text.push(octet);
        }
        self.rest = &[];
        text
    }

    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the next octet if it is `wanted`.
    pub fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    pub fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// A run of octets for which `belongs` holds.
    pub fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|&&octet| belongs(octet)).count();
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        run
    }

    /// A quoted string at its opening quote, without quotes and backslashes. One that does not end
    /// ends with the text.
    pub fn quoted(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut octets = self.rest.iter().enumerate().skip(1);
        while let Some((at, &octet)) = octets.next() {
            match octet {
                b'"' => {
                    self.rest = &self.rest[at + 1..];
                    return out;
                }
                b'\\' => out.extend(octets.next().map(|(_, &quoted)| quoted)),
                b'\r' | b'\n' => {}
                _ => out.push(octet),
            }
        }
        self.rest = &[];
        out
    }

    /// As [`Self::quoted`]; nothing where no quote closes it.
    pub fn closed_quoted(&mut self) -> Option<Vec<u8>> {
        let mut octets = self.rest.iter().skip(1);
        let mut closed = false;
        while let Some(&octet) = octets.next() {
            match octet {
                b'"' => {
                    closed = true;
                    break;
                }
                b'\\' => drop(octets.next()),
                _ => {}
            }
        }
        let text = self.quoted();
        closed.then_some(text)
    }

    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

/// RFC 2045's token characters; 8-bit ones are let through.
#[must_use]
pub fn is_token(octet: u8) -> bool {
    octet > b' ' && octet != 0x7f && !b"()<>@,;:\\\"/[]?=".contains(&octet)
}

/// A `Content-Type` value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentType {
    pub media_type: Vec<u8>,
    pub subtype: Vec<u8>,
    pub parameters: Vec<Parameter>,
}

impl ContentType {
    /// A value that does not begin with a type has an empty one.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let mut scanner = Scanner::new(value);
        scanner.skip_blank();
        let media_type = scanner.run(is_token).to_vec();
        if media_type.is_empty() {
            return Self::default();
        }
        scanner.skip_blank();
        let mut subtype = Vec::new();
        if scanner.take(b'/') {
            scanner.skip_blank();
            subtype = scanner.run(is_token).to_vec();
        }
        Self { media_type, subtype, parameters: parameters(&mut scanner) }
    }

    #[must_use]
    pub fn is(&self, media_type: &str, subtype: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        let found = self
            .parameters
            .iter()
            .find(|parameter| parameter.name.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|parameter| parameter.value.as_slice())
    }
}

/// A `Content-Disposition` value.
#[must_use]
pub fn disposition(value: &[u8]) -> Option<Disposition> {
    let mut scanner = Scanner::new(value);
    scanner.skip_blank();
    let kind = scanner.run(is_token).to_vec();
    (!kind.is_empty()).then(|| Disposition { kind, parameters: parameters(&mut scanner) })
}

/// More parameters than this are not kept.
const MOST: usize = 100;

/// Those with RFC 2231 names come after the plain ones, as Dovecot shows them: pieces in their
/// order under one name, which keeps its `*` if any of them has one.
fn parameters(scanner: &mut Scanner<'_>) -> Vec<Parameter> {
    let (mut plain, mut extended) = (Vec::new(), Vec::new());
    while !scanner.is_at_end() && plain.len() + extended.len() < MOST {
        scanner.run(|octet| octet != b';' && octet != b'(');
        scanner.skip_blank();
        if !scanner.take(b';') {
            if !scanner.is_at_end() {
                scanner.skip();
            }
            continue;
        }
        scanner.skip_blank();
        let name = scanner.run(is_token).to_vec();
        scanner.skip_blank();
        if name.is_empty() || !scanner.take(b'=') {
            continue;
        }
        scanner.skip_blank();
        let value = if scanner.peek() == Some(b'"') {
            scanner.quoted()
        } else {
            // Unquoted values with odd characters are common: up to what must end them.
            scanner.run(|octet| octet > b' ' && !b";(\"".contains(&octet)).to_vec()
        };
        let list = if name.contains(&b'*') { &mut extended } else { &mut plain };
        list.push(Parameter { name, value });
    }
    plain.append(&mut joined(extended));
    plain
}

/// One piece of an RFC 2231 parameter.
struct Piece {
    base: Vec<u8>,
    number: u64,
    coded: bool,
    value: Vec<u8>,
}

impl Piece {
    fn of(Parameter { name, value }: Parameter) -> Self {
        let (plain, coded) = match name.strip_suffix(b"*") {
            Some(plain) => (plain, true),
            None => (&name[..], false),
        };
        let star = plain.iter().position(|&octet| octet == b'*');
        let (base, number) = match star {
            Some(at) => (&plain[..at], decimal(&plain[at + 1..])),
            None => (plain, 0),
        };
        Self { base: base.to_vec(), number, coded, value }
    }
}

/// `name*0=a; name*1*=b` becomes `name*=ab`.
fn joined(extended: Vec<Parameter>) -> Vec<Parameter> {
    let mut groups: Vec<Vec<Piece>> = Vec::new();
    for piece in extended.into_iter().map(Piece::of) {
        let same = |group: &&mut Vec<Piece>| {
            group.first().is_some_and(|first| first.base.eq_ignore_ascii_case(&piece.base))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(piece),
            None => groups.push(vec![piece]),
        }
    }
    let join = |mut group: Vec<Piece>| {
        let mut name = group.first().map(|first| first.base.clone()).unwrap_or_default();
        group.sort_by_key(|piece| piece.number);
        if group.iter().any(|piece| piece.coded) {
            name.push(b'*');
        }
        Parameter { name, value: group.into_iter().flat_map(|piece| piece.value).collect() }
    };
    groups.into_iter().map(join).collect()
}

fn decimal(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

/// The first token of a value (`Content-Transfer-Encoding`).
#[must_use]
pub fn first_token(value: &[u8]) -> Option<Vec<u8>> {
    let mut scanner = Scanner::new(value);
    scanner.skip_blank();
    let token = scanner.run(is_token).to_vec();
    (!token.is_empty()).then_some(token)
}

/// The tags of `Content-Language`.
#[must_use]
pub fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let mut scanner = Scanner::new(value);
    let mut tags = Vec::new();
    while !scanner.is_at_end() && tags.len() < MOST {
        scanner.skip_blank();
        let tag = scanner.run(is_token);
        if tag.is_empty() {
            scanner.skip();
        } else {
            tags.push(tag.to_vec());
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let kind = ContentType::parse(value.as_bytes());
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let mut out = format!("{}/{}", text(&kind.media_type), text(&kind.subtype));
        for parameter in &kind.parameters {
            out.push_str(&format!(" {}=[{}]", text(&parameter.name), text(&parameter.value)));
        }
        out
    }

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("text/plain", "text/plain"),
            (
                "TEXT/Html; Charset=ISO-2022-JP; format=flowed",
                "TEXT/Html Charset=[ISO-2022-JP] format=[flowed]",
            ),
            (
                "multipart/mixed;\n boundary=\"a \\\"b\\\" c\"",
                "multipart/mixed boundary=[a \"b\" c]",
            ),
            ("text (comment (nested)) / plain (x) ; a=b (c)", "text/plain a=[b]"),
            ("text", "text/"),
            ("text/plain; charset", "text/plain"),
            ("text/plain;;; charset = utf-8 ;x", "text/plain charset=[utf-8]"),
            ("multipart/mixed; boundary=--=_a/b?c", "multipart/mixed boundary=[--=_a/b?c]"),
            ("a/b; filename*=UTF-8''%E3; size=10", "a/b size=[10] filename*=[UTF-8''%E3]"),
            ("text/plain; a=\"unended", "text/plain a=[unended]"),
            ("a/b; n*1=b; n*0*=a; N*2=c", "a/b n*=[abc]"),
            ("; charset=x", "/"),
            ("", "/"),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn ten_thousand_parentheses_are_only_long() {
        let value = format!("text/plain {}", "(".repeat(10_000));
        assert_eq!(shown(&value), "text/plain");
    }
}
