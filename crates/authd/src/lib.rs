//! The auth daemon, in place of Dovecot's auth and auth-worker.
//!
//! The protocol worker ([`server`]) speaks Dovecot's auth protocols on Dovecot's sockets and holds no
//! privilege. What needs root is asked of backend workers ([`backend`]), one question at a time.
#![forbid(unsafe_code)]

mod backend;
mod chain;
mod engine;
mod log;
mod login;
mod mechanism;
mod passdb;
mod passwd_file;
pub mod scheme;
mod settings;
mod template;
mod userdb;
mod username;
