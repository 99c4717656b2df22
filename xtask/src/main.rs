//! `cargo xtask`: demo, tests and checks of this repository.
#![forbid(unsafe_code)]

fn main() {}
