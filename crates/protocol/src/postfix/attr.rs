//! Attribute lists: `name\0value\0`… ended by one more NUL.
//!
//! Order counts and names may repeat, so a list is read by position and never through a map.
//! Text that is not UTF-8 is taken with replacement characters: what must be kept byte for byte
//! travels in records, not in attributes.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BytesMut};

/// A name or value may be this long; Postfix itself sets no limit below its line lengths.
const LONGEST_TOKEN: usize = 64 * 1024;
/// A whole list may be this long.
const LONGEST_LIST: usize = 256 * 1024;
const MOST_ATTRIBUTES: usize = 1_000;

/// Why an attribute list is not what was expected. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttrError {
    #[error("attribute list is too long")]
    TooLong,
    #[error("unexpected attribute {found} (expecting: {expected})")]
    Unexpected { found: String, expected: &'static str },
    #[error("missing attribute {0}")]
    Missing(&'static str),
    #[error("more attributes than expected, first: {0}")]
    TooMany(String),
    #[error("bad value of attribute {name}: {value:?}")]
    Value { name: &'static str, value: String },
    #[error("end of input inside an attribute list")]
    Truncated,
}

pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Writes one list, or the open list of showq.
#[derive(Debug, Default)]
pub struct AttrWriter(Vec<u8>);

impl AttrWriter {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A NUL in the value would end it early, so it becomes a blank.
    pub fn text(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.0.extend(value.as_ref().iter().map(|&byte| if byte == 0 { b' ' } else { byte }));
        self.0.push(0);
    }

    /// Printed as Postfix prints an `int`: unsigned, so that -1 is 4294967295.
    pub fn int(&mut self, name: &str, value: i32) {
        self.text(name, value.cast_unsigned().to_string());
    }

    pub fn uint(&mut self, name: &str, value: u32) {
        self.text(name, value.to_string());
    }

    /// Printed as Postfix prints a `long`: 64 bits, unsigned.
    pub fn long(&mut self, name: &str, value: i64) {
        self.text(name, value.cast_unsigned().to_string());
    }

    pub fn data(&mut self, name: &str, value: &[u8]) {
        self.text(name, STANDARD.encode(value));
    }

    /// Ends this list; another may follow in the same buffer.
    pub fn next_list(&mut self) {
        self.0.push(0);
    }

    /// Ends the list and gives the bytes to send.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        self.0
    }

    /// The bytes without a terminator: the peer expects more.
    #[must_use]
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }
}

/// One step of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Attribute(String, String),
    End,
}

/// `{`, alone, where a name should be: a table begins. Its end is `}`.
const TABLE: &str = "{";
const TABLE_END: &str = "}";

/// Takes one attribute or a terminator off the front of `buffer`; nothing if more bytes are needed.
///
/// # Errors
///
/// [`AttrError::TooLong`].
pub fn take_token(buffer: &mut BytesMut) -> Result<Option<Token>, AttrError> {
    let Some(name_end) = end_of_string(buffer)? else { return Ok(None) };
    if name_end == 0 {
        buffer.advance(1);
        return Ok(Some(Token::End));
    }
    if let Some(brace @ (b"{" | b"}")) = buffer.get(..name_end) {
        let name = if brace == b"{" { TABLE } else { TABLE_END };
        buffer.advance(2);
        return Ok(Some(Token::Attribute(name.to_owned(), String::new())));
    }
    let after = buffer.get(name_end + 1..).unwrap_or_default();
    let Some(value_len) = end_of_string(after)? else { return Ok(None) };
    let value = lossy(after.get(..value_len).unwrap_or_default());
    let name = lossy(buffer.get(..name_end).unwrap_or_default());
    buffer.advance(name_end + value_len + 2);
    Ok(Some(Token::Attribute(name, value)))
}

