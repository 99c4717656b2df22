//! The message at the content stage: what filters see of it, and what they do to it.

use std::future::Future;

use bytes::Bytes;

use super::Response;

/// A message in the queue, whole, that can be read again and again and changed in between.
pub trait Message: Send {
    /// Back to the first line.
    ///
    /// # Errors
    ///
    /// What the client hears if the message cannot be read.
    fn rewind(&mut self) -> Result<(), Response>;

    /// The next piece of header or body, as it would be delivered now; nothing at the end.
    ///
    /// # Errors
    ///
    /// As [`Message::rewind`].
    fn next(&mut self) -> Result<Option<Piece>, Response>;

    /// The field that we have put in front, its lines divided by LF: filters do not see it.
    fn own_field(&self) -> &[u8];

    /// `header_size_limit`: so much of a field is shown.
    fn longest_field(&self) -> usize;

    /// Carries out a change; a response if it cannot be.
    fn change(&mut self, change: Change) -> impl Future<Output = Option<Response>> + Send;
}

/// A line without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Line(Bytes),
    /// The next piece continues the line.
    Continued(Bytes),
}

/// One edit. A field is `name:value` as it shall stand in the message, with LF between its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Behind the last field.
    AddHeader {
        field: Vec<u8>,
    },
    /// Before the field with this number, from 0 over all of them.
    InsertHeader {
        index: u32,
        field: Vec<u8>,
    },
    /// The field with this name and number, from 1 and without [`Message::own_field`]; added if there is none.
    ChangeHeader {
        index: u32,
        name: Vec<u8>,
        field: Vec<u8>,
    },
    DeleteHeader {
        index: u32,
        name: Vec<u8>,
    },
    ChangeFrom {
        address: Bytes,
        parameters: Bytes,
    },
    AddRecipient {
        address: Bytes,
        parameters: Bytes,
    },
    DeleteRecipient {
        address: Bytes,
    },
    /// A piece of the new body, cut anywhere.
    Body(Bytes),
    EndBody,
}
