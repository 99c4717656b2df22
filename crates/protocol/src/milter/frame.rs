//! `uint32 length | code | payload`, where the length counts the code.

use bytes::{Buf as _, Bytes, BytesMut};

/// One message of either side, its payload not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub code: u8,
    pub payload: Bytes,
}

/// After one of these nothing that follows can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("bad packet length: 0")]
    Empty,
    #[error("unreasonable packet length: {0}")]
    TooLong(u32),
}

impl Frame {
    /// Takes a frame off the front of `buffer`; nothing if more octets are needed. `longest` bounds code and payload.
    ///
    /// # Errors
    ///
    /// [`BadFrame`] as soon as the length is there.
    pub fn take(buffer: &mut BytesMut, longest: usize) -> Result<Option<Self>, BadFrame> {
        let Some(&prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
        let announced = u32::from_be_bytes(prefix);
        let length = match usize::try_from(announced) {
            Ok(0) => return Err(BadFrame::Empty),
            Ok(length) if length <= longest => length,
            _ => return Err(BadFrame::TooLong(announced)),
        };
        let Some(&code) = buffer.get(4).filter(|_| buffer.len() >= 4 + length) else {
            buffer.reserve((4 + length).saturating_sub(buffer.len()));
            return Ok(None);
        };
        buffer.advance(5);
        Ok(Some(Self { code, payload: buffer.split_to(length - 1).freeze() }))
    }
}

/// Appends a frame whose payload `fill` writes.
pub(super) fn write(to: &mut Vec<u8>, code: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.extend_from_slice(&[0, 0, 0, 0, code]);
    fill(to);
    let length = u32::try_from(to.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(prefix) = to.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
}
