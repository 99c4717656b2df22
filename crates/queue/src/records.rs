//! Reading records at their offsets, and following the pointers that edits leave behind.

use std::fs::File;
use std::io;

use protocol::postfix::record::{BadRecord, Header, Record, RecordType};

/// Longest record taken. Postfix writes lines of `line_length_limit` and envelopes below that.
const LONGEST_RECORD: usize = 1 << 20;
const BLOCK: usize = 32 * 1024;

/// Where records are read from, at any offset.
pub trait ReadAt {
    /// # Errors
    ///
    /// As the medium gives them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// # Errors
    ///
    /// As the medium gives them.
    fn length(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }
}

/// What is wrong with a queue file. It belongs into `corrupt/`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("missing end record")]
    MissingEnd,
    #[error("{0} at offset {1}")]
    Record(BadRecord, u64),
    #[error("malformed pointer record value: {0}")]
    Pointer(String),
    #[error("pointer records form a loop")]
    Loop,
    #[error("unexpected record type {0:?} at offset {1}")]
    Unexpected(RecordType, u64),
    #[error("missing {0} record")]
    Missing(&'static str),
    #[error("malformed {0} record")]
    Malformed(&'static str),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Damage(#[from] Damage),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub offset: u64,
    /// Offset of what stands behind it in the file.
    pub end: u64,
    pub record: Record,
}

impl Located {
    #[must_use]
    pub const fn kind(&self) -> RecordType {
        self.record.kind
    }

    /// The data as text; octets that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.record.data).into_owned()
    }
}

/// How pointer and padding records are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// As every reader of mail must: pointers are followed, padding is skipped.
    Pointers,
    /// For tools that show the file as it lies there.
    Nothing,
}

/// A cursor over the records of one file.
#[derive(Debug)]
pub struct Records<S> {
    source: S,
    position: u64,
    block: Vec<u8>,
    block_start: u64,
    follow: Follow,
    /// Each octet is read at most once in a sound file; this is what may still be read.
    budget: u64,
}

impl<S: ReadAt> Records<S> {
    /// # Errors
    ///
    /// The length cannot be learnt.
    pub fn new(source: S) -> io::Result<Self> {
        let budget = source.length()?.saturating_add(BLOCK as u64);
        let (block, follow) = (Vec::new(), Follow::Pointers);
        Ok(Self { source, position: 0, block, block_start: 0, follow, budget })
    }

    #[must_use]
    pub fn raw(self) -> Self {
        Self { follow: Follow::Nothing, ..self }
    }

    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    pub const fn seek(&mut self, offset: u64) {
        self.position = offset;
    }

