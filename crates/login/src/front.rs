//! The login worker: accepts connections and runs the daemon's conversation on each.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Connection, LinkClient, Tls, Wire, Worker, WorkerError};
use neighbours::auth::AuthClient;

use crate::client::Client;
use crate::facts::Facts;
use crate::settings::FrontSettings;

/// Name of the link from login workers to the broker, in the daemon's plan.
pub const BROKER_LINK: &str = "broker";
/// Name of the TLS identities of the login role, in the daemon's plan.
pub const TLS: &str = "login";

/// One login worker's means.
pub struct Front {
    pub settings: FrontSettings,
    pub(crate) auth: AuthClient,
    pub(crate) broker: LinkClient,
    pub(crate) tls: Option<Tls>,
}

impl Front {
    /// Accepts from every listener of the role, with `converse` for each connection, until the
    /// worker has to finish. Call it inside [`Worker::run`].
    ///
    /// # Errors
    ///
    /// If the plan gave the role not all it needs.
    pub async fn run<F, C>(worker: &Worker, converse: F) -> Result<(), WorkerError>
    where
        F: Fn(Client) -> C + Clone + Send + Sync + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let settings: FrontSettings = worker.settings()?;
        let tls = if settings.tls { Some(worker.tls(TLS)?) } else { None };
        let auth = AuthClient::new(&settings.auth_socket);
        let broker = worker.link(BROKER_LINK)?;
        let front = Arc::new(Self { settings, auth, broker, tls });
        let mut accepting = Vec::new();
        for listener in worker.listeners()? {
            let (front, converse, worker) = (Arc::clone(&front), converse.clone(), worker.clone());
            accepting.push(tokio::spawn(async move {
                let handle =
                    move |connection| greet(Arc::clone(&front), connection, converse.clone());
                worker.serve(listener, handle).await;
            }));
        }
        for task in accepting {
            let _ = task.await;
        }
        Ok(())
    }
}

/// TLS first, where the port is for it; then the conversation.
async fn greet<F, C>(front: Arc<Front>, connection: Connection, converse: F)
where
    F: Fn(Client) -> C,
    C: Future<Output = ()>,
{
    let addresses = connection.peer.address().zip(connection.stream.local());
    let Some((remote, local)) = addresses else { return };
    let facts = Facts::new(remote, local, &front.settings.trusted);
    let mut wire = Wire::new(connection.stream);
    wire.set_timeout(front.settings.patience.min(Duration::from_secs(300)));
    let wrapped = front.settings.wrapped.iter().any(|name| **name == *connection.listener);
    let tls = front.tls.clone();
    let mut client = Client::new(wire, facts, front);
    if wrapped {
        let Some(tls) = tls else { return };
        if client.handshake(&tls).await.is_err() {
            client.handshake_failed();
            return;
        }
    }
    converse(client).await;
}
