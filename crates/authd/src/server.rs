//! The protocol worker: every socket of `service auth`, and what its connections share.

use crate::backend::{Question, Reply};
use crate::engine::{Backend, Engine};
use crate::penalty::Penalties;
use crate::registry::Registry;
use crate::scheme::hex;
use crate::settings::{Kind, Settings};
use crate::{client, master};
use daemon::{Cause, LinkClient, Worker, WorkerError};
use mail_types::{Entropy, SystemEntropy};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What all connections share.
pub struct Shared {
    pub engine: Engine,
    pub registry: Arc<Registry>,
    pub penalties: Penalties,
    /// For tokens of sessions.
    pub secret: [u8; 32],
    /// Why this process has to finish, once it has to: its clients go to the next one.
    pub finishing: watch::Sender<Option<Cause>>,
    entropy: SystemEntropy,
    connections: AtomicU32,
}

impl Shared {
    /// # Errors
    ///
    /// The system gives no random bits.
    pub fn new(engine: Engine) -> io::Result<Self> {
        let entropy = SystemEntropy::open()?;
        let mut secret = [0; 32];
        entropy.fill(&mut secret)?;
        Ok(Self {
            engine,
            registry: Arc::default(),
            penalties: Penalties::default(),
            secret,
            finishing: watch::Sender::new(None),
            entropy,
            connections: AtomicU32::new(0),
        })
    }

    /// Waits until this process has to finish.
    pub async fn finished(&self) {
        // the sender lives as long as we do, so this cannot fail
        let _ = self.finishing.subscribe().wait_for(Option::is_some).await;
    }

    /// 32 hexadecimal digits that nobody can guess.
    ///
    /// # Errors
    ///
    /// The system gives no random bits.
    pub fn cookie(&self) -> io::Result<String> {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes)?;
        Ok(hex(&bytes))
    }

    pub fn connection_number(&self) -> u32 {
        self.connections.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// For challenges, which must never come twice.
    pub fn random_number(&self) -> u64 {
        self.entropy.number().unwrap_or_default()
    }
}

/// The backend workers behind their link.
struct Pool(LinkClient);

/// A listing of very many users.
const LONGEST_REPLY: u64 = 64 * 1024 * 1024;

impl Backend for Pool {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Option<Reply>> + Send + '_>> {
        Box::pin(async move {
            let asked = zeroize::Zeroizing::new(serde_json::to_vec(&question).ok()?);
            let stream = self.0.ask(&asked, Vec::new()).await.ok()?;
            let mut reply = Vec::new();
            stream.take(LONGEST_REPLY).read_to_end(&mut reply).await.ok()?;
            serde_json::from_slice(&reply).ok()
        })
    }
}

/// The link to the backend workers.
pub const LINK: &str = "backend";

/// Runs the protocol worker.
///
/// # Errors
///
/// What keeps it from starting.
pub fn run(worker: &Worker) -> Result<(), WorkerError> {
    let settings: Settings = worker.settings()?;
    worker.run(async {
        let pool = Pool(worker.link(LINK)?);
        let listeners = settings.listeners.clone();
        let engine = Engine::new(settings, Box::new(pool));
        let shared = Arc::new(Shared::new(engine).map_err(WorkerError::io("/dev/urandom"))?);
        let (ending, told) = (worker.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            loop {
                let cause = ending.finishing().await.cause;
                told.finishing.send_replace(Some(cause));
                if cause != Cause::Reload {
                    return;
                }
                // a stop may follow a reload
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut accepting = JoinSet::new();
        for settings in listeners {
            let listener = worker.listener(&settings.name)?;
            let (worker, shared) = (worker.clone(), Arc::clone(&shared));
            accepting.spawn(async move {
                let serve = |connection: daemon::Connection| {
                    let shared = Arc::clone(&shared);
                    let (kind, everybody) = (settings.kind, settings.everybody);
                    async move {
                        match kind {
                            Kind::Client | Kind::Login => {
                                client::serve(connection.stream, shared, kind).await;
                            }
                            Kind::Master | Kind::Userdb => {
                                let daemon::Connection { stream, peer, .. } = connection;
                                master::serve(stream, peer, shared, kind, everybody).await;
                            }
                        }
                    }
                };
                worker.serve(listener, serve).await;
            });
        }
        accepting.join_all().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
