//! A raw message: header fields, line ends, the MIME tree, and text for searching. Nothing here
//! rewrites what it was not asked to.
#![forbid(unsafe_code)]

pub mod address;
pub mod addresses;
pub mod content;
pub mod date;
pub mod header;
pub mod log_date;
pub mod mime;
pub mod parameters;
pub mod sections;
pub mod text;
pub mod wrap;
