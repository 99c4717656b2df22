//! Records: `type(1) length(varint) data`, in queue files and on the socket to cleanup.

use bytes::{Buf as _, Bytes, BytesMut};

/// The type byte of a record. Some mean one thing in the envelope and another in the content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u8);

impl RecordType {
    pub const SIZE: Self = Self(b'C');
    pub const TIME: Self = Self(b'T');
    pub const CREATE_TIME: Self = Self(b'c');
    pub const FULL_NAME: Self = Self(b'F');
    pub const INSPECTOR: Self = Self(b'I');
    /// In the envelope; in the content the same byte is [`Self::CONTINUED`].
    pub const FILTER: Self = Self(b'L');
    pub const SENDER: Self = Self(b'S');
    pub const ATTRIBUTE: Self = Self(b'A');
    pub const ORIGINAL_RECIPIENT: Self = Self(b'O');
    pub const RECIPIENT: Self = Self(b'R');
    pub const DONE: Self = Self(b'D');
    pub const CANCELLED: Self = Self(b'/');
    pub const WARN_TIME: Self = Self(b'W');
    pub const VERP: Self = Self(b'V');
    pub const REDIRECT: Self = Self(b'>');
    pub const KILLED: Self = Self(b'K');
    pub const MESSAGE: Self = Self(b'M');
    /// A line of content, complete.
    pub const LINE: Self = Self(b'N');
    /// A line of content that the next record continues.
    pub const CONTINUED: Self = Self(b'L');
    pub const PADDING: Self = Self(b'w');
    pub const POINTER: Self = Self(b'p');
    pub const EXTRACTED: Self = Self(b'X');
    pub const RETURN_RECEIPT_TO: Self = Self(b'r');
    pub const ERRORS_TO: Self = Self(b'e');
    pub const PRIORITY: Self = Self(b'P');
    pub const END: Self = Self(b'E');
    /// These three travel to cleanup and stand in no file.
    pub const FLAGS: Self = Self(b'f');
    pub const DELAY: Self = Self(b'd');
    pub const MILTER_COUNT: Self = Self(b'm');
}

impl std::fmt::Debug for RecordType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", char::from(self.0))
    }
}

/// One record.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub kind: RecordType,
    pub data: Bytes,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.kind, String::from_utf8_lossy(&self.data))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("record length is malformed")]
    Length,
    #[error("record of {0} octets is too long")]
    TooLong(usize),
}

/// Longest length field: 7 bits in each octet, 31 bits in all.
const LENGTH_OCTETS: usize = 5;

impl Record {
    #[must_use]
    pub fn new(kind: RecordType, data: impl AsRef<[u8]>) -> Self {
        Self { kind, data: Bytes::copy_from_slice(data.as_ref()) }
    }

    /// Takes a record off the front of `buffer`; nothing if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`BadRecord`]; then nothing that follows can be trusted.
    pub fn take(buffer: &mut BytesMut, longest: usize) -> Result<Option<Self>, BadRecord> {
        let Some(header) = Header::parse(buffer, longest)? else { return Ok(None) };
        if buffer.len() < header.size + header.length {
            return Ok(None);
        }
        buffer.advance(header.size);
        Ok(Some(Self { kind: header.kind, data: buffer.split_to(header.length).freeze() }))
    }

    pub fn write(&self, to: &mut Vec<u8>) {
        write(to, self.kind, &self.data);
    }
}

/// What stands before a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: RecordType,
    /// Octets of the data.
    pub length: usize,
    /// Octets of type and length.
    pub size: usize,
}

