//! Where a message goes: address rewriting, aliases, address classes, transport and next hop, over an async trait of tables.
#![forbid(unsafe_code)]

pub mod tables;

pub use tables::{Key, LookupError, Maps, TableName, Tables};
