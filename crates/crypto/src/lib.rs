//! Digests, message authentication codes and signatures: the one crate that imports their implementations.
#![forbid(unsafe_code)]
