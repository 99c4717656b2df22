//! Tests that cross daemons.
#![forbid(unsafe_code)]
