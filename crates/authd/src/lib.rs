//! The `authd` daemon.
#![forbid(unsafe_code)]
