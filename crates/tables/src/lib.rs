//! Postfix lookup tables read from files.
#![forbid(unsafe_code)]
