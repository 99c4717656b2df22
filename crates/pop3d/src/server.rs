//! The mailbox worker: one process for all sessions of a uid, one thread for each session.

use crate::connection;
use crate::settings::Settings;
use daemon::{HandedOver, Worker, WorkerError};
use login::Arrival;
use std::thread;

/// Serves what the broker hands over until the worker has to finish. Call it inside [`Worker::run`].
///
/// # Errors
///
/// If the plan gave the role not all it needs.
pub async fn serve(worker: &Worker) -> Result<(), WorkerError> {
    let settings: Settings = worker.settings()?;
    let mut arrivals = worker.handed_over();
    loop {
        let Some(handed_over) = login::arrival::next(worker, &mut arrivals).await else {
            return Ok(());
        };
        let (settings, inner) = (settings.clone(), worker.clone());
        let busy = worker.room().await;
        let session = move || {
            let _busy = busy;
            if let Err(why) = session(&inner, handed_over, settings) {
                tracing::error!(target: "mail", ident = "dovecot", "pop3: Error: {why}");
            }
        };
        if let Err(why) = thread::Builder::new().spawn(session) {
            tracing::error!(target: "mail", ident = "dovecot", "pop3: Error: cannot start a session: {why}");
        }
    }
}

/// One session, from its arrival to its end.
fn session(worker: &Worker, handed_over: HandedOver, settings: Settings) -> Result<(), String> {
    let arrival = Arrival::from(handed_over).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let (user, _, wire, lease) = arrival.accept().map_err(|error| error.to_string())?;
        connection::serve(wire, settings, &user, Some(worker.clone())).await;
        drop(lease);
        Ok(())
    })
}