fn end_of_string(bytes: &[u8]) -> Result<Option<usize>, AttrError> {
    let searched = bytes.get(..=LONGEST_TOKEN).unwrap_or(bytes);
    match searched.iter().position(|&byte| byte == 0) {
        None if searched.len() > LONGEST_TOKEN => Err(AttrError::TooLong),
        found => Ok(found),
    }
}

fn lossy(bytes: &[u8]) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// Collects the attributes of one list while its bytes arrive.
#[derive(Debug, Default)]
pub struct AttrReader {
    attributes: Vec<(String, String)>,
    size: usize,
}

impl AttrReader {
    /// Takes what has arrived off `buffer`; a list once its terminator has come. The reader is
    /// then ready for the next list.
    ///
    /// # Errors
    ///
    /// [`AttrError::TooLong`]: nothing that follows can be trusted.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<AttrList>, AttrError> {
        while let Some(token) = take_token(buffer)? {
            match token {
                Token::End => {
                    self.size = 0;
                    return Ok(Some(AttrList(std::mem::take(&mut self.attributes))));
                }
                Token::Attribute(name, value) => {
                    self.size += name.len() + value.len();
                    if self.size > LONGEST_LIST || self.attributes.len() == MOST_ATTRIBUTES {
                        return Err(AttrError::TooLong);
                    }
                    self.attributes.push((name, value));
                }
            }
        }
        Ok(None)
    }

    /// Whether part of a list has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }
}

/// A complete list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrList(Vec<(String, String)>);

impl AttrList {
    /// Reads bytes that must be exactly one list.
    ///
    /// # Errors
    ///
    /// [`AttrError`] if they are not.
    pub fn parse(bytes: &[u8]) -> Result<Self, AttrError> {
        let mut buffer = BytesMut::from(bytes);
        match AttrReader::default().read(&mut buffer)? {
            Some(list) if buffer.is_empty() => Ok(list),
            Some(_) => Err(AttrError::TooMany(String::from("a second list"))),
            None => Err(AttrError::Truncated),
        }
    }

    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields { rest: &self.0 }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a list strictly in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [(String, String)],
}

