//! The `pop3d` daemon.
#![forbid(unsafe_code)]
