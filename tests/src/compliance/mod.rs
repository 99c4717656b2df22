//! Each case runs unchanged against the original and against ours; replies, log lines and effects are compared.

pub(crate) mod auth;
mod bounce;
mod config;
mod delivery;
pub(crate) mod dkim;
mod fail2ban;
mod full_disk;
pub(crate) mod imap;
mod maildir;
mod milter;
mod mime;
mod outbound;
mod pop3;
mod queue;
mod routing;
mod smtpd;
mod tables;