impl Header {
    /// Reads a record's beginning; nothing if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`BadRecord`] if the length is malformed or above `longest`.
    pub fn parse(bytes: &[u8], longest: usize) -> Result<Option<Self>, BadRecord> {
        let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
        let mut length = 0_u64;
        for (index, &octet) in rest.iter().enumerate() {
            if index == LENGTH_OCTETS {
                return Err(BadRecord::Length);
            }
            length |= u64::from(octet & 0x7f) << (7 * index);
            if octet & 0x80 == 0 {
                let length = i32::try_from(length).map_err(|_| BadRecord::Length)?;
                let length = usize::try_from(length).map_err(|_| BadRecord::Length)?;
                if length > longest {
                    return Err(BadRecord::TooLong(length));
                }
                return Ok(Some(Self { kind: RecordType(kind), length, size: index + 2 }));
            }
        }
        if rest.len() >= LENGTH_OCTETS { Err(BadRecord::Length) } else { Ok(None) }
    }
}

/// Appends a record.
pub fn write(to: &mut Vec<u8>, kind: RecordType, data: &[u8]) {
    to.push(kind.0);
    let mut length = data.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            to.push(low);
            break;
        }
        to.push(low | 0x80);
    }
    to.extend_from_slice(data);
}

/// Appends an attribute record, `name=value`.
pub fn write_attribute(to: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    let mut data = Vec::from(name.as_bytes());
    data.push(b'=');
    data.extend_from_slice(value.as_ref());
    write(to, RecordType::ATTRIBUTE, &data);
}

/// Appends one line of content, cut at `longest` (`line_length_limit`).
pub fn write_line(to: &mut Vec<u8>, mut line: &[u8], longest: usize) {
    while line.len() > longest.max(1) {
        let (chunk, rest) = line.split_at(longest.max(1));
        write(to, RecordType::CONTINUED, chunk);
        line = rest;
    }
    write(to, RecordType::LINE, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_seven_bits_an_octet() {
        for (length, header) in
            [(0, &[0x4e, 0x00][..]), (952, &[0x4e, 0xb8, 0x07]), (2048, &[0x4e, 0x80, 0x10])]
        {
            let mut bytes = Vec::new();
            write(&mut bytes, RecordType::LINE, &vec![b'x'; length]);
            assert_eq!(&bytes[..header.len()], header);
            let mut buffer = BytesMut::from(&bytes[..]);
            let record = Record::take(&mut buffer, 4096).unwrap().unwrap();
            assert_eq!((record.data.len(), buffer.len()), (length, 0));
        }
    }

    #[test]
    fn a_bad_length_is_refused() {
        for bytes in
            [&b"N\xff\xff\xff\xff\xff"[..], b"N\xff\xff\xff\xff\x7f", b"N\x80\x80\x80\x80\x80\x00"]
        {
            assert_eq!(Header::parse(bytes, usize::MAX), Err(BadRecord::Length), "{bytes:?}");
        }
        assert_eq!(Header::parse(b"N\x81\x01", 128), Err(BadRecord::TooLong(129)));
        assert_eq!(Header::parse(b"N\x81", 128), Ok(None));
        assert_eq!(Header::parse(b"", 128), Ok(None));
    }

    #[test]
    fn a_long_line_is_cut_as_smtpd_cuts_it() {
        let mut bytes = Vec::new();
        write_line(&mut bytes, &[b'x'; 3000], 2048);
        assert_eq!(&bytes[..3], b"L\x80\x10");
        assert_eq!(&bytes[2051..2054], b"N\xb8\x07");
        bytes.clear();
        write_line(&mut bytes, &[b'x'; 2048], 2048);
        assert_eq!(&bytes[..3], b"N\x80\x10");
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_an_error_or_a_record(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Record::take(&mut buffer, 100) {}
        }

        #[test]
        fn what_is_written_is_read(kind: u8, data: Vec<u8>) {
            let mut bytes = Vec::new();
            write(&mut bytes, RecordType(kind), &data);
            let record = Record::take(&mut BytesMut::from(&bytes[..]), 1 << 20).unwrap().unwrap();
            assert_eq!((record.kind.0, &record.data[..]), (kind, &data[..]));
        }
    }
}
