//! Editing a queue file that is complete but for its last word, in place, as Postfix's cleanup does it for milters.
//!
//! Nothing moves: what is new is appended behind the end record, and a pointer record is written over what it
//! replaces or follows. For that the file has dummy pointers in some places ([`EditPoints`]), and its sender and the
//! first line of each header field are padded where a pointer would not fit over them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use protocol::postfix::record::{self, Record, RecordType};

use crate::records::{Damage, Located, ReadError, Records};

/// Octets of a pointer's data.
const POINTER: usize = 15;
/// Octets of a whole pointer record.
const POINTER_RECORD: u64 = 17;

/// A place that a pointer can be written to, and where it leads back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub at: u64,
    pub target: u64,
}

/// Where a file can be edited; learnt while it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EditPoints {
    /// The sender record, and what stands behind it and its padding.
    pub sender: Point,
    /// Behind the last recipient.
    pub recipients: Point,
    /// Behind the last header field; the target is the beginning of the body.
    pub header: Point,
    /// The first octet of the content.
    pub data: u64,
    /// The record that ends the content.
    pub extracted: u64,
}

/// An edit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("queue file size limit exceeded")]
    Full,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file being edited.
#[derive(Debug)]
pub struct Editor {
    file: File,
    points: EditPoints,
    end: u64,
    /// Octets that the file may have.
    limit: Option<u64>,
    /// The first line of the field that names do not count.
    own_field: Vec<u8>,
    /// Content in front of the body, by which a new body's size is counted.
    before_body: u64,
    body: Body,
}

/// Room for bodies: the old ones' places are used again.
#[derive(Debug, Default)]
struct Body {
    free: Vec<Region>,
    used: Vec<Region>,
    at: u64,
    size: u64,
}

/// A stretch of the file; without a length it is the file's open end.
#[derive(Clone, Copy, Debug)]
struct Region {
    start: u64,
    length: Option<u64>,
}

/// A dummy pointer.
pub fn write_dummy(to: &mut Vec<u8>) {
    write_pointer(to, 0);
}

fn write_pointer(to: &mut Vec<u8>, target: u64) {
    record::write(to, RecordType::POINTER, format!("{target:POINTER$}").as_bytes());
}

/// What has to follow a record with so much data, so that a pointer fits over both. Behind a sender it is
/// [`RecordType::POINTER`], behind a header line [`RecordType::PADDING`].
pub fn write_padding(to: &mut Vec<u8>, kind: RecordType, length: usize) {
    if let Some(missing) = POINTER.checked_sub(length).filter(|&missing| missing > 0) {
        record::write(to, kind, format!("{:missing$}", 0).as_bytes());
    }
}

impl Editor {
    /// `end` is the length of the file, which ends with its end record; `own_field` is the header field, its lines
    /// divided by LF, that edits by name pass over.
    #[must_use]
    pub fn new(
        file: File,
        points: EditPoints,
        end: u64,
        limit: Option<u64>,
        own_field: &[u8],
    ) -> Self {
        let own_field = own_field.split(|&octet| octet == b'\n').next().unwrap_or_default();
        let old = Region {
            start: points.header.target,
            length: points.extracted.checked_sub(points.header.target),
        };
        let body = Body { used: vec![old], ..Body::default() };
        let before_body = points.header.target.saturating_sub(points.data);
        Self { file, points, end, limit, own_field: own_field.to_vec(), before_body, body }
    }

