//! Message text as a reader sees it, for SEARCH: encoded words, transfer encodings, charsets.

use std::io::{self, BufReader, Read};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, WINDOWS_1252};
use unicode_normalization::UnicodeNormalization;

/// A text in the form in which two texts are compared: no case, no marks' order
/// (i;unicode-casemap, RFC 5051, near enough).
#[must_use]
pub fn fold(text: &str) -> String {
    text.nfkd().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

fn charset(label: &[u8]) -> &'static Encoding {
    match Encoding::for_label(label) {
        // Labels that mean plain ASCII lie so often that UTF-8 is the better guess.
        Some(encoding) if encoding != WINDOWS_1252 => encoding,
        _ if label.eq_ignore_ascii_case(b"iso-8859-1")
            || label.eq_ignore_ascii_case(b"windows-1252") =>
        {
            WINDOWS_1252
        }
        _ => UTF_8,
    }
}

/// Whether SEARCH CHARSET may name this one.
#[must_use]
pub fn is_known_charset(label: &[u8]) -> bool {
    Encoding::for_label(label).is_some()
}

/// Octets in a charset as text; what cannot be decoded becomes U+FFFD.
#[must_use]
pub fn decode(octets: &[u8], label: &[u8]) -> String {
    charset(label).decode_without_bom_handling(octets).0.into_owned()
}

/// A field's value with its encoded words decoded (RFC 2047). White space between two encoded
/// words goes; what is not one stays as it is.
#[must_use]
pub fn decode_field(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    let mut after_word = false;
    while !rest.is_empty() {
        if let Some((text, length)) = encoded_word(rest) {
            if after_word {
                let kept = out.trim_end_matches([' ', '\t', '\r', '\n']).len();
                out.truncate(kept);
            }
            let end = out.len();
            out.push_str(&text);
            // Its own trailing space must not be trimmed with what follows.
            after_word = !out[end..].ends_with(' ');
            rest = &rest[length..];
            continue;
        }
        let next =
            rest.iter().skip(1).position(|&octet| octet == b'=').map_or(rest.len(), |at| at + 1);
        let (plain, after) = rest.split_at(next);
        after_word &= plain.iter().all(u8::is_ascii_whitespace);
        out.push_str(&String::from_utf8_lossy(plain));
        rest = after;
    }
    out
}

/// `=?charset?B?...?=` at the beginning of `text`: what it says and how long it is.
fn encoded_word(text: &[u8]) -> Option<(String, usize)> {
    let inner = text.strip_prefix(b"=?")?;
    let mut fields = inner.splitn(4, |&octet| octet == b'?');
    let (label, encoding, coded) = (fields.next()?, fields.next()?, fields.next()?);
    if !fields.next()?.starts_with(b"=") || coded.iter().any(|octet| octet.is_ascii_whitespace()) {
        return None;
    }
    let mut octets = Vec::new();
    match encoding {
        b"B" | b"b" => Base64::default().push(coded, &mut octets),
        b"Q" | b"q" => {
            let spaced: Vec<u8> =
                coded.iter().map(|&octet| if octet == b'_' { b' ' } else { octet }).collect();
            let mut decoder = QuotedPrintable::default();
            decoder.push(&spaced, &mut octets);
            decoder.finish(&mut octets);
        }
        _ => return None,
    }
    // RFC 2231 section 5: the charset may carry a language.
    let label = label.split(|&octet| octet == b'*').next().unwrap_or(label);
    let length = 2 + label_length(inner, coded);
    Some((decode(&octets, label), length))
}

/// Octets from after `=?` to the end of `?=`.
fn label_length(inner: &[u8], coded: &[u8]) -> usize {
    coded.as_ptr() as usize - inner.as_ptr() as usize + coded.len() + 2
}

/// Takes base64 in pieces; anything that is not of its alphabet is passed over.
#[derive(Clone, Debug, Default)]
pub struct Base64 {
    bits: u32,
    count: u8,
}

impl Base64 {
    pub fn push(&mut self, coded: &[u8], out: &mut Vec<u8>) {
        for &octet in coded {
            let value = match octet {
                b'A'..=b'Z' => octet - b'A',
                b'a'..=b'z' => octet - b'a' + 26,
                b'0'..=b'9' => octet - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    (self.bits, self.count) = (0, 0);
                    continue;
                }
                _ => continue,
            };
            self.bits = (self.bits << 6) | u32::from(value);
            self.count += 6;
            if self.count >= 8 {
                self.count -= 8;
                out.push((self.bits >> self.count) as u8);
                self.bits &= (1 << self.count) - 1;
            }
        }
    }
}

/// Takes quoted-printable in pieces; what is no escape stays as it is.
#[derive(Clone, Debug, Default)]
pub struct QuotedPrintable {
    held: Vec<u8>,
}

impl QuotedPrintable {
    pub fn push(&mut self, coded: &[u8], out: &mut Vec<u8>) {
        for &octet in coded {
            if self.held.is_empty() {
                if octet == b'=' {
                    self.held.push(octet)
                } else {
                    out.push(octet)
                }
                continue;
            }
            self.held.push(octet);
            match *self.held.as_slice() {
                [_, b'\n'] | [_, b'\r', b'\n'] => self.held.clear(),
                [_, b'\r'] => {}
                [_, high] if high.is_ascii_hexdigit() => {}
                [_, high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex(high) << 4 | hex(low));
                    self.held.clear();
                }
                _ => out.append(&mut self.held),
            }
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.held != b"=" {
            out.append(&mut self.held);
        }
        self.held.clear();
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A') + 10,
    }
}

