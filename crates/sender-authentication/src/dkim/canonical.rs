//! Canonicalization (RFC 6376 section 3.4): what of the white space counts.

use crypto::{Digest, Hash};

use crate::Field;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Canonicalization {
    #[default]
    Simple,
    Relaxed,
}

impl Canonicalization {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Simple, Self::Relaxed].into_iter().find(|it| it.name().eq_ignore_ascii_case(name))
    }

    /// Appends a field, without CRLF at its end.
    pub fn field(self, field: &Field, out: &mut Vec<u8>) {
        match self {
            Self::Simple => out.extend_from_slice(field.octets()),
            Self::Relaxed => {
                out.extend(field.name().to_ascii_lowercase());
                out.push(b':');
                relaxed_value(field.value(), out);
            }
        }
    }
}

/// Unfolded, runs of white space as one space, none at either end.
fn relaxed_value(value: &[u8], out: &mut Vec<u8>) {
    let (mut space, mut first) = (false, true);
    let mut octets = value.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' if octets.peek() == Some(&b'\n') => {
                octets.next();
            }
            b' ' | b'\t' => space = true,
            octet => {
                if space && !first {
                    out.push(b' ');
                }
                (space, first) = (false, false);
                out.push(octet);
            }
        }
    }
}

/// The digest of a body that arrives in pieces, cut anywhere.
#[derive(Clone, Debug)]
pub struct BodyHash {
    canonicalization: Canonicalization,
    digest: Digest,
    /// Octets that `l=` lets count.
    limit: Option<u64>,
    /// Canonical octets so far.
    length: u64,
    buffer: Vec<u8>,
    /// Line ends that count only when something follows.
    lines: u64,
    space: bool,
    carriage_return: bool,
}

const BUFFER: usize = 8192;

impl BodyHash {
    #[must_use]
    pub fn new(canonicalization: Canonicalization, hash: Hash, limit: Option<u64>) -> Self {
        Self {
            canonicalization,
            digest: Digest::new(hash),
            limit,
            length: 0,
            buffer: Vec::new(),
            lines: 0,
            space: false,
            carriage_return: false,
        }
    }

