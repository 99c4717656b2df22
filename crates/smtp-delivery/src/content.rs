//! The message as it goes over the wire: lines from the queue file with CRLF and doubled dots, none longer than the limit.

use std::fs::File;

use queue::{Content, LineEnd, ReadError};

use crate::downgrade::Downgrade;

/// As much as is made at a time.
const CHUNK: usize = 64 * 1024;

/// Turns queue file content into DATA, piece by piece.
pub struct Encoder {
    content: Content<File>,
    wire: WireLines,
    /// For a server that takes 7-bit content only.
    downgrade: Option<Downgrade>,
    /// Lines that go in front.
    added: Vec<Vec<u8>>,
    last: LineEnd,
}

impl Encoder {
    /// # Errors
    ///
    /// The queue file cannot be read.
    pub fn new(
        file: File,
        data_offset: u64,
        limit: usize,
        downgrade: Option<Downgrade>,
        added: Vec<Vec<u8>>,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            content: Content::at(file, data_offset)?,
            wire: WireLines::new(limit),
            downgrade,
            added,
            last: LineEnd::Newline,
        })
    }

    /// Takes the message's header off the content, line by line, up to the empty line behind it or `most` octets.
    ///
    /// # Errors
    ///
    /// The queue file is damaged or cannot be read.
    pub fn take_header(&mut self, most: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let (mut lines, mut size) = (Vec::new(), 0);
        while size < most {
            let mut line = Vec::new();
            if !self.content.next_line(&mut line, most)? {
                break;
            }
            size += line.len() + 1;
            let end = line.is_empty();
            lines.push(line);
            if end {
                break;
            }
        }
        Ok(lines)
    }

    /// Lines that go in front of what is left of the content.
    pub fn add(&mut self, lines: impl IntoIterator<Item = Vec<u8>>) {
        self.added.extend(lines);
    }

    /// The next octets, all lines complete or to be continued; nothing at the end.
    ///
    /// # Errors
    ///
    /// The queue file is damaged or cannot be read.
    pub fn chunk(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::with_capacity(CHUNK + 4096);
        for line in std::mem::take(&mut self.added) {
            self.put(&line, LineEnd::Newline, &mut out);
        }
        while out.len() < CHUNK {
            let Some((piece, end)) = self.content.next_piece()? else {
                self.finish(&mut out);
                break;
            };
            self.last = end;
            self.put(&piece, end, &mut out);
        }
        Ok(out)
    }

    fn put(&mut self, piece: &[u8], end: LineEnd, out: &mut Vec<u8>) {
        match &mut self.downgrade {
            None => self.wire.put(piece, end, out),
            Some(downgrade) => {
                let wire = &mut self.wire;
                downgrade.put(piece, end, &mut |line, end| wire.put(line, end, out));
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(downgrade) = &mut self.downgrade {
            let wire = &mut self.wire;
            downgrade.finish(&mut |line, end| wire.put(line, end, out));
            self.last = LineEnd::Newline;
        }
        if self.last == LineEnd::Continued {
            self.wire.put(b"", LineEnd::Newline, out);
            self.last = LineEnd::Newline;
        }
    }

    /// A line was longer than the limit.
    pub fn broke_lines(&self) -> bool {
        self.wire.broke
    }
}

/// Dots doubled, lines ended and broken.
struct WireLines {
    limit: i64,
    /// Octets that still fit into the current line.
    left: i64,
    broke: bool,
}

impl WireLines {
    fn new(limit: usize) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Self { limit, left: limit, broke: false }
    }

    fn put(&mut self, mut piece: &[u8], end: LineEnd, out: &mut Vec<u8>) {
        loop {
            if self.left == self.limit && piece.first() == Some(&b'.') {
                out.push(b'.');
            }
            let room = usize::try_from(self.left.max(0)).unwrap_or(usize::MAX);
            if self.limit == 0 || piece.len() < room {
                out.extend_from_slice(piece);
                if end == LineEnd::Continued {
                    self.left -= i64::try_from(piece.len()).unwrap_or(0);
                } else {
                    out.extend_from_slice(b"\r\n");
                    self.left = self.limit;
                }
                return;
            }
            let (line, rest) = piece.split_at(room);
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
            self.left = self.limit;
            piece = rest;
            if !piece.is_empty() || end == LineEnd::Continued {
                out.push(b' ');
                self.left -= 1;
                self.broke = true;
            }
            if piece.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(limit: usize, pieces: &[(&str, LineEnd)]) -> String {
        let mut lines = WireLines::new(limit);
        let mut out = Vec::new();
        for (piece, end) in pieces {
            lines.put(piece.as_bytes(), *end, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dots_are_doubled_and_long_lines_broken() {
        use LineEnd::{Continued, Newline};
        for (limit, pieces, expected) in [
            (10, &[("abc", Newline), ("", Newline), (".", Newline)][..], "abc\r\n\r\n..\r\n"),
            (10, &[("0123456789", Newline)], "0123456789\r\n"),
            (10, &[("0123456789a", Newline)], "0123456789\r\n a\r\n"),
            (5, &[("0123456789", Newline)], "01234\r\n 5678\r\n 9\r\n"),
            (10, &[("abc", Continued), (".def", Newline)], "abc.def\r\n"),
            (4, &[("abc", Continued), (".def", Newline)], "abc.\r\n def\r\n"),
            (0, &[("0123456789", Newline), (".x", Newline)], "0123456789\r\n..x\r\n"),
        ] {
            assert_eq!(wire(limit, pieces), expected, "{limit} {pieces:?}");
        }
    }
}
