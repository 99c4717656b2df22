//! The `smtpd` daemon.
#![forbid(unsafe_code)]
