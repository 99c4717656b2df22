//! Asynchronous clients of the seams: auth and userdb, cleanup, rewrite, bounce, defer, trace, LMTP.
#![forbid(unsafe_code)]

pub mod attributes;
pub mod auth;
pub mod bounce;
pub mod cleanup;
pub mod flush;
pub mod lookup;
pub mod milter;
mod mux;
pub mod postmaster;
pub mod rewrite;
#[cfg(test)]
mod testing;
pub mod trigger;
pub mod userdb;
