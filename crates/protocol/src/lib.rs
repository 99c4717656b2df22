//! The protocols of every seam, without I/O: both sides of SMTP, LMTP, IMAP, POP3, milters, Dovecot's auth protocol and Postfix's internal protocols.
#![forbid(unsafe_code)]

pub mod base64;
pub mod dovecot_auth;
pub mod imap;
pub mod milter;
pub mod pop3;
pub mod postfix;
pub mod smtp;
