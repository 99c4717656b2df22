//! The host's own configuration files: main.cf, master.cf, dovecot.conf, opendkim.conf, and theoris.toml; every value knows its file and line.
#![forbid(unsafe_code)]

pub mod problem;

pub use problem::{Place, Problem, Problems, Severity};
