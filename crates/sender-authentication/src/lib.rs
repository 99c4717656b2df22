//! DKIM and Authentication-Results: a streaming, bounded core over the `dns` trait, without I/O of its own.
#![forbid(unsafe_code)]

pub mod dkim;
pub mod field;
pub mod results;

pub use field::Field;
