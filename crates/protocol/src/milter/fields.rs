//! The fields of a payload: integers, strings that end with NUL, and the rest.

use bytes::{Buf as _, Bytes};

use super::{BadMessage, Frame, LONGEST_LIST};

/// What of a payload is still unread.
pub(super) struct Fields {
    code: u8,
    rest: Bytes,
}

impl Fields {
    pub fn of(frame: Frame) -> Self {
        Self { code: frame.code, rest: frame.payload }
    }

    pub fn octet(&mut self) -> Result<u8, BadMessage> {
        self.rest.try_get_u8().map_err(|_| BadMessage::Short(self.code))
    }

    pub fn short(&mut self) -> Result<u16, BadMessage> {
        self.rest.try_get_u16().map_err(|_| BadMessage::Short(self.code))
    }

    pub fn long(&mut self) -> Result<u32, BadMessage> {
        self.rest.try_get_u32().map_err(|_| BadMessage::Short(self.code))
    }

    /// A string, without the NUL that must end it.
    pub fn text(&mut self) -> Result<Bytes, BadMessage> {
        let end = self.rest.iter().position(|&octet| octet == 0);
        let end = end.ok_or(BadMessage::Short(self.code))?;
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        Ok(text)
    }

    /// Strings up to the end.
    pub fn texts(mut self) -> Result<Vec<Bytes>, BadMessage> {
        let mut list = Vec::new();
        while !self.is_empty() {
            if list.len() == LONGEST_LIST {
                return Err(BadMessage::TooMany(self.code));
            }
            list.push(self.text()?);
        }
        Ok(list)
    }

    pub fn rest(self) -> Bytes {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may stand behind the fields.
    pub fn end<T>(self, message: T) -> Result<T, BadMessage> {
        if self.rest.is_empty() { Ok(message) } else { Err(BadMessage::Trailing(self.code)) }
    }
}

/// Appends a string. A NUL inside would end it early, so it is left out.
pub(super) fn put(to: &mut Vec<u8>, text: &[u8]) {
    if text.contains(&0) {
        to.extend(text.iter().filter(|&&octet| octet != 0));
    } else {
        to.extend_from_slice(text);
    }
    to.push(0);
}
