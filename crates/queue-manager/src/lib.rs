//! The `queue-manager` daemon.
#![forbid(unsafe_code)]
