//! The field's words as types: addresses, envelopes, status codes, queue ids, UIDs, flags, the MIME tree.
#![forbid(unsafe_code)]

pub mod mailbox;
pub mod mime;

pub use mailbox::{Flag, Flags, Uid, UidValidity};
