//! Asynchronous clients of the seams: auth and userdb, cleanup, rewrite, bounce, defer, trace, LMTP.
#![forbid(unsafe_code)]

pub mod auth;
mod mux;
#[cfg(test)]
mod testing;
pub mod userdb;
