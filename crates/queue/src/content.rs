//! The message itself, read in place: lines without their line ends, as long lines are stored.

use std::io;

use protocol::postfix::record::RecordType;

use crate::records::{Damage, ReadAt, ReadError, Records};

/// How a piece of content ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// A line is complete.
    Newline,
    /// The next piece continues the line.
    Continued,
}

/// The content segment, piece by piece.
#[derive(Debug)]
pub struct Content<S> {
    records: Records<S>,
    finished: bool,
}

impl<S: ReadAt> Content<S> {
    /// # Errors
    ///
    /// The length of the source cannot be learnt.
    pub fn at(source: S, data_offset: u64) -> io::Result<Self> {
        let mut records = Records::new(source)?;
        records.seek(data_offset);
        Ok(Self { records, finished: false })
    }

    /// The next piece; nothing at the end of the content, which must be an `X` or `E` record.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn next_piece(&mut self) -> Result<Option<(bytes::Bytes, LineEnd)>, ReadError> {
        if self.finished {
            return Ok(None);
        }
        let located = self.records.read()?.ok_or(Damage::MissingEnd)?;
        match located.kind() {
            RecordType::LINE => Ok(Some((located.record.data, LineEnd::Newline))),
            RecordType::CONTINUED => Ok(Some((located.record.data, LineEnd::Continued))),
            RecordType::EXTRACTED | RecordType::END => {
                self.finished = true;
                Ok(None)
            }
            other => Err(Damage::Unexpected(other, located.offset).into()),
        }
    }

    /// Appends the next whole line to `line`, without a line end; whether there was one.
    /// What is beyond `longest` octets is left for the next call, as a line of its own.
    ///
    /// # Errors
    ///
    /// As [`Content::next_piece`].
    pub fn next_line(&mut self, line: &mut Vec<u8>, longest: usize) -> Result<bool, ReadError> {
        let mut any = false;
        while let Some((piece, end)) = self.next_piece()? {
            any = true;
            line.extend_from_slice(&piece);
            if end == LineEnd::Newline || line.len() >= longest {
                break;
            }
        }
        Ok(any)
    }

    /// Where the record after the content stands, once all pieces are read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.records.position()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = include_bytes!("../tests/fixtures/two-recipients-one-done");
    const EDITED: &[u8] = include_bytes!("../tests/fixtures/milter-edited");

    fn text(file: &[u8], offset: u64) -> String {
        let mut content = Content::at(file, offset).unwrap();
        let (mut text, mut line) = (String::new(), Vec::new());
        while content.next_line(&mut line, 10_000).unwrap() {
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
            line.clear();
        }
        text
    }

    #[test]
    fn content_is_read_in_place_and_through_edits() {
        let plain = text(PLAIN, 757);
        assert!(plain.starts_with("Received: from c.example (localhost [127.0.0.1])\n\tby mail"));
        assert!(plain.ends_with("From: a@b.example\n\ncafé\n"));
        let edited = text(EDITED, 731);
        assert!(edited.starts_with("X-Insert0: at top\nReceived: from m.test"));
        assert!(edited.ends_with("the whole body is longer than before\n"));
    }

    #[test]
    fn a_cut_file_is_damaged() {
        let mut content = Content::at(&PLAIN[..900], 757).unwrap();
        let mut line = Vec::new();
        let error = loop {
            match content.next_line(&mut line, 100) {
                Ok(more) => assert!(more),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Damage(_)));
    }
}
