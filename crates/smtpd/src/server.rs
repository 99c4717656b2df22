//! What the connections of one service share, and the acceptance of new ones.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::tls::Tls;
use daemon::{Connection, Wire, Worker, WorkerError};
use neighbours::auth::{AuthClient, AuthError, Limits};
use neighbours::rewrite::RewriteClient;
use protocol::dovecot_auth::Mechanism;
use tokio::sync::watch;

use crate::anvil::Anvil;
use crate::client::Client;
use crate::connection;
use crate::delegates::Delegates;
use crate::hosts::Hosts;
use crate::screen::{Counted, Screen};
use crate::settings::{Service, Settings};
use crate::world::Shared;

/// Postfix gives the auth server ten seconds for each answer; Dovecot's own delays can take longer. For one that does not
/// listen it does not wait.
const AUTH_LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    reply: Duration::from_secs(60),
    away: Duration::ZERO,
};

/// One service of master.cf, ready to serve.
pub(crate) struct Context {
    pub service: Service,
    pub tables: Arc<tables::Set>,
    pub shared: Shared,
    pub auth: Option<AuthClient>,
    pub tls: Option<Tls>,
    pub anvil: Anvil,
    pub finishing: Finishing,
    mechanisms: Mutex<Option<Vec<Mechanism>>>,
}

/// Tells connections that the worker stops.
#[derive(Clone, Debug)]
pub(crate) struct Finishing(watch::Receiver<bool>);

impl Finishing {
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    pub(crate) fn is_finishing(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|finishing| *finishing).await.is_err() {
            std::future::pending::<()>().await; // nobody will ever say it
        }
    }
}

impl Context {
    pub(crate) fn new(
        service: Service,
        common: &Common,
        tls: Option<Tls>,
        anvil: Anvil,
        finishing: Finishing,
    ) -> Self {
        let queue = &service.queue;
        let rewrite =
            Arc::new(RewriteClient::new(queue.rewrite.clone(), queue.dialect(), queue.ipc_timeout));
        let auth =
            service.sasl.as_ref().map(|sasl| AuthClient::with_limits(&sasl.socket, AUTH_LIMITS));
        let shared = Shared {
            tables: Arc::clone(&common.tables),
            rewrite,
            hosts: common.hosts.clone(),
            delegates: Arc::clone(&common.delegates),
            verify: queue.verify.clone(),
            dialect: queue.dialect(),
            ipc_timeout: queue.ipc_timeout,
        };
        let tables = Arc::clone(&common.tables);
        Self { service, tables, shared, auth, tls, anvil, finishing, mechanisms: Mutex::default() }
    }

    /// What the auth server offers. While it is away, what it offered last: mail that needs no login goes on,
    /// and a login fails for now.
    pub(crate) async fn mechanisms(&self) -> Result<Vec<Mechanism>, AuthError> {
        let Some(auth) = &self.auth else { return Ok(Vec::new()) };
        match auth.mechanisms().await {
            Ok(mechanisms) => {
                let mut known = self.mechanisms.lock().unwrap_or_else(PoisonError::into_inner);
                *known = Some(mechanisms.clone());
                Ok(mechanisms)
            }
            Err(error) => {
                let known = self.mechanisms.lock().unwrap_or_else(PoisonError::into_inner);
                known.clone().ok_or(error)
            }
        }
    }

    /// Who is at the other end, and lines to log about the name.
    async fn client(
        &self,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> (Client, Vec<String>) {
        let address = peer.map(|peer| peer.ip().to_canonical());
        let client = Client {
            server_address: local.map(|local| local.ip().to_canonical()),
            server_port: local.map(|local| local.port()),
            log_port: self.service.log_client_port,
            ..Client::unnamed(address, peer.map(|peer| peer.port()))
        };
        if !self.service.peername_lookup {
            return (client, Vec::new());
        }
        self.shared.hosts.named(client).await
    }
}

/// What all services of the worker share.
pub(crate) struct Common {
    pub tables: Arc<tables::Set>,
    pub hosts: Hosts<dns::System>,
    pub delegates: Arc<Delegates>,
}

/// The whole work of a worker: every service at once, in one process.
pub(crate) fn work(worker: &Worker) -> Result<(), WorkerError> {
    let settings: Settings = worker.settings()?;
    let mut tables = neighbours::lookup::tables(worker);
    let mut problems = Vec::new();
    for service in &settings.services {
        problems.extend(tables.open_aliases(&service.policy.tables.aliases));
        problems.extend(tables.open(&service.tables()));
    }
    for problem in &problems {
        tracing::warn!(target: "mail", "warning: {problem}");
    }
    let tables = Arc::new(tables);
    let anvil = Anvil::default();
    let (finish, finishing) = Finishing::new();
    worker.run(async {
        let dns = Arc::new(dns::System::new(&dns::Settings::from(&settings.resolving)));
        let common = Common { tables, hosts: Hosts::new(dns), delegates: Arc::default() };
        let (mut serving, mut screens) = (Vec::new(), Vec::new());
        for service in settings.services {
            let tls = match &service.tls.identities {
                None => None,
                Some(name) => Some(worker.tls(name)?),
            };
            let listener = worker.listener(&service.listener)?;
            let screen = service.screen.clone().map(|settings| {
                let dns = Arc::clone(&common.hosts.dns);
                Arc::new(Screen::new(settings, Arc::clone(&common.tables), dns))
            });
            screens.extend(screen.clone());
            let stress_at = service.stress_at;
            let context = Context::new(service, &common, tls, anvil.clone(), finishing.clone());
            let context = Arc::new(context);
            let worker = worker.clone();
            serving.push(tokio::spawn(async move {
                let busy = worker.clone();
                worker
                    .serve(listener, move |connection| {
                        let stressed = busy.busy_count() > stress_at;
                        let peer = connection.peer.address();
                        let counted = screen.as_ref().zip(peer).map(|(one, peer)| one.count(peer));
                        serve(Arc::clone(&context), counted, connection, stressed)
                    })
                    .await;
            }));
        }
        let cause = worker.finishing().await.cause;
        for task in serving {
            let _ = task.await;
        }
        for screen in screens {
            screen.close().await;
        }
        // After a reload connections go on as they are; the runtime waits for them.
        if cause != daemon::Cause::Reload {
            let _ = finish.send(true);
        }
        Ok(())
    })
}

async fn serve(
    context: Arc<Context>,
    counted: Option<Counted<dns::System>>,
    connection: Connection,
    stressed: bool,
) {
    let (peer, local) = (connection.peer.address(), connection.stream.local());
    let mut wire = Wire::from(connection);
    if let (Some(counted), Some(peer)) = (counted, peer)
        && !Screen::admits(&counted, &mut wire, peer, local).await
    {
        return wire.close().await;
    }
    let (client, lines) = context.client(peer, local).await;
    lines.iter().for_each(|line| connection::log(&context.service.ident, line));
    connection::serve(context, wire, client, stressed).await;
}
