//! The same case against an original and against ours: what both say and do is compared.

mod config;
pub(crate) mod imap;