impl<'a> Fields<'a> {
    /// The value of the next attribute, which must have this name.
    ///
    /// # Errors
    ///
    /// [`AttrError::Unexpected`] or [`AttrError::Missing`].
    pub fn text(&mut self, name: &'static str) -> Result<&'a str, AttrError> {
        match self.rest.split_first() {
            Some(((found, value), rest)) if found == name => {
                self.rest = rest;
                Ok(value)
            }
            Some(((found, _), _)) => {
                Err(AttrError::Unexpected { found: excerpt(found), expected: name })
            }
            None => Err(AttrError::Missing(name)),
        }
    }

    /// The names and values of a table.
    ///
    /// # Errors
    ///
    /// [`AttrError::Unexpected`] or [`AttrError::Missing`] if there is none or it does not end.
    pub fn table(&mut self) -> Result<Vec<(String, String)>, AttrError> {
        self.text(TABLE)?;
        let end = self.rest.iter().position(|(name, _)| name == TABLE_END);
        let end = end.ok_or(AttrError::Missing(TABLE_END))?;
        let (table, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.text(TABLE_END)?;
        Ok(table.to_vec())
    }

    /// # Errors
    ///
    /// As [`Fields::text`].
    pub fn string(&mut self, name: &'static str) -> Result<String, AttrError> {
        self.text(name).map(str::to_owned)
    }

    /// # Errors
    ///
    /// As [`Fields::text`], and [`AttrError::Value`] if it is no 32-bit number.
    pub fn int(&mut self, name: &'static str) -> Result<i32, AttrError> {
        self.uint(name).map(u32::cast_signed)
    }

    /// # Errors
    ///
    /// As [`Fields::int`].
    pub fn uint(&mut self, name: &'static str) -> Result<u32, AttrError> {
        let value = self.text(name)?;
        value
            .parse::<u32>()
            .or_else(|_| value.parse::<i32>().map(i32::cast_unsigned))
            .map_err(|_| AttrError::Value { name, value: excerpt(value) })
    }

    /// # Errors
    ///
    /// As [`Fields::int`], with 64 bits.
    pub fn long(&mut self, name: &'static str) -> Result<i64, AttrError> {
        let value = self.text(name)?;
        value
            .parse::<u64>()
            .map(u64::cast_signed)
            .or_else(|_| value.parse::<i64>())
            .map_err(|_| AttrError::Value { name, value: excerpt(value) })
    }

    /// # Errors
    ///
    /// As [`Fields::text`], and [`AttrError::Value`] if it is not base64.
    pub fn data(&mut self, name: &'static str) -> Result<Vec<u8>, AttrError> {
        let value = self.text(name)?;
        STANDARD.decode(value).map_err(|_| AttrError::Value { name, value: excerpt(value) })
    }

    /// The name of the next attribute.
    #[must_use]
    pub fn peek(&self) -> Option<&'a str> {
        self.rest.first().map(|(name, _)| name.as_str())
    }

    /// # Errors
    ///
    /// [`AttrError::TooMany`] if anything is left.
    pub fn finish(self) -> Result<(), AttrError> {
        match self.rest.first() {
            Some((name, _)) => Err(AttrError::TooMany(excerpt(name))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_by_position() {
        let list = AttrList::parse(b"flags\x000\0address\0a@b\0flags\x004096\0\0").unwrap();
        let mut fields = list.fields();
        assert_eq!(fields.int("flags"), Ok(0));
        assert_eq!(
            fields.clone().text("recipient").unwrap_err().to_string(),
            "unexpected attribute address (expecting: recipient)"
        );
        assert_eq!(fields.text("address"), Ok("a@b"));
        assert_eq!(fields.int("flags"), Ok(4096));
        assert_eq!(fields.text("more"), Err(AttrError::Missing("more")));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn one_byte_at_a_time_is_the_same() {
        let bytes = b"a\x001\0b\0\0\0c\x002\0\0";
        let (mut reader, mut buffer, mut lists) = (AttrReader::default(), BytesMut::new(), vec![]);
        for byte in bytes {
            buffer.extend_from_slice(&[*byte]);
            lists.extend(reader.read(&mut buffer).unwrap());
        }
        assert_eq!(lists.len(), 2);
        assert_eq!(lists[0].fields().text("a"), Ok("1"));
        assert_eq!(lists[1].fields().text("c"), Ok("2"));
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut reader = AttrReader::default();
        let mut endless = BytesMut::from(&[b'x'; LONGEST_TOKEN + 1][..]);
        assert_eq!(reader.read(&mut endless), Err(AttrError::TooLong));
        let mut many = BytesMut::from("a\0b\0".repeat(MOST_ATTRIBUTES + 1).as_str());
        assert_eq!(AttrReader::default().read(&mut many), Err(AttrError::TooLong));
        assert_eq!(AttrList::parse(b"a\0b"), Err(AttrError::Truncated));
    }

    #[test]
    fn a_value_cannot_smuggle_an_attribute() {
        let mut writer = AttrWriter::new();
        writer.text("reason", "x\0status\x000");
        assert_eq!(writer.end(), b"reason\0x status 0\0\0");
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_an_error_or_a_list(bytes: Vec<u8>) {
            let _ = AttrList::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(name in "[a-z_]{1,20}", value in "[^\0]{0,200}", number: i32, long: i64) {
            let mut writer = AttrWriter::new();
            writer.text(&name, &value);
            writer.int("number", number);
            writer.long("long", long);
            writer.data("data", value.as_bytes());
            let list = AttrList::parse(&writer.end()).unwrap();
            assert_eq!(list.0[0], (name, value.clone()));
            let mut fields = Fields { rest: &list.0[1..] };
            assert_eq!(fields.int("number"), Ok(number));
            assert_eq!(fields.long("long"), Ok(long));
            assert_eq!(fields.data("data"), Ok(value.into_bytes()));
        }
    }
}