    /// The length of the file now.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The file, to read it.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64, EditError> {
        let start = self.end;
        let end = start.saturating_add(bytes.len() as u64);
        if self.limit.is_some_and(|limit| end > limit) {
            return Err(EditError::Full);
        }
        self.file.write_all_at(bytes, start)?;
        self.end = end;
        Ok(start)
    }

    fn point(&self, at: u64, target: u64) -> Result<(), EditError> {
        let mut bytes = Vec::new();
        write_pointer(&mut bytes, target);
        Ok(self.file.write_all_at(&bytes, at)?)
    }

    /// Appends records and a way back, and leads `point` to them. The way back is the next place to append.
    fn extend(&mut self, point: Point, records: &[u8]) -> Result<Point, EditError> {
        let mut bytes = records.to_vec();
        write_pointer(&mut bytes, point.target);
        let start = self.append(&bytes)?;
        self.point(point.at, start)?;
        Ok(Point { at: start + records.len() as u64, target: point.target })
    }

    /// A field behind all others; `field` are its records as [`field_records`] makes them.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn add_header(&mut self, field: &[u8]) -> Result<(), EditError> {
        self.points.header = self.extend(self.points.header, field)?;
        Ok(())
    }

    /// A field before the one with this number, from 0; behind all if there are fewer.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn insert_header(&mut self, index: u32, field: &[u8]) -> Result<(), EditError> {
        let Some(found) = self.find(index, None)? else { return self.add_header(field) };
        let mut bytes = field.to_vec();
        found.first.record.write(&mut bytes);
        write_padding(&mut bytes, RecordType::PADDING, found.first.record.data.len());
        write_pointer(&mut bytes, found.second);
        let start = self.append(&bytes)?;
        self.point(found.first.offset, start)
    }

    /// Replaces the field with this name and number, from 1. If there is none, the new one is added.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn change_header(
        &mut self,
        index: u32,
        name: &[u8],
        field: &[u8],
    ) -> Result<(), EditError> {
        let Some(found) = self.find(index.saturating_sub(1), Some(name))? else {
            return self.add_header(field);
        };
        let mut bytes = field.to_vec();
        write_pointer(&mut bytes, self.end_of(&found)?);
        let start = self.append(&bytes)?;
        self.point(found.first.offset, start)
    }

    /// Deletes the field with this name and number, from 1, if it is there.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn delete_header(&mut self, index: u32, name: &[u8]) -> Result<(), EditError> {
        let Some(found) = self.find(index.saturating_sub(1), Some(name))? else { return Ok(()) };
        let next = self.end_of(&found)?;
        self.point(found.first.offset, next)
    }

    /// Replaces the sender by these records; `sender` is where in them the sender record is. Padding is added.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn change_sender(&mut self, records: &[u8], sender: u64) -> Result<(), EditError> {
        let mut bytes = records.to_vec();
        let length = usize::try_from(sender).ok().and_then(|at| records.get(at..));
        let header = length.and_then(|rest| record::Header::parse(rest, usize::MAX).ok().flatten());
        let missing = || Damage::Missing("sender");
        let length =
            header.map(|header| header.length).ok_or_else(missing).map_err(ReadError::from)?;
        write_padding(&mut bytes, RecordType::POINTER, length);
        let behind = bytes.len() as u64;
        write_pointer(&mut bytes, self.points.sender.target);
        let start = self.append(&bytes)?;
        self.point(self.points.sender.at, start)?;
        self.points.sender = Point { at: start + sender, target: start + behind };
        Ok(())
    }

    /// Adds recipients: their records, attributes and all.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn add_recipients(&mut self, records: &[u8]) -> Result<(), EditError> {
        if !records.is_empty() {
            self.points.recipients = self.extend(self.points.recipients, records)?;
        }
        Ok(())
    }

    /// Cancels every recipient whose original form is this one, and gives the addresses that they had.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn cancel_recipients(&self, original: &[u8]) -> Result<Vec<Vec<u8>>, EditError> {
        let mut records = Records::new(&self.file)?;
        let (mut named, mut cancelled) = (None, Vec::new());
        while let Some(located) = records.read()? {
            match located.kind() {
                RecordType::END => break,
                RecordType::MESSAGE => records.seek(self.points.extracted),
                RecordType::ORIGINAL_RECIPIENT => named = Some(located.record.data.clone()),
                RecordType::RECIPIENT => {
                    let address = &located.record.data;
                    if named.take().as_ref().unwrap_or(address) == original {
                        self.file.write_all_at(&[RecordType::CANCELLED.0], located.offset)?;
                        cancelled.push(address.to_vec());
                    }
                }
                RecordType::DONE | RecordType::CANCELLED => named = None,
                _ => {}
            }
        }
        Ok(cancelled)
    }

    /// Drops the body. Lines follow, then [`Editor::end_body`].
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn begin_body(&mut self) -> Result<(), EditError> {
        let old = std::mem::take(&mut self.body.used);
        self.body.free.extend(old);
        self.body.size = 0;
        let region = self.open_region(POINTER_RECORD);
        self.body.at = region.start;
        self.body.used.push(region);
        self.points.header.target = region.start;
        self.point(self.points.header.at, region.start)?;
        // The empty line that divides header and body belongs to the body's place.
        self.body_line(RecordType::LINE, b"")
    }

    /// The first free stretch that is long enough, or the end of the file.
    fn open_region(&mut self, needed: u64) -> Region {
        let fits = |region: &Region| region.length.is_some_and(|length| length >= needed);
        match self.body.free.iter().position(fits) {
            Some(index) => self.body.free.remove(index),
            None => Region { start: self.end, length: None },
        }
    }

    /// One piece of the new body.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn body_line(&mut self, kind: RecordType, text: &[u8]) -> Result<(), EditError> {
        let mut bytes = Vec::with_capacity(text.len() + 6);
        record::write(&mut bytes, kind, text);
        let needed = bytes.len() as u64 + POINTER_RECORD;
        let region = self.body.used.last().copied();
        if let Some(Region { start, length: Some(length) }) = region
            && needed > length.saturating_sub(self.body.at - start)
        {
            let next = self.open_region(needed);
            self.point(self.body.at, next.start)?;
            self.body.at = next.start;
            self.body.used.push(next);
        }
        self.body.size += bytes.len() as u64;
        self.write_body(&bytes)
    }

    fn write_body(&mut self, bytes: &[u8]) -> Result<(), EditError> {
        let end = self.body.at + bytes.len() as u64;
        if self.limit.is_some_and(|limit| end > limit) {
            return Err(EditError::Full);
        }
        self.file.write_all_at(bytes, self.body.at)?;
        self.body.at = end;
        self.end = self.end.max(end);
        Ok(())
    }

    /// The way from the new body to what is behind it, and the size that is told of the message now.
    ///
    /// # Errors
    ///
    /// [`EditError`].
    pub fn end_body(&mut self) -> Result<u64, EditError> {
        let mut bytes = Vec::new();
        write_pointer(&mut bytes, self.points.extracted);
        self.write_body(&bytes)?;
        let at = self.body.at;
        if let Some(last) = self.body.used.last_mut() {
            last.length.get_or_insert(at.saturating_sub(last.start));
        }
        Ok(self.before_body + self.body.size)
    }

    /// The field with this number among all, or among those of this name without our own.
    fn find(&self, index: u32, name: Option<&[u8]>) -> Result<Option<Found>, EditError> {
        let mut walk = Walk::new(&self.file, self.points.data)?;
        let (mut left, mut open, mut hidden) = (index, false, false);
        while let Some(located) = walk.next(self.points.header.at)? {
            let data = &located.record.data;
            let continues = open || matches!(data.first(), Some(b' ' | b'\t'));
            open = located.kind() == RecordType::CONTINUED;
            if continues {
                continue;
            }
            let Some(own) = field_name(data) else { break };
            let own_field =
                !hidden && !self.own_field.is_empty() && self.own_field.starts_with(data);
            let counts = match name {
                None => true,
                Some(name) if own.eq_ignore_ascii_case(name) => {
                    hidden |= own_field;
                    !own_field
                }
                Some(_) => false,
            };
            if counts && left == 0 {
                let second = walk.behind_padding(&located)?;
                return Ok(Some(Found { first: located, second }));
            }
            left -= u32::from(counts);
        }
        Ok(None)
    }

    /// Where the field's last line ends and something else begins.
    fn end_of(&self, found: &Found) -> Result<u64, EditError> {
        let mut walk = Walk::new(&self.file, found.second)?;
        let mut open = found.first.kind() == RecordType::CONTINUED;
        while let Some(located) = walk.next(self.points.header.at)? {
            if !open && !matches!(located.record.data.first(), Some(b' ' | b'\t')) {
                return Ok(located.offset);
            }
            open = located.kind() == RecordType::CONTINUED;
        }
        Ok(walk.stopped)
    }
}

