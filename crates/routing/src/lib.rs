//! Where a message goes: address rewriting, aliases, address classes, transport and next hop, over an async trait of tables.
//!
//! [`Routing`] answers every question; [`Settings`] hold what the host's files say. Nothing here
//! opens a file or a socket.
#![forbid(unsafe_code)]

pub mod domains;
pub mod expand;
mod keys;
pub mod known;
mod read;
pub mod resolve;
pub mod rewrite;
pub mod settings;
pub mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;

pub use expand::{ExpandError, Role};
pub use keys::{Found, split_extension};
pub use known::{Known, Unknown};
pub use resolve::{Class, Resolution, Route, Routing};
pub use rewrite::{Context, Rewriting};
pub use settings::Settings;
pub use tables::{Key, LookupError, Maps, TableName, Tables};
