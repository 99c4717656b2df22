//! Signs and verifies mail in the place of OpenDKIM, over the milter protocol.
//!
//! `plan` reads opendkim.conf and its tables as root and names the key files, which the supervisor opens; `session` is one
//! conversation with the mail server without its socket, `connection` drives it.
#![forbid(unsafe_code)]

mod author;
mod connection;
mod dataset;
mod hosts;
mod keys;
mod log;
mod macros;
mod message;
mod outcome;
mod plan;
mod safety;
mod session;
mod settings;
mod signing;
mod verifying;

use daemon::{Args, Daemon, Plan, Problems, Worker, WorkerError};

/// The daemon, for its `main`.
#[derive(Debug)]
pub struct DkimMilter;

impl Daemon for DkimMilter {
    const NAME: &'static str = "dkim-milter";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        plan::plan(args)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        connection::work(&worker)
    }
}
