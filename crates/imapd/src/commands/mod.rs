//! The commands of a session, one file for each group.

pub mod append;
pub mod copy;
pub mod expunge;
pub mod fetch;
pub mod folders;
pub mod idle;
pub mod list;
pub mod quota;
pub mod search;
pub mod select;
pub mod store;
