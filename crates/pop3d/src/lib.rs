//! The POP3 daemon, in place of Dovecot's pop3-login and pop3.
//!
//! `before_login.rs` is the conversation of the login worker, `session.rs` that of the mailbox worker;
//! the crate `login` carries a client from one to the other.
#![forbid(unsafe_code)]

mod before_login;
mod config;
mod connection;
mod maildrop;
mod server;
mod session;
mod settings;

use daemon::{Args, Daemon, Plan, Problems, Worker, WorkerError};
use login::Front;
use login::plan::{BROKER, LOGIN};

/// The daemon, for its `main`.
pub struct Pop3d;

impl Daemon for Pop3d {
    const NAME: &'static str = "pop3d";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        config::plan(args)
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        let inner = worker.clone();
        worker.run(async move {
            match inner.role() {
                LOGIN => Front::run(&inner, before_login::converse).await,
                BROKER => login::broker::serve(&inner).await,
                _ => server::serve(&inner).await,
            }
        })
    }
}
