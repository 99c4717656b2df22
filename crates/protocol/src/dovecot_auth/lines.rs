//! A byte stream cut into bounded lines.

use super::MAX_LINE;
use bytes::{Bytes, BytesMut};

/// Collects what was read and gives back whole lines, without their LF.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: BytesMut,
    searched: usize,
}

/// The peer sent more than [`MAX_LINE`] bytes without an LF. The stream cannot be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE} bytes")]
pub struct TooLong;

impl Lines {
    /// Adds bytes that were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer to read into; what is appended counts as fed.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole line, if there is one.
    ///
    /// # Errors
    ///
    /// [`TooLong`] once a line exceeds [`MAX_LINE`], whether its end has come or not.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let found = self.buffer.iter().skip(self.searched).position(|&byte| byte == b'\n');
        let Some(length) = found.map(|at| at + self.searched) else {
            self.searched = self.buffer.len();
            return if self.searched > MAX_LINE { Err(TooLong) } else { Ok(None) };
        };
        self.searched = 0;
        if length > MAX_LINE {
            return Err(TooLong);
        }
        let mut line = self.buffer.split_to(length + 1);
        line.truncate(length);
        Ok(Some(line.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_they_came_in() {
        let stream = b"VERSION\t1\t2\nCPID\t1\n\nrest";
        for size in 1..=stream.len() {
            let mut lines = Lines::default();
            let mut out = Vec::new();
            for chunk in stream.chunks(size) {
                lines.feed(chunk);
                while let Some(line) = lines.next_line().unwrap() {
                    out.push(line);
                }
            }
            assert_eq!(out, [&b"VERSION\t1\t2"[..], b"CPID\t1", b""], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_may_have_16384_bytes_and_no_more() {
        let mut lines = Lines::default();
        lines.feed(&[b'x'; MAX_LINE]);
        assert_eq!(lines.next_line(), Ok(None));
        lines.feed(b"\n");
        assert_eq!(lines.next_line().unwrap().unwrap().len(), MAX_LINE);
        lines.feed(&[b'x'; MAX_LINE + 1]);
        assert_eq!(lines.next_line(), Err(TooLong));
    }
}
