//! Content on its way to the recipients: a file without a name, lines with LF.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use message::content::ToLf;

/// The part of the header in which a Message-ID is looked for.
const HEADER: usize = 64 * 1024;
/// Written in pieces of this size.
const PIECE: usize = 256 * 1024;

#[derive(Debug)]
pub struct Spool {
    file: File,
    pending: Vec<u8>,
    header: Vec<u8>,
    lines: ToLf,
}

impl Spool {
    /// A file in `directory` that no name leads to; it goes with its last descriptor.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_TMPFILE)
            .open(directory)?;
        Ok(Self { file, pending: Vec::new(), header: Vec::new(), lines: ToLf::default() })
    }

    /// Takes octets; gives what is to be written once there is enough of it.
    pub fn push(&mut self, octets: &[u8]) {
        let (pending, header) = (&mut self.pending, &mut self.header);
        let _ = self.lines.push(octets, |piece| -> Result<(), std::convert::Infallible> {
            let room = HEADER.saturating_sub(header.len());
            header.extend_from_slice(&piece[..piece.len().min(room)]);
            pending.extend_from_slice(piece);
            Ok(())
        });
    }

    /// Whether [`Self::flush`] is due.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= PIECE
    }

    /// Writes what has been taken. Blocks.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Ends the content.
    pub fn finish(&mut self) -> io::Result<()> {
        let pending = &mut self.pending;
        let _ = self.lines.finish(|piece| -> Result<(), std::convert::Infallible> {
            pending.extend_from_slice(piece);
            Ok(())
        });
        self.flush()
    }

    /// `Message-ID` as the log shows it: `unspecified` where there is none.
    pub fn message_id(&self) -> String {
        message::header::find(&self.header, "Message-ID")
            .map(|field| String::from_utf8_lossy(&field.unfolded()).into_owned())
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| "unspecified".to_owned())
    }

    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn content_is_kept_with_lf_and_its_id_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(directory.path()).unwrap();
        spool.push(b"Subject: x\r\nMessage-Id: <m1@example.net>\r\n\r\nbo");
        spool.flush().unwrap();
        spool.push(b"dy\r\n");
        spool.finish().unwrap();
        assert_eq!(spool.message_id(), "<m1@example.net>");
        let mut text = [0; 100];
        let length = spool.file.read_at(&mut text, 0).unwrap();
        assert_eq!(&text[..length], b"Subject: x\nMessage-Id: <m1@example.net>\n\nbody\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
