//! The fields of a header, as they stand (RFC 5322 section 2.2).

use std::ops::Range;

/// One field: its name, and its value as it stands, folds and all, without the last line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// The whole field with its last line end.
    pub raw: &'a [u8],
}

impl Field<'_> {
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line: each fold is one space, white space around it is gone.
    #[must_use]
    pub fn unfolded(&self) -> Vec<u8> {
        unfold(self.value)
    }
}

/// A value on one line: a line end with the white space after it becomes one space; none is left
/// at either end.
#[must_use]
pub fn unfold(value: &[u8]) -> Vec<u8> {
    unfold_start(value).trim_ascii_end().to_vec()
}

/// As [`unfold`], but white space at the end stays: what ENVELOPE shows.
#[must_use]
pub fn unfold_start(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut lines = value.split(|&octet| octet == b'\n');
    if let Some(first) = lines.next() {
        out.extend_from_slice(first.strip_suffix(b"\r").unwrap_or(first));
    }
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        out.push(b' ');
        out.extend_from_slice(line.trim_ascii_start());
    }
    out.trim_ascii_start().to_vec()
}

/// Iterates over the fields of a header; a line that belongs to none is passed over.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of `header`, which may hold a whole message: reading ends at the empty line.
#[must_use]
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields { rest: header }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let first = first_line(self.rest);
            if is_empty_line(first) {
                return None;
            }
            let mut length = first.len();
            while matches!(self.rest.get(length), Some(b' ' | b'\t')) {
                length += first_line(&self.rest[length..]).len();
            }
            let (raw, rest) = self.rest.split_at(length);
            self.rest = rest;
            if let Some(colon) = name_end(first) {
                let value = &raw[colon + 1..];
                let value = value.strip_suffix(b"\n").unwrap_or(value);
                let value = value.strip_suffix(b"\r").unwrap_or(value);
                return Some(Field { name: raw[..colon].trim_ascii_end(), value, raw });
            }
        }
    }
}

/// Where the colon is, if what stands before it can be a name.
fn name_end(line: &[u8]) -> Option<usize> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(colon)
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split_inclusive(|&octet| octet == b'\n').next().unwrap_or_default()
}

fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"" | b"\n" | b"\r\n")
}

/// The first field called `name`.
#[must_use]
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(header).find(|field| field.is(name))
}

/// Where the header ends in a whole message, its empty line included.
#[must_use]
pub fn end(message: &[u8]) -> usize {
    let mut at = 0;
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        at += line.len();
        if is_empty_line(line) {
            break;
        }
    }
    at
}

/// Whether HEADER.FIELDS keeps the named fields or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Only,
    AllBut,
}

/// The fields that HEADER.FIELDS or HEADER.FIELDS.NOT asks for, as they stand, then an empty line
/// with the header's own line end.
#[must_use]
pub fn select(header: &[u8], names: &[impl AsRef<[u8]>], choice: Choice) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(header) {
        let named = names.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_ref()));
        if named == (choice == Choice::Only) {
            out.extend_from_slice(field.raw);
        }
    }
    out.extend_from_slice(if first_line(header).ends_with(b"\r\n") { b"\r\n" } else { b"\n" });
    out
}

/// Where the fields called `name` stand, as ranges of `header`.
#[must_use]
pub fn ranges(header: &[u8], name: &str) -> Vec<Range<usize>> {
    let start = header.as_ptr() as usize;
    fields(header)
        .filter(|field| field.is(name))
        .map(|field| {
            let at = field.raw.as_ptr() as usize - start;
            at..at + field.raw.len()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &[u8] = b"From nobody\nSubject: a\n  folded\n\tline \nX-Empty:\nto : x@y\r\nFrom: me\n\nnot: this\n";

    #[test]
    fn fields_are_found_as_they_stand() {
        let all: Vec<(String, String)> = fields(HEADER)
            .map(|field| {
                let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
                (text(field.name), text(&field.unfolded()))
            })
            .collect();
        let expected =
            [("Subject", "a folded line"), ("X-Empty", ""), ("to", "x@y"), ("From", "me")];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(end(HEADER), HEADER.len() - 10);
        assert_eq!(find(HEADER, "FROM").unwrap().raw, b"From: me\n");
        assert_eq!(&HEADER[ranges(HEADER, "x-empty")[0].clone()], b"X-Empty:\n");
    }

    #[test]
    fn selections_end_with_an_empty_line() {
        let only = select(HEADER, &["subject", "nosuch"], Choice::Only);
        assert_eq!(only, b"Subject: a\n  folded\n\tline \n\n");
        let rest = select(HEADER, &["subject", "from", "x-empty"], Choice::AllBut);
        assert_eq!(rest, b"to : x@y\r\n\n");
        assert_eq!(select(b"A: b\r\n\r\n", &["a"], Choice::Only), b"A: b\r\n\r\n");
    }

    proptest! {
        #[test]
        fn anything_can_be_a_header(text in "[a:\\r\\n \\t]{0,40}") {
            for field in fields(text.as_bytes()) {
                prop_assert!(!field.name.is_empty());
            }
            prop_assert!(end(text.as_bytes()) <= text.len());
        }
    }
}
