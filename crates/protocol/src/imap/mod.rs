//! IMAP (RFC 3501 and the extensions that we advertise), without I/O.
//!
//! Bytes go into a [`Framer`], which cuts them into commands, says when a client waits for `+ OK` and
//! hands the content of an APPEND through without keeping it. A complete command is read by
//! [`Line::split`] and [`Command::parse`]; [`mod@write`] puts answers in IMAP's forms.

pub mod append;
pub mod body;
pub mod capability;
pub mod command;
pub mod cursor;
pub mod date;
pub mod fetch;
pub mod framer;
pub mod list;
pub mod mailbox_name;
pub mod search;
pub mod sequence;
pub mod store;
pub mod write;

pub use command::{Command, Line, Mistake, Name};
pub use cursor::{Cursor, Syntax};
pub use framer::{Event, Framer, Limits};
pub use sequence::SequenceSet;
