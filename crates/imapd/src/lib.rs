//! imapd: takes over from Dovecot's imap-login and imap.
//!
//! `before_login.rs` is the conversation of the login worker, `session.rs` and `commands/` that of
//! the mailbox worker; the crate `login` carries a client from one to the other.
#![forbid(unsafe_code)]

pub mod before_login;
pub mod commands;
pub mod config;
pub mod greeting;
pub mod login_settings;
pub mod namespace;
pub mod reply;
pub mod section;
pub mod server;
pub mod session;
pub mod settings;
pub mod view;
pub mod wire;

use daemon::{Args, Plan, Problems, Worker, WorkerError};
use login::Front;
use login::plan::{BROKER, LOGIN};

/// The daemon.
pub struct Imapd;

impl daemon::Daemon for Imapd {
    const NAME: &'static str = "imapd";

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
