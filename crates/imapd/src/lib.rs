//! The `imapd` daemon.
#![forbid(unsafe_code)]
