//! Line ends: what travels has CRLF, what is stored has LF.

use std::io::{self, BufRead, BufReader, Read};

/// Turns CRLF into LF, piece by piece. A CR that is no part of a CRLF stays.
#[derive(Clone, Debug, Default)]
pub struct ToLf {
    /// The last octet was a CR that is not given on yet.
    held: bool,
    /// The last octet given on was a CR.
    after_cr: bool,
    bare_lines: u64,
}

impl ToLf {
    /// Converts `octets`, giving what is ready to `out`.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn push<E>(
        &mut self,
        octets: &[u8],
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = octets;
        if self.held
            && let Some(&first) = rest.first()
        {
            self.held = false;
            if first != b'\n' {
                self.give(b"\r", &mut out)?;
            }
        }
        while let Some(at) = rest.iter().position(|&octet| octet == b'\r') {
            match rest.get(at + 1) {
                Some(b'\n') => {
                    self.give(&rest[..at], &mut out)?;
                    rest = &rest[at + 1..];
                }
                Some(_) => {
                    self.give(&rest[..=at], &mut out)?;
                    rest = &rest[at + 1..];
                }
                None => {
                    self.give(&rest[..at], &mut out)?;
                    self.held = true;
                    return Ok(());
                }
            }
        }
        self.give(rest, &mut out)
    }

    /// Gives on what was held back for its successor.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn finish<E>(&mut self, mut out: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if std::mem::take(&mut self.held) { self.give(b"\r", &mut out) } else { Ok(()) }
    }

    /// How many of the LFs given on have no CR before them: each counts one octet more on the wire.
    #[must_use]
    pub fn bare_lines(&self) -> u64 {
        self.bare_lines
    }

    fn give<E>(
        &mut self,
        piece: &[u8],
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(&last) = piece.last() else { return Ok(()) };
        self.bare_lines += bare_line_ends(piece, self.after_cr);
        self.after_cr = last == b'\r';
        out(piece)
    }
}

/// Counts the LFs without a CR before them; `after_cr` tells of the octet before the piece.
fn bare_line_ends(piece: &[u8], after_cr: bool) -> u64 {
    let mut before = if after_cr { b'\r' } else { 0 };
    let mut count = 0;
    for &octet in piece {
        count += u64::from(octet == b'\n' && before != b'\r');
        before = octet;
    }
    count
}

/// Turns bare LF into CRLF, piece by piece; CRLF stays.
#[derive(Clone, Debug, Default)]
pub struct ToCrlf {
    after_cr: bool,
}

impl ToCrlf {
    /// Appends the converted `octets` to `out`.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else {
                out.extend_from_slice(line);
                self.after_cr = line.ends_with(b"\r");
                continue;
            };
            out.extend_from_slice(text);
            let has_cr = if text.is_empty() { self.after_cr } else { text.ends_with(b"\r") };
            out.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
            self.after_cr = false;
        }
    }
}

/// The size of a stored message on the wire: every bare LF counts two.
///
/// # Errors
///
/// What reading returns.
pub fn wire_size(content: impl Read) -> io::Result<u64> {
    let mut content = BufReader::with_capacity(64 * 1024, content);
    let (mut size, mut after_cr) = (0, false);
    loop {
        let piece = content.fill_buf()?;
        let Some(&last) = piece.last() else { return Ok(size) };
        size += piece.len() as u64 + bare_line_ends(piece, after_cr);
        after_cr = last == b'\r';
        let length = piece.len();
        content.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(pieces: &[&[u8]]) -> (Vec<u8>, u64) {
        let (mut out, mut converter) = (Vec::new(), ToLf::default());
        let mut keep = |piece: &[u8]| -> Result<(), ()> {
            out.extend_from_slice(piece);
            Ok(())
        };
        for piece in pieces {
            converter.push(piece, &mut keep).unwrap();
        }
        converter.finish(&mut keep).unwrap();
        let size = out.len() as u64 + converter.bare_lines();
        (out, size)
    }

    #[test]
    fn crlf_becomes_lf_and_other_cr_stays() {
        for (wire, disk, size) in [
            (&b"a\r\nb\r\n"[..], &b"a\nb\n"[..], 6),
            (b"a\nb", b"a\nb", 4),
            (b"a\rb\r", b"a\rb\r", 4),
            (b"a\r\r\n", b"a\r\n", 3),
            (b"\r\n\r\n", b"\n\n", 4),
        ] {
            assert_eq!(stored(&[wire]), (disk.to_vec(), size), "{wire:?}");
            let single: Vec<&[u8]> = wire.chunks(1).collect();
            assert_eq!(stored(&single), (disk.to_vec(), size), "{wire:?} one by one");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab\r\n]{0,40}", cut in 0_usize..40) {
            let text = text.as_bytes();
            let cut = cut.min(text.len());
            let (disk, size) = stored(&[text]);
            prop_assert_eq!(&stored(&[&text[..cut], &text[cut..]]).0, &disk);
            prop_assert_eq!(wire_size(&disk[..]).unwrap(), size);
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            ToCrlf::default().push(text, &mut whole);
            let mut converter = ToCrlf::default();
            converter.push(&text[..cut], &mut pieces);
            converter.push(&text[cut..], &mut pieces);
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(wire_size(text).unwrap(), whole.len() as u64);
        }
    }
}
