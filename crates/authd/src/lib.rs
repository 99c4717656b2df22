//! The auth daemon, in place of Dovecot's auth and auth-worker.
#![forbid(unsafe_code)]

mod mechanism;
mod passwd_file;
pub mod scheme;
mod settings;
mod template;
mod username;