    /// Whether no more of the body can change the digest.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.length >= limit)
    }

    pub fn update(&mut self, body: &[u8]) {
        match self.canonicalization {
            Canonicalization::Simple => self.simple(body),
            Canonicalization::Relaxed => body.iter().for_each(|&octet| self.relaxed(octet)),
        }
    }

    fn simple(&mut self, mut body: &[u8]) {
        while let Some(&first) = body.first() {
            if self.carriage_return && first == b'\n' {
                self.carriage_return = false;
                self.lines += 1;
                body = body.get(1..).unwrap_or_default();
                continue;
            }
            let run = body.iter().position(|&octet| octet == b'\r').unwrap_or(body.len());
            if run > 0 || self.carriage_return {
                self.text(&[]);
            }
            let (text, rest) = body.split_at(run);
            if !text.is_empty() {
                self.out(text);
            }
            body = rest;
            if !body.is_empty() {
                self.carriage_return = true;
                body = body.get(1..).unwrap_or_default();
            }
        }
    }

    fn relaxed(&mut self, octet: u8) {
        match octet {
            b'\n' if self.carriage_return => {
                (self.carriage_return, self.space) = (false, false);
                self.lines += 1;
            }
            b'\r' => {
                if self.carriage_return {
                    self.text(&[]);
                }
                self.carriage_return = true;
            }
            b' ' | b'\t' => {
                if self.carriage_return {
                    self.text(&[]);
                }
                self.space = true;
            }
            octet => self.text(&[octet]),
        }
    }

    /// What waited counts after all, and then this.
    fn text(&mut self, octets: &[u8]) {
        while self.lines > 0 {
            self.lines -= 1;
            self.out(b"\r\n");
        }
        if self.space {
            self.space = false;
            self.out(b" ");
        }
        if self.carriage_return {
            self.carriage_return = false;
            self.out(b"\r");
        }
        self.out(octets);
    }

    fn out(&mut self, octets: &[u8]) {
        let room = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.length));
        self.length += octets.len() as u64;
        let counted = usize::try_from(room).unwrap_or(usize::MAX).min(octets.len());
        let octets = octets.get(..counted).unwrap_or_default();
        if octets.len() >= BUFFER {
            self.flush();
            self.digest.update(octets);
            return;
        }
        self.buffer.extend_from_slice(octets);
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.digest.update(&self.buffer);
        self.buffer.clear();
    }

    /// The digest, and how many octets the canonical body has.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        if self.carriage_return {
            self.text(&[]);
        }
        if self.length > 0 || self.canonicalization == Canonicalization::Simple {
            self.out(b"\r\n");
        }
        self.flush();
        (self.digest.finish(), self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Canonicalization::{Relaxed, Simple};

    fn hash(canonicalization: Canonicalization, body: &[u8]) -> String {
        let mut whole = BodyHash::new(canonicalization, Hash::Sha256, None);
        whole.update(body);
        let mut pieces = BodyHash::new(canonicalization, Hash::Sha256, None);
        body.chunks(1).for_each(|piece| pieces.update(piece));
        let whole = whole.finish();
        assert_eq!(whole, pieces.finish(), "cut into octets");
        crypto::pem::encode(&whole.0)
    }

    fn digest(canonical: &[u8]) -> String {
        crypto::pem::encode(&crypto::sha256(canonical))
    }

    #[test]
    fn bodies_are_canonicalized_as_the_standard_says() {
        let body = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(hash(Simple, body), "NOeivbQlDH9TmNKJUw7D53wZfsk8YMZ/hTuVVwTgi8s=");
        assert_eq!(hash(Relaxed, body), "unak6JHq0wL+Q1HP7dW1tjBx9FLA6DffoZ0qrLwbbpo=");
        assert_eq!(hash(Simple, b""), "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=");
        assert_eq!(hash(Relaxed, b""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        for (body, simple, relaxed) in [
            (&b"a"[..], &b"a\r\n"[..], &b"a\r\n"[..]),
            (b"\r\n\r\n", b"\r\n", b""),
            (b" \t\r\n \r\n", b" \t\r\n \r\n", b""),
            (b"a\rb\r\n", b"a\rb\r\n", b"a\rb\r\n"),
            (b"a \rb\r", b"a \rb\r\r\n", b"a \rb\r\r\n"),
            (b"a\nb\r\n", b"a\nb\r\n", b"a\nb\r\n"),
            (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
            (b"a  \t\r\n\r\n b\r\n \t\r\n", b"a  \t\r\n\r\n b\r\n \t\r\n", b"a\r\n\r\n b\r\n"),
        ] {
            assert_eq!(hash(Simple, body), digest(simple), "{body:?}");
            assert_eq!(hash(Relaxed, body), digest(relaxed), "{body:?}");
        }
    }

    #[test]
    fn only_the_octets_that_l_allows_are_hashed() {
        let mut hash = BodyHash::new(Simple, Hash::Sha256, Some(3));
        hash.update(b"ab");
        assert!(!hash.is_full());
        hash.update(b"cdef\r\n");
        assert!(hash.is_full());
        assert_eq!(hash.finish(), (crypto::sha256(b"abc").to_vec(), 8));
    }

    #[test]
    fn fields_are_canonicalized_as_the_standard_says() {
        for (field, relaxed) in [
            (&b"A: X"[..], &b"a:X"[..]),
            (b"B : Y\t\r\n\tZ  ", b"b:Y Z"),
            (b"Subject:", b"subject:"),
            (b"Subject:\r\n ", b"subject:"),
            (b"X-Mixed:a\rb \r\n c", b"x-mixed:a\rb c"),
        ] {
            let field = Field::parse(field).unwrap();
            let mut out = Vec::new();
            Relaxed.field(&field, &mut out);
            assert_eq!(out, relaxed);
            out.clear();
            Simple.field(&field, &mut out);
            assert_eq!(out, field.octets());
        }
    }
}
