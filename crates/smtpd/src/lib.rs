//! The SMTP server: the conversation with clients, the policy on them, and the way into the queue.
//!
//! `session` is the conversation without its socket, `policy` the access restrictions without their tables;
//! `connection` drives both, `server` accepts, `plan` reads main.cf and master.cf.
#![forbid(unsafe_code)]

mod anvil;
mod client;
mod connection;
mod delegates;
mod flush;
mod forward;
mod hosts;
mod keywords;
mod plan;
mod policy;
mod received;
mod screen;
mod server;
mod session;
mod settings;
mod submit;
mod text;
mod verify;
mod world;

use daemon::{Args, Plan, Problems, Worker, WorkerError};

/// smtpd as a daemon: one role, whose single process serves every listener.
#[derive(Debug)]
pub struct Smtpd;

impl daemon::Daemon for Smtpd {
    const NAME: &'static str = "smtpd";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        plan::plan(args)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        server::work(&worker)
    }
}
