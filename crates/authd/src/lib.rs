//! The auth daemon, in place of Dovecot's auth and auth-worker.
//!
//! The protocol worker ([`server`]) speaks Dovecot's auth protocols on Dovecot's sockets and holds no
//! privilege. What needs root is asked of backend workers ([`pool`]), one question at a time.
#![forbid(unsafe_code)]

mod backend;
mod chain;
mod client;
mod config;
mod engine;
mod log;
mod login;
mod master;
mod mechanism;
mod passdb;
mod passwd_file;
mod penalty;
mod plan;
mod pool;
mod registry;
pub mod scheme;
mod server;
mod settings;
mod template;
mod userdb;
mod username;

use ::config::Problems;
use daemon::{Args, Daemon, Plan, Worker, WorkerError};

/// The daemon, for its `main`.
pub struct Authd;

impl Daemon for Authd {
    const NAME: &'static str = "authd";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        plan::plan(args)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        match worker.role() {
            plan::POOL => pool::run(&worker),
            _ => server::run(&worker),
        }
    }
}
