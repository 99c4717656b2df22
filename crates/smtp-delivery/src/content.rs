//! The message as it goes over the wire: lines from the queue file with CRLF and doubled dots, none longer than the limit.

use std::fs::File;

use queue::{Content, LineEnd, ReadError};

use crate::checks::{NoAnswer, Rewriter};
use crate::downgrade::{Downgrade, Out};

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
    /// All of the content has been read.
    over: bool,
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
            over: false,
        })
    }

    /// The next octets, all lines complete or to be continued; nothing at the end.
    ///
    /// # Errors
    ///
    /// The queue file is damaged or cannot be read.
    pub fn chunk(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::with_capacity(CHUNK + 4096);
        while out.len() < CHUNK && !self.over {
            let Self { content, wire, downgrade, added, over, .. } = self;
            *over = !piece(content, downgrade, added, &mut |piece, end| {
                wire.put(piece, end, &mut out)
            })?;
        }
        self.finish(&mut out);
        Ok(out)
    }

    /// The same, with `rewriter` in between.
    ///
    /// # Errors
    ///
    /// As before, or a table has no answer.
    pub async fn rewritten(&mut self, rewriter: &mut Rewriter<'_>) -> Result<Vec<u8>, Unmade> {
        let mut out = Vec::with_capacity(CHUNK + 4096);
        let mut pieces: Vec<(Vec<u8>, LineEnd)> = Vec::new();
        while out.len() < CHUNK && !self.over {
            let Self { content, downgrade, added, over, .. } = self;
            let mut hold = |piece: &[u8], end| pieces.push((piece.to_vec(), end));
            *over = !piece(content, downgrade, added, &mut hold).map_err(Unmade::Queue)?;
            for (piece, end) in pieces.drain(..) {
                rewriter.put(&piece, end).await.map_err(|NoAnswer| Unmade::NoAnswer)?;
            }
            if self.over {
                rewriter.finish().await.map_err(|NoAnswer| Unmade::NoAnswer)?;
            }
            for (piece, end) in rewriter.out.drain(..) {
                self.wire.put(&piece, end, &mut out);
            }
        }
        self.finish(&mut out);
        Ok(out)
    }

    /// A last line without an end gets one.
    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.over && self.wire.open {
            self.wire.put(b"", LineEnd::Newline, out);
        }
    }

    /// A line was longer than the limit.
    pub fn broke_lines(&self) -> bool {
        self.wire.broke
    }
}

/// Why there is no more to send.
#[derive(Debug)]
pub enum Unmade {
    Queue(ReadError),
    NoAnswer,
}

/// Takes one piece of the content, and gives what the downgrade makes of it; whether there was one.
fn piece(
    content: &mut Content<File>,
    downgrade: &mut Option<Downgrade>,
    added: &mut Vec<Vec<u8>>,
    out: &mut Out<'_>,
) -> Result<bool, ReadError> {
    let mut put = |piece: &[u8], end| match downgrade {
        Some(downgrade) => downgrade.put(piece, end, out),
        None => out(piece, end),
    };
    for line in added.drain(..) {
        put(&line, LineEnd::Newline);
    }
    if let Some((piece, end)) = content.next_piece()? {
        put(&piece, end);
        return Ok(true);
    }
    if let Some(downgrade) = downgrade {
        downgrade.finish(out);
    }
    Ok(false)
}

/// Dots doubled, lines ended and broken.
struct WireLines {
    limit: i64,
    /// Octets that still fit into the current line.
    left: i64,
    broke: bool,
    /// The last line has no end yet.
    open: bool,
}

impl WireLines {
    fn new(limit: usize) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Self { limit, left: limit, broke: false, open: false }
    }

    fn put(&mut self, mut piece: &[u8], end: LineEnd, out: &mut Vec<u8>) {
        self.open = end == LineEnd::Continued;
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
