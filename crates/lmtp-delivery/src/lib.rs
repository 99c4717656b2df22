//! Final delivery: an LMTP server, and the agents that Postfix calls local and virtual.
//!
//! Workers that speak with peers are unprivileged and touch no mailbox; what they accept is written
//! by a delivery worker of the recipient's uid ([`task`]).
#![forbid(unsafe_code)]

mod agent;
mod delivery;
mod lmtp;
mod plan;
mod runner;
mod service;
mod task;

use daemon::{Args, Daemon, Plan, Problems, Worker, WorkerError};

/// The daemon.
pub struct LmtpDelivery;

impl Daemon for LmtpDelivery {
    const NAME: &'static str = "lmtp-delivery";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        plan::plan(args)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        match worker.role() {
            plan::AGENT => agent::work(worker),
            plan::LMTP => lmtp::work(worker),
            runner::RUNNER => runner::work(worker),
            task::DELIVERY | task::AGENT_DELIVERY => delivery::work(worker),
            other => Err(WorkerError::service(format!("lmtp-delivery has no role {other:?}"))),
        }
    }
}
