//! Carries mail to other hosts as Postfix smtp(8) and lmtp(8) do, on their delivery request sockets.
//!
//! [`server`] takes a request from the queue manager, [`delivery`] leads it from next hop to server to server, and
//! [`session`] knows the conversation with one server, without its socket. [`report`] tells bounce, defer and the log.
#![forbid(unsafe_code)]

mod addresses;
mod cache;
mod checks;
mod commands;
mod connection;
mod content;
mod dane;
mod delivery;
mod destination;
mod downgrade;
mod generic;
mod loops;
mod plan;
mod policy;
mod read;
mod report;
mod server;
mod session;
mod settings;

use daemon::{Args, Daemon, Plan, Problems, Worker, WorkerError};

/// The daemon.
pub struct SmtpDelivery;

impl Daemon for SmtpDelivery {
    const NAME: &'static str = "smtp-delivery";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        plan::plan(args)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        match worker.role() {
            plan::ROLE => server::work(worker),
            other => Err(WorkerError::service(format!("smtp-delivery has no role {other:?}"))),
        }
    }
}