    /// The next record; nothing at the end of the file.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read(&mut self) -> Result<Option<Located>, ReadError> {
        loop {
            let Some(located) = self.next_raw()? else { return Ok(None) };
            if self.follow == Follow::Nothing {
                return Ok(Some(located));
            }
            match located.kind() {
                RecordType::POINTER => self.jump(&located)?,
                RecordType::PADDING => {}
                _ => return Ok(Some(located)),
            }
        }
    }

    fn jump(&mut self, pointer: &Located) -> Result<(), Damage> {
        let text = pointer.text();
        let target: u64 = text
            .trim_start()
            .parse()
            .map_err(|_| Damage::Pointer(text.chars().take(40).collect()))?;
        if target != 0 {
            self.position = target;
        }
        Ok(())
    }

    fn next_raw(&mut self) -> Result<Option<Located>, ReadError> {
        let offset = self.position;
        let damage = |bad| Damage::Record(bad, offset);
        let beginning = self.peek(7)?;
        if beginning.is_empty() {
            return Ok(None);
        }
        let header = Header::parse(beginning, LONGEST_RECORD).map_err(damage)?;
        let header = header.ok_or(Damage::MissingEnd)?;
        let size = header.size + header.length;
        self.budget = self.budget.checked_sub(size as u64).ok_or(Damage::Loop)?;
        let bytes = self.peek(size)?;
        let data = bytes.get(header.size..size).ok_or(Damage::MissingEnd)?;
        let record = Record::new(header.kind, data);
        self.position = offset.saturating_add(size as u64);
        Ok(Some(Located { offset, end: self.position, record }))
    }

    /// At most `count` octets at the cursor; fewer only at the end of the file.
    fn peek(&mut self, count: usize) -> Result<&[u8], ReadError> {
        let within = |start: u64, block: &[u8], position: u64| {
            position
                .checked_sub(start)
                .and_then(|skip| usize::try_from(skip).ok())
                .filter(|&skip| block.len() >= skip.saturating_add(count))
        };
        let skip = match within(self.block_start, &self.block, self.position) {
            Some(skip) => skip,
            None => {
                self.fill(count.max(BLOCK))?;
                0
            }
        };
        let end = self.block.len().min(skip + count);
        Ok(self.block.get(skip..end).unwrap_or_default())
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        self.block_start = self.position;
        self.block.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            let rest = self.block.get_mut(filled..).unwrap_or_default();
            match self.source.read_at(rest, self.position.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.block.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const PLAIN: &[u8] = include_bytes!("../tests/fixtures/two-recipients-one-done");
    const EDITED: &[u8] = include_bytes!("../tests/fixtures/milter-edited");

    fn all<S: ReadAt>(mut records: Records<S>) -> Result<Vec<Located>, ReadError> {
        let mut list = Vec::new();
        while let Some(located) = records.read()? {
            let end = located.kind() == RecordType::END;
            list.push(located);
            if end {
                break;
            }
        }
        Ok(list)
    }

    #[test]
    fn a_captured_file_is_printed_back_byte_for_byte() {
        let mut printed = Vec::new();
        for located in all(Records::new(PLAIN).unwrap()).unwrap() {
            assert_eq!(located.offset, printed.len() as u64);
            located.record.write(&mut printed);
        }
        assert_eq!(printed, PLAIN);
    }

    /// What edits overwrote is garbage that no record owns; all the rest is printed back in place.
    #[test]
    fn an_edited_file_is_read_in_the_order_of_its_pointers() {
        let mut printed = vec![None; EDITED.len()];
        let mut records = Records::new(EDITED).unwrap();
        let mut content = String::new();
        let mut raw = Records::new(EDITED).unwrap().raw();
        let mut put = |located: &Located| {
            let mut bytes = Vec::new();
            located.record.write(&mut bytes);
            for (index, byte) in bytes.into_iter().enumerate() {
                printed[usize::try_from(located.offset).unwrap() + index] = Some(byte);
            }
        };
        // The pointers themselves: at the cursor of the following reader, before it jumps.
        loop {
            loop {
                raw.seek(records.position());
                let Some(here) = raw.read().unwrap() else { break };
                if here.kind() != RecordType::POINTER {
                    break;
                }
                put(&here);
                let target: u64 = here.text().trim().parse().unwrap();
                records.seek(if target == 0 { here.end } else { target });
            }
            let Some(located) = records.read().unwrap() else { break };
            put(&located);
            if located.kind() == RecordType::LINE {
                writeln!(content, "{}", located.text()).unwrap();
            }
            if located.kind() == RecordType::END {
                break;
            }
        }
        insta::assert_snapshot!(content);
        let garbage: Vec<usize> = printed
            .iter()
            .enumerate()
            .filter(|(_, byte)| byte.is_none())
            .map(|(at, _)| at)
            .collect();
        assert!(printed.iter().zip(EDITED).all(|(ours, theirs)| ours.is_none_or(|b| b == *theirs)));
        // The tail of Received, the old Subject's, X-Del's and the old body.
        assert_eq!(garbage.len(), (778 - 748) + (896 - 895) + (1097 - 1087));
    }

    #[test]
    fn damage_is_told_and_never_a_panic() {
        for length in 0..PLAIN.len() {
            let read = all(Records::new(&PLAIN[..length]).unwrap());
            assert!(
                matches!(read, Err(ReadError::Damage(_)))
                    || read.unwrap().last().is_none_or(|last| last.kind() != RecordType::END)
            );
        }
        for (bytes, damage) in [
            (&b"N\xff\xff\xff\xff\xff"[..], "record length is malformed at offset 0"),
            (b"p\x010p\x01x", "malformed pointer record value: x"),
            (b"p\x00", "malformed pointer record value: "),
            (b"N\x00p\x012", "pointer records form a loop"),
            (b"N\xff\xff\xff\x01", "record of 4194303 octets is too long at offset 0"),
            (b"N\x05abc", "missing end record"),
        ] {
            let error = all(Records::new(bytes).unwrap()).unwrap_err();
            assert_eq!(error.to_string(), damage);
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_ends(bytes: Vec<u8>) {
            let _ = all(Records::new(&bytes[..]).unwrap());
        }

        #[test]
        fn a_flipped_octet_ends(at in 0..1469_usize, octet: u8) {
            let mut bytes = EDITED.to_vec();
            bytes[at] = octet;
            let _ = all(Records::new(&bytes[..]).unwrap());
        }
    }
}
