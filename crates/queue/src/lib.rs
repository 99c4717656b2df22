//! The Postfix queue directory and queue file format, with its defer, bounce and trace logs.
#![forbid(unsafe_code)]
