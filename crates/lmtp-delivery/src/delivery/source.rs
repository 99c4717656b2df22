//! The message of a task, read from its descriptor as often as need be.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use queue::{Content, LineEnd};

use crate::task::Source;

/// A message with our header lines before it.
#[derive(Debug)]
pub struct Message<'t> {
    source: Source,
    prefix: &'t str,
    file: Option<File>,
}

impl<'t> Message<'t> {
    pub fn new(source: Source, prefix: &'t str, file: Option<File>) -> Self {
        Self { source, prefix, file }
    }

    /// Gives the message, with LF line ends, piece by piece.
    pub fn for_each<E: From<io::Error>>(
        &self,
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        out(self.prefix.as_bytes())?;
        match (self.source, &self.file) {
            (Source::Nothing, _) => Ok(()),
            (_, None) => Err(io::Error::other("the task came without a message").into()),
            (Source::Lines, Some(file)) => {
                let (mut at, mut piece) = (0, vec![0; 64 * 1024]);
                loop {
                    let length = file.read_at(&mut piece, at)?;
                    if length == 0 {
                        return Ok(());
                    }
                    out(&piece[..length])?;
                    at += length as u64;
                }
            }
            (Source::QueueFile { data_offset }, Some(file)) => {
                let damaged = |error: queue::ReadError| io::Error::other(error.to_string());
                let mut content = Content::at(file, data_offset)?;
                while let Some((piece, end)) = content.next_piece().map_err(damaged)? {
                    out(&piece)?;
                    if end == LineEnd::Newline {
                        out(b"\n")?;
                    }
                }
                Ok(())
            }
        }
    }
}