/// A header field: its first record, and where what follows that and its padding stands.
struct Found {
    first: Located,
    second: u64,
}

/// Lines of the header, one by one; it stops at the place where fields are appended.
struct Walk<'f> {
    records: Records<&'f File>,
    stopped: u64,
}

impl<'f> Walk<'f> {
    fn new(file: &'f File, start: u64) -> io::Result<Self> {
        let mut records = Records::new(file)?.raw();
        records.seek(start);
        Ok(Self { records, stopped: start })
    }

    fn next(&mut self, append: u64) -> Result<Option<Located>, ReadError> {
        loop {
            self.stopped = self.records.position();
            if self.stopped == append {
                return Ok(None);
            }
            let located = self.records.read()?.ok_or(Damage::MissingEnd)?;
            match located.kind() {
                RecordType::PADDING => {}
                RecordType::POINTER => {
                    let text = located.text();
                    let target = text.trim_start().parse::<u64>();
                    match target.map_err(|_| Damage::Pointer(text))? {
                        0 => {}
                        target => self.records.seek(target),
                    }
                }
                RecordType::LINE | RecordType::CONTINUED => return Ok(Some(located)),
                _ => return Ok(None),
            }
        }
    }

    /// What stands behind a short record is the padding that makes room for a pointer.
    fn behind_padding(&mut self, located: &Located) -> Result<u64, ReadError> {
        if located.record.data.len() >= POINTER {
            return Ok(located.end);
        }
        match self.records.read()? {
            Some(padding) if padding.kind() == RecordType::PADDING => Ok(padding.end),
            _ => Err(Damage::Missing("padding").into()),
        }
    }
}

/// A header field as records: lines divided by LF, with or without CR; a line that does not begin with white space
/// gets a tab, and the first one is padded. Lines longer than `longest` are cut into pieces.
#[must_use]
pub fn field_records(field: &[u8], longest: usize) -> Vec<u8> {
    let longest = longest.max(POINTER);
    let mut bytes = Vec::new();
    for (number, line) in field.split(|&octet| octet == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if number == 0 {
            let mut line = line;
            while line.len() > longest {
                let (piece, rest) = line.split_at(longest);
                Record::new(RecordType::CONTINUED, piece).write(&mut bytes);
                line = rest;
            }
            Record::new(RecordType::LINE, line).write(&mut bytes);
            if bytes.len() == 2 + line.len() {
                write_padding(&mut bytes, RecordType::PADDING, line.len());
            }
        } else if matches!(line.first(), Some(b' ' | b'\t')) {
            record::write_line(&mut bytes, line, longest);
        } else {
            record::write_line(&mut bytes, &[b"\t", line].concat(), longest);
        }
    }
    bytes
}

fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = line.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
