//! The `queue-manager` daemon: Postfix's cleanup, pickup, showq, qmgr and the services beside them.
//!
//! Each service of master.cf that we take over is one [`plan::Takeover`]: what it obeys, and what
//! its worker does. `plan.rs` turns master.cf into sockets and roles; nothing else is shared.
#![forbid(unsafe_code)]

pub mod bounce;
pub mod cleanup;
pub mod error;
pub mod flush;
pub mod ipc;
pub mod pickup;
pub mod plan;
pub mod rewrite;
pub mod scheduler;
mod serve;
pub mod services;
pub mod showq;
pub mod verp;

use daemon::{Args, Daemon, Plan, Problems, Worker, WorkerError};

/// The daemon.
#[derive(Debug)]
pub struct QueueManager;

impl Daemon for QueueManager {
    const NAME: &'static str = "queue-manager";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        plan::plan(args, services::TAKEOVERS)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        plan::work(worker, services::TAKEOVERS)
    }
}
