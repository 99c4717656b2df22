//! The host's own configuration files: main.cf, master.cf, dovecot.conf, opendkim.conf, and theoris.toml; every value knows its file and line.
//!
//! Reading is pure over the trait [`Files`]; [`files::Disk`] is the one that touches the machine.
//! A reader never stops at the first fault: it collects [`Problems`], each with its place and what
//! to write instead. What a file may set is known from the [`register`], one table per product in
//! `register/*.tsv`, from which the typed constants ([`postfix::names`], [`dovecot::names`]) are made:
//! a setting that we do not obey has no constant, so no daemon can read it by mistake.
#![forbid(unsafe_code)]

pub mod docs;
pub mod dovecot;
pub mod files;
mod forget;
pub mod inventory;
pub mod opendkim;
pub mod postfix;
pub mod problem;
pub mod register;
pub mod suggest;
pub mod text;
pub mod theoris;
mod unsupported;
pub mod usage;

pub use files::Files;
pub use problem::{Place, Problem, Problems, Severity};
