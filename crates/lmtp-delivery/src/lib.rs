//! The `lmtp-delivery` daemon.
#![forbid(unsafe_code)]
