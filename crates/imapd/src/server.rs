//! The mailbox worker: one process for all sessions of a uid, one thread for each session.
//!
//! A session reads and writes files without leaving its thread, so a slow disk or a long search
//! holds up nobody else; a panic ends that session alone.

use std::thread;

use daemon::{HandedOver, Worker, WorkerError};
use login::Arrival;
use login::arrival::Passenger;

use crate::greeting::Greeting;
use crate::namespace::Namespaces;
use crate::session::Session;
use crate::settings::Settings;

/// Enough for the deepest search and the deepest MIME tree.
const STACK: usize = 1024 * 1024;

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
            session(&inner, handed_over, settings);
        };
        if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(session) {
            tracing::error!(target: "mail", ident = "dovecot", "imap: Error: cannot start a session: {error}");
        }
    }
}

/// One session, from its arrival to its end.
fn session(worker: &Worker, handed_over: HandedOver, settings: Settings) {
    let arrival = match Arrival::from(handed_over) {
        Ok(arrival) => arrival,
        Err(error) => {
            tracing::error!(target: "mail", ident = "dovecot", "imap: Error: {error}");
            return;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(target: "mail", ident = "dovecot", "imap: Error: {error}");
            return;
        }
    };
    runtime.block_on(async {
        let (user, extra, wire, lease) = match arrival.accept() {
            Ok(parts) => parts,
            Err(error) => {
                tracing::error!(target: "mail", ident = "dovecot", "imap: Error: {error}");
                return;
            }
        };
        match Namespaces::of(&settings, &user) {
            Ok(namespaces) => {
                let greeting = Greeting::read(&extra);
                let worker = Some(worker.clone());
                let session = Session::new(wire, settings, user, namespaces, worker);
                let text = greeting.text(&session.capabilities());
                session.run(text.as_bytes()).await;
            }
            Err(error) => unusable(wire, &extra, &user, &error.to_string()).await,
        }
        drop(lease);
    });
}

/// The mail cannot be served: the login stays good, as with Dovecot, and the session ends.
async fn unusable(mut wire: daemon::Wire, extra: &[u8], user: &Passenger, problem: &str) {
    let name = login::log::printable(&user.user);
    let session = &user.facts.session;
    tracing::error!(
        target: "mail",
        ident = "dovecot",
        "imap({name})<{}><{session}>: Error: {problem}",
        std::process::id()
    );
    let greeting = Greeting::read(extra);
    wire.queue(greeting.text("IMAP4rev1").as_bytes());
    wire.queue(b"* BYE Internal error occurred. Refer to server log for more information.\r\n");
    wire.close().await;
}
