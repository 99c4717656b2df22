//! Tests that cross daemons. Each module is a suite of `cargo xtask test SUITE`; where an original takes part, it is
//! Debian's package, run privately by the `harness`.
#![forbid(unsafe_code)]
#![cfg(test)]

mod clients;
mod compliance;
mod config;
mod crash;
mod samples;
mod seams;
mod swap;
