//! The milter protocol, versions 2 to 6, both sides of it, without a socket.
//!
//! The mail server sends [`Event`]s, the filter answers with [`Reply`]s; both travel in [`Frame`]s and both begin with
//! a [`Negotiation`]. The filter reads with [`Event::decode`] and writes with [`Reply::encode`], the server the other
//! way round. What may be said when, and which events get no answer ([`Steps::silent`]), is for the two ends to keep.
//!
//! ```
//! use bytes::BytesMut;
//! use protocol::milter::{Event, Frame, Reply};
//!
//! let mut read = BytesMut::from(&b"\0\0\0\x0fL X-A"[..]); // as it comes from the socket
//! assert!(Frame::take(&mut read, 1 << 20).unwrap().is_none()); // more is needed
//! let mut write = Vec::new();
//! Event::Header { name: "X-A".into(), value: " b".into() }.encode(&mut write);
//! let frame = Frame::take(&mut BytesMut::from(&write[..]), 1 << 20).unwrap().unwrap();
//! assert!(matches!(Event::decode(frame), Ok(Event::Header { .. })));
//! let mut answer = Vec::new();
//! Reply::Continue.encode(&mut answer);
//! assert_eq!(answer, b"\0\0\0\x01c");
//! ```

mod bits;
mod event;
mod fields;
mod frame;
mod negotiation;
mod reply;
mod stage;

pub use bits::{Actions, Steps};
pub use event::{Event, Family};
pub use frame::{BadFrame, Frame};
pub use negotiation::Negotiation;
pub use reply::{Reply, reply_code};
pub use stage::{MacroClass, Stage};

/// What a frame says is not what its code allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("unknown code {:?}", char::from(*.0))]
    Code(u8),
    #[error("a field of {:?} is missing or not ended", char::from(*.0))]
    Short(u8),
    #[error("unexpected octets behind the fields of {:?}", char::from(*.0))]
    Trailing(u8),
    #[error("more than {LONGEST_LIST} strings in {:?}", char::from(*.0))]
    TooMany(u8),
}

/// Most strings of one message: macros, ESMTP parameters.
pub const LONGEST_LIST: usize = 1_000;

/// Octets of message body that one frame carries, unless a larger size is negotiated.
pub const BODY_CHUNK: usize = 65_535;

/// A frame that a peer of ours may send: more than any filter needs, little enough to keep in memory.
pub const LONGEST_FRAME: usize = 1 << 20;

/// The version that is spoken.
pub const VERSION: u32 = 6;

#[cfg(test)]
mod tests;
