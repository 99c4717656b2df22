//! The LMTP server, in Dovecot's place.

mod connection;
mod delivery;
mod id;
mod session;
pub mod settings;
mod spool;
mod user;

use std::sync::Arc;

use daemon::{Worker, WorkerError};
use neighbours::userdb::Userdb;

use connection::Server;
use settings::LmtpSettings;

/// The TLS identity's name.
pub const TLS: &str = "lmtp";

/// Serves all listeners of `service lmtp`.
pub fn work(worker: Worker) -> Result<(), WorkerError> {
    let settings: LmtpSettings = worker.settings()?;
    let service = worker.clone();
    worker.run(async move {
        let server = Server {
            worker: service.clone(),
            // Dovecot's lmtp is root and may use what is another user's alone, as guides have it.
            userdb: Userdb::either(&settings.userdb, settings.userdb.with_file_name("auth-master")),
            tls: if settings.tls { Some(service.tls(TLS)?) } else { None },
            settings: Arc::new(settings),
        };
        let mut serving = tokio::task::JoinSet::new();
        for name in &server.settings.listeners {
            let (listener, worker, server) =
                (service.listener(name)?, service.clone(), server.clone());
            serving.spawn(async move {
                worker.serve(listener, |connection| server.clone().serve(connection)).await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}
