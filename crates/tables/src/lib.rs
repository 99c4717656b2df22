//! Postfix lookup tables read from files: their source syntax, their types, and when a change counts.
//!
//! [`Set`] opens the tables that the settings name and implements [`routing::Tables`]. `alias` reads
//! the values of alias(5) files. A table's content is parsed as a whole and swapped in one step, so a
//! lookup sees the old content or the new one, never a mixture.
#![forbid(unsafe_code)]

pub mod alias;
mod cidr;
mod content;
mod fixed;
mod inline;
mod open;
mod pattern;
mod posix;
mod set;
mod source;
mod spec;
mod users;

pub use open::{Owner, Passed, Problem};
pub use set::Set;
pub use source::Note;
pub use spec::unusable;
pub use users::{SystemUsers, Users};