enum Transfer {
    Plain,
    Base64(Base64),
    QuotedPrintable(QuotedPrintable),
}

/// Gives the text of a body part to `out`, piece by piece, until it returns `false`.
///
/// # Errors
///
/// What reading returns.
pub fn decode_body(
    body: impl Read,
    transfer_encoding: &[u8],
    label: &[u8],
    mut out: impl FnMut(&str) -> bool,
) -> io::Result<()> {
    let mut transfer = match transfer_encoding.to_ascii_lowercase().as_slice() {
        b"base64" => Transfer::Base64(Base64::default()),
        b"quoted-printable" => Transfer::QuotedPrintable(QuotedPrintable::default()),
        _ => Transfer::Plain,
    };
    let mut decoder = charset(label).new_decoder_without_bom_handling();
    let mut body = BufReader::with_capacity(16 * 1024, body);
    let (mut piece, mut octets) = (vec![0; 8 * 1024], Vec::new());
    loop {
        let length = body.read(&mut piece)?;
        octets.clear();
        match &mut transfer {
            Transfer::Plain => octets.extend_from_slice(&piece[..length]),
            Transfer::Base64(base64) => base64.push(&piece[..length], &mut octets),
            Transfer::QuotedPrintable(quoted) if length == 0 => quoted.finish(&mut octets),
            Transfer::QuotedPrintable(quoted) => quoted.push(&piece[..length], &mut octets),
        }
        let more = decode_piece(&mut decoder, &octets, length == 0, &mut out);
        if length == 0 || !more {
            return Ok(());
        }
    }
}

fn decode_piece(
    decoder: &mut Decoder,
    octets: &[u8],
    last: bool,
    out: &mut impl FnMut(&str) -> bool,
) -> bool {
    let mut rest = octets;
    let mut text = String::with_capacity(octets.len() * 3 + 16);
    loop {
        let (result, read, _) = decoder.decode_to_string(rest, &mut text, last);
        rest = &rest[read..];
        let more = text.is_empty() || out(&text);
        text.clear();
        if !more || result == CoderResult::InputEmpty {
            return more;
        }
    }
}

/// Looks for a text in pieces of text, without case; a match may cross pieces.
#[derive(Clone, Debug)]
pub struct Finder {
    wanted: String,
    tail: String,
    found: bool,
}

impl Finder {
    #[must_use]
    pub fn new(wanted: &str) -> Self {
        let wanted = fold(wanted);
        Self { found: wanted.is_empty(), wanted, tail: String::new() }
    }

    /// Looks at one more piece; whether the text has been found by now.
    pub fn push(&mut self, piece: &str) -> bool {
        if !self.found {
            self.tail.push_str(&fold(piece));
            self.found = self.tail.contains(&self.wanted);
            let mut cut = self.tail.len().saturating_sub(self.wanted.len());
            while !self.tail.is_char_boundary(cut) {
                cut -= 1;
            }
            self.tail.drain(..cut);
        }
        self.found
    }

    #[must_use]
    pub fn found(&self) -> bool {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_decoded() {
        for (value, expected) in [
            ("=?UTF-8?B?5pel5pys6Kqe?=", "日本語"),
            ("=?iso-2022-jp?B?GyRCRnxLXDhsGyhC?= text", "日本語 text"),
            ("a =?utf-8?q?b_=C3=BC?= c", "a b ü c"),
            ("=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a_?= =?utf-8?q?b?=", "a  b"),
            ("=?iso-8859-1*de?q?=FC?=", "ü"),
            ("=?utf-8?x?a?= =?broken", "=?utf-8?x?a?= =?broken"),
            ("1=2 = 3", "1=2 = 3"),
            ("=?unknown-charset?q?ok?=", "ok"),
        ] {
            assert_eq!(decode_field(value.as_bytes()), expected, "{value}");
        }
    }

    fn body(octets: &[u8], encoding: &str, label: &str) -> String {
        let mut text = String::new();
        decode_body(octets, encoding.as_bytes(), label.as_bytes(), |piece| {
            text.push_str(piece);
            true
        })
        .unwrap();
        text
    }

    #[test]
    fn bodies_are_decoded() {
        assert_eq!(body(b"5pel5pys\r\n6Kqe\r\n", "base64", "utf-8"), "日本語");
        assert_eq!(body(b"a=\r\nb=3D=FC=\n", "Quoted-Printable", "iso-8859-1"), "ab=ü");
        assert_eq!(body(b"a=zz=", "quoted-printable", ""), "a=zz");
        assert_eq!(body(b"\x1b$BF|K\\8l\x1b(B", "7bit", "iso-2022-jp"), "日本語");
    }

    #[test]
    fn matches_cross_pieces_and_ignore_case() {
        let mut finder = Finder::new("STRASSE über");
        assert!(!finder.push("die Stra"));
        assert!(!finder.push("ße "));
        assert!(finder.push("ÜBER uns"));
        assert!(Finder::new("").found());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[=A-F0-9\r\nx]{0,30}", cut in 0_usize..30) {
            let text = text.as_bytes();
            let cut = cut.min(text.len());
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            let mut decoder = QuotedPrintable::default();
            decoder.push(text, &mut whole);
            let mut decoder = QuotedPrintable::default();
            decoder.push(&text[..cut], &mut parts);
            decoder.push(&text[cut..], &mut parts);
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn any_field_can_be_decoded(value in "[=?a-zBQ ]{0,40}") {
            prop_assert!(decode_field(value.as_bytes()).len() <= 200);
        }
    }
}
