//! OpenDKIM's `opendkim-genkey` and `opendkim-testkey`: the same words, files and exit codes.

pub mod genkey;
pub mod options;
pub mod testkey;
