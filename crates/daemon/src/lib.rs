//! What every daemon needs and that knows nothing of mail: a supervisor and its unprivileged
//! workers, sockets, descriptors, TLS identities, privileges, journal, control socket, metrics.
//!
//! A daemon implements [`Daemon`] and its `main` calls [`main`]. The same binary is the supervisor
//! (it reads the configuration into a [`Plan`], holds the sockets and the keys, and parses no byte
//! of a peer) and, started again by it, each [`Worker`].
#![forbid(unsafe_code)]

pub mod args;
pub mod control;
pub mod descriptors;
pub mod exit;
mod handover;
mod journal;
pub mod link;
pub mod listen;
pub mod log;
pub mod metrics;
mod notify;
mod own;
pub mod plan;
pub mod privileges;
pub mod sandbox;
mod settle;
pub mod stream;
mod supervisor;
pub mod tls;
mod users;
pub mod wire;
pub mod worker;

use std::process::ExitCode;

pub use args::Args;
pub use config::{Place, Problem, Problems, Severity};
pub use exit::WorkerError;
pub use handover::Identity;
pub use link::{LinkClient, LinkServer, Request};
pub use listen::Listener;
pub use plan::{
    At, Grace, Lent, Link, Listen, Log, LogFile, LogStyle, Owner, Plan, Processes, Role, UserRange,
};
pub use privileges::Account;
pub use sandbox::Needs;
pub use stream::{Connection, Peer, Stream};
pub use tls::Tls;
pub use users::{GroupEntry, UserEntry, Users};
pub use wire::{Line, LineEnd, Wire, WireError};
pub use worker::{Cause, Finish, HandOvers, HandedOver, Worker};

/// One daemon: how its configuration becomes a plan, and what its workers do.
pub trait Daemon: 'static {
    /// Name of the binary, of its control socket, and the prefix of its metrics.
    const NAME: &'static str;

    /// Reads the configuration. The supervisor calls it at the start, at each SIGHUP and for
    /// `--check`; it does no mail, and opens nothing that the plan can name instead.
    ///
    /// # Errors
    ///
    /// All problems of the configuration at once, if one of them forbids to run with it.
    fn plan(args: &Args) -> Result<Plan, Problems>;

    /// Does the work of one role ([`Worker::role`]) in a process that has given up its privileges.
    /// What can fail at the start is done here, before [`Worker::run`].
    ///
    /// # Errors
    ///
    /// What ended the worker; the supervisor logs it and starts another one.
    fn work(worker: Worker) -> Result<(), WorkerError>;
}

/// The whole `main` of a daemon: supervisor, worker or `--check`, after its arguments.
pub fn main<D: Daemon>() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == handover::WORKER_ARGUMENT) {
        return settle::worker_main::<D>();
    }
    let args = match Args::from_env() {
        Ok(args) => args,
        Err(usage) => return exit::usage(D::NAME, &usage),
    };
    if args.plan {
        return exit::show(own::plan::<D>(&args));
    }
    if args.check { exit::check(&args, own::plan::<D>(&args)) } else { supervisor::main::<D>(args) }
}
