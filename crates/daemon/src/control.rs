//! The control worker: answers the operator's command and Prometheus, so that the supervisor need
//! not listen to anybody.
//!
//! On the control socket a client writes one line, `status` or `metrics`, and reads the answer up to
//! the end. Only root and the daemon's own user are answered. The optional TCP address speaks just
//! enough HTTP for a scraper.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::descriptors::{Channel, read_memory};
use crate::metrics::{self, Snapshot};
use crate::{Connection, Peer, Wire, Worker, WorkerError};

pub(crate) const ROLE: &str = "control";
/// Name of the listener of the control socket.
pub(crate) const LISTENER: &str = "control";
/// Name of the listener of the metrics address.
pub(crate) const METRICS_LISTENER: &str = "metrics";

const LARGEST_SNAPSHOT: usize = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// The workers that can be asked, and what those left behind that have gone.
#[derive(Default)]
struct Observed {
    next: u64,
    workers: BTreeMap<u64, (Arc<Channel>, Snapshot)>,
    gone: Snapshot,
}

type Workers = Arc<Mutex<Observed>>;

fn lock(workers: &Workers) -> MutexGuard<'_, Observed> {
    workers.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn work(worker: &Worker, name: &'static str) -> Result<(), WorkerError> {
    worker.run(async {
        let workers = Workers::default();
        let mut observing = worker.observing();
        let collect = Arc::clone(&workers);
        let mut serving = Vec::new();
        for listener in worker.listeners()? {
            let (handle, workers) = (worker.clone(), Arc::clone(&workers));
            let http = listener.name() == METRICS_LISTENER;
            serving.push(async move {
                let handle = &handle;
                handle
                    .serve(listener, |connection| {
                        let (worker, workers) = (handle.clone(), Arc::clone(&workers));
                        async move {
                            let client = Client { worker, workers, name };
                            let _ = timeout(PATIENCE * 3, client.answer(connection, http)).await;
                        }
                    })
                    .await;
            });
        }
        let serving = serving.into_iter().map(|serve| tokio::spawn(serve)).collect::<Vec<_>>();
        let mut finishing = std::pin::pin!(worker.finishing());
        loop {
            let arrived = async {
                match observing.as_mut() {
                    Some(observing) => observing.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut finishing => break,
                Some((_, end)) = arrived => observe(&collect, end),
            }
        }
        for serve in serving {
            let _ = serve.await;
        }
        Ok(())
    })
}

fn observe(workers: &Workers, end: OwnedFd) {
    let Ok(channel) = Channel::new(end) else { return };
    let mut observed = lock(workers);
    observed.next += 1;
    let id = observed.next;
    observed.workers.insert(id, (Arc::new(channel), Snapshot::default()));
}

/// Asks every worker; who has gone leaves its counters.
async fn collect(workers: &Workers) -> Snapshot {
    let channels: Vec<(u64, Arc<Channel>)> =
        lock(workers).workers.iter().map(|(id, (channel, _))| (*id, Arc::clone(channel))).collect();
    for (id, channel) in channels {
        let answer = timeout(PATIENCE, ask(&channel)).await;
        let mut observed = lock(workers);
        match answer {
            Ok(Some(snapshot)) => {
                if let Some(known) = observed.workers.get_mut(&id) {
                    known.1 = snapshot;
                }
            }
            Ok(None) => {
                if let Some((_, last)) = observed.workers.remove(&id) {
                    observed.gone.add(&last.without_gauges());
                }
            }
            Err(_) => {} // busy: its last values stand
        }
    }
    let observed = lock(workers);
    let mut sum = metrics::snapshot();
    sum.add(&observed.gone);
    observed.workers.values().for_each(|(_, snapshot)| sum.add(snapshot));
    sum
}

/// `None` when the worker has gone, or sends what is no snapshot.
async fn ask(channel: &Channel) -> Option<Snapshot> {
    channel.send(b"metrics", &[]).await.ok()?;
    let answer = channel.receive().await.ok()??;
    let memory = answer.descriptors.into_iter().next()?;
    serde_json::from_slice(&read_memory(memory, LARGEST_SNAPSHOT).ok()?).ok()
}

struct Client {
    worker: Worker,
    workers: Workers,
    name: &'static str,
}

impl Client {
    async fn answer(&self, connection: Connection, http: bool) {
        if let Peer::Unix { uid, pid, .. } = connection.peer
            && uid != 0
            && uid != allowed_uid(&self.worker)
        {
            tracing::warn!(target: "mail", "warning: control socket: uid {uid}, pid {pid:?} is not allowed");
            return;
        }
        let mut wire = Wire::from(connection);
        wire.set_timeout(PATIENCE);
        let Ok(Some(line)) = wire.line(200).await else { return };
        let answer = match (http, line.bytes.as_ref()) {
            (false, b"status") => [&self.worker.supervisor_state().await[..], b"\n"].concat(),
            (false, b"metrics") => collect(&self.workers).await.prometheus(self.name).into_bytes(),
            (true, line) => self.http(&mut wire, line.to_vec()).await,
            _ => b"unknown command; there are status and metrics\n".to_vec(),
        };
        let _ = wire.send(&answer).await;
        wire.close().await;
    }

    async fn http(&self, wire: &mut Wire, request: Vec<u8>) -> Vec<u8> {
        for _ in 0..100 {
            match wire.line(8192).await {
                Ok(Some(line)) if !line.bytes.is_empty() => {}
                _ => break,
            }
        }
        if !request.starts_with(b"GET /metrics ") {
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .to_vec();
        }
        let text = collect(&self.workers).await.prometheus(self.name);
        let length = text.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        )
        .into_bytes()
    }
}

/// The user that runs the daemon, beside root.
fn allowed_uid(worker: &Worker) -> u32 {
    worker.settings().unwrap_or(0)
}
