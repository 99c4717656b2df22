//! A raw message: header fields, line ends, the MIME tree, and text for searching. Nothing here
//! rewrites what it was not asked to.
#![forbid(unsafe_code)]

pub mod content;
