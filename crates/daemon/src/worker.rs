//! A worker, as the daemon's own code sees it: what it was given, who connects, when to finish.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::descriptors::Channel;
use crate::handover::{self, Descriptor, FromWorker, Identity, Start};
use crate::metrics::{self, Counter, Gauge};
use crate::{Connection, LinkClient, LinkServer, Listener, Tls, WorkerError};

mod service;

pub use service::{Cause, Finish};

/// Hand-overs that wait for the worker to take them.
const WAITING: usize = 256;

/// A cheap handle: clone it into every task.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    start: Start,
    /// None when it has to finish: whoever has only connections left keeps no port.
    listeners: Mutex<BTreeMap<String, Vec<OwnedFd>>>,
    clients: BTreeMap<String, OwnedFd>,
    servers: BTreeMap<String, OwnedFd>,
    files: Mutex<BTreeMap<String, Arc<File>>>,
    file_changes: watch::Sender<u64>,
    tls: BTreeMap<String, Tls>,
    /// Until the runtime takes it.
    control: Mutex<Option<OwnedFd>>,
    channel: Mutex<Option<Arc<Channel>>>,
    metrics: Mutex<Option<OwnedFd>>,
    ready: AtomicBool,
    finish: watch::Sender<Option<Finish>>,
    alone: watch::Sender<bool>,
    handed_over: (mpsc::Sender<HandedOver>, Mutex<Option<mpsc::Receiver<HandedOver>>>),
    received: AtomicU64,
    connections: Arc<Semaphore>,
    busy: watch::Sender<usize>,
    state: watch::Sender<Arc<[u8]>>,
    observed: mpsc::UnboundedSender<(String, OwnedFd)>,
    observing: Mutex<Option<mpsc::UnboundedReceiver<(String, OwnedFd)>>>,
    counted: (Counter, Gauge),
}

/// What another worker passed through the supervisor.
#[derive(Debug)]
pub struct HandedOver {
    pub identity: Identity,
    pub payload: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// Held while something is going on; an on-demand worker without any goes away after a while, and a
/// finishing worker waits for them.
#[derive(Debug)]
pub struct Busy {
    count: watch::Sender<usize>,
    open: Gauge,
    /// Room for a connection counts only when the connection is there.
    counted: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Busy {
    fn start(&mut self) {
        if !self.counted {
            self.counted = true;
            self.open.add(1);
            self.count.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.counted {
            self.open.add(-1);
            self.count.send_modify(|count| *count = count.saturating_sub(1));
        }
    }
}

impl Worker {
    pub(crate) fn new(
        start: Start,
        passed: Vec<(Descriptor, OwnedFd)>,
        control: OwnedFd,
    ) -> Result<Self, WorkerError> {
        let mut listeners: BTreeMap<String, Vec<OwnedFd>> = BTreeMap::new();
        let (mut clients, mut servers) = (BTreeMap::new(), BTreeMap::new());
        let (mut files, mut metrics) = (BTreeMap::new(), None);
        for (what, descriptor) in passed {
            match what {
                Descriptor::Listener(name) => listeners.entry(name).or_default().push(descriptor),
                Descriptor::LinkClient(name) => drop(clients.insert(name, descriptor)),
                Descriptor::LinkServer(name) => drop(servers.insert(name, descriptor)),
                Descriptor::File(name) => {
                    drop(files.insert(name, Arc::new(File::from(descriptor))))
                }
                Descriptor::Metrics => metrics = Some(descriptor),
                Descriptor::Log(_) => {} // taken before the log began
            }
        }
        let mut tls = BTreeMap::new();
        for bundle in &start.tls {
            tls.insert(bundle.name.clone(), Tls::new(bundle).map_err(WorkerError::service)?);
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let (observed, observing) = mpsc::unbounded_channel();
        let role = [("role", start.role.as_str())];
        let counted = (
            metrics::counter_with("connections_total", "Connections served.", &role),
            metrics::gauge_with("connections_open", "Connections open now.", &role),
        );
        Ok(Self(Arc::new(Inner {
            listeners: Mutex::new(listeners),
            clients,
            servers,
            files: Mutex::new(files),
            file_changes: watch::Sender::new(0),
            tls,
            control: Mutex::new(Some(control)),
            channel: Mutex::new(None),
            metrics: Mutex::new(metrics),
            ready: AtomicBool::new(false),
            finish: watch::Sender::new(None),
            alone: watch::Sender::new(false),
            handed_over: (sender, Mutex::new(Some(receiver))),
            received: AtomicU64::new(0),
            connections: Arc::new(Semaphore::new(start.connections.clamp(1, 1_000_000))),
            busy: watch::Sender::new(0),
            state: watch::Sender::new(Arc::from(Vec::new())),
            observed,
            observing: Mutex::new(Some(observing)),
            counted,
            start,
        })))
    }

    pub fn role(&self) -> &str {
        &self.0.start.role
    }

    /// Grows with every reload.
    pub fn generation(&self) -> u64 {
        self.0.start.generation
    }

    /// Home directory of the user that an on-demand worker was started for.
    pub fn home(&self) -> Option<&str> {
        self.0.start.home.as_deref()
    }

    /// The role's settings.
    ///
    /// # Errors
    ///
    /// If they are not a `T`: the daemon's plan and its worker disagree.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, WorkerError> {
        T::deserialize(&self.0.start.settings)
            .map_err(|source| WorkerError::Settings { role: self.role().to_owned(), source })
    }

    /// A listener of the plan; call it inside [`Self::run`].
    ///
    /// # Errors
    ///
    /// If the role has none of this name.
    pub fn listener(&self, name: &str) -> Result<Listener, WorkerError> {
        let missing = || not_planned("listener", name);
        let listeners = lock(&self.0.listeners);
        let sockets = listeners.get(name).ok_or_else(missing)?;
        let copies = sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>();
        copies.and_then(|copies| Listener::new(name, copies)).map_err(WorkerError::io(name))
    }

    /// All listeners of the role.
    ///
    /// # Errors
    ///
    /// As [`Self::listener`].
    pub fn listeners(&self) -> Result<Vec<Listener>, WorkerError> {
        let names: Vec<String> = lock(&self.0.listeners).keys().cloned().collect();
        names.iter().map(|name| self.listener(name)).collect()
    }

    /// The asking end of a link; call it inside [`Self::run`].
    ///
    /// # Errors
    ///
    /// If the plan does not make this role its client.
    pub fn link(&self, name: &str) -> Result<LinkClient, WorkerError> {
        let end = self.0.clients.get(name).ok_or_else(|| not_planned("link", name))?;
        end.try_clone().and_then(LinkClient::new).map_err(WorkerError::io(name))
    }

    /// The answering end of a link; call it inside [`Self::run`].
    ///
    /// # Errors
    ///
    /// If the plan does not make this role its server.
    pub fn link_server(&self, name: &str) -> Result<LinkServer, WorkerError> {
        let end = self.0.servers.get(name).ok_or_else(|| not_planned("link to serve", name))?;
        end.try_clone().and_then(LinkServer::new).map_err(WorkerError::io(name))
    }

    /// Asks for system users; call it inside [`Self::run`].
    ///
    /// # Errors
    ///
    /// If the role does not say that it needs them ([`crate::Needs::users`]).
    pub fn users(&self) -> Result<crate::Users, WorkerError> {
        Ok(crate::Users::new(self.link(crate::users::ROLE)?))
    }

    /// A TLS acceptor, renewed in place.
    ///
    /// # Errors
    ///
    /// If the role has none of this name.
    pub fn tls(&self, name: &str) -> Result<Tls, WorkerError> {
        self.0.tls.get(name).cloned().ok_or_else(|| not_planned("TLS identity", name))
    }

    /// What stands now in a file that the supervisor opened, up to `limit` bytes.
    ///
    /// # Errors
    ///
    /// If the role has none of this name, or it is larger.
    pub fn file(&self, name: &str, limit: usize) -> Result<Vec<u8>, WorkerError> {
        let file = lock(&self.0.files).get(name).cloned();
        let file = file.ok_or_else(|| not_planned("file", name))?;
        read_all(&file, limit).map_err(WorkerError::io(name))
    }

    /// A table of the role that the supervisor has opened, as it was last passed.
    pub fn table(&self, path: &Path) -> Option<Arc<File>> {
        lock(&self.0.files).get(path.to_str()?).cloned()
    }

    /// Changes its value whenever a file of the role was passed again.
    pub fn file_changes(&self) -> watch::Receiver<u64> {
        self.0.file_changes.subscribe()
    }

    /// Waits until this process has to finish: stop accepting, end idle connections, return.
    pub async fn finishing(&self) -> Finish {
        let mut finish = self.0.finish.subscribe();
        match finish.wait_for(Option::is_some).await.map(|finish| *finish) {
            Ok(Some(finish)) => finish,
            _ => std::future::pending().await, // not reached: we hold the sender
        }
    }

    /// Runs `connection` until it ends or this process has to finish: for clients that keep a
    /// connection between their questions, and ask again on a new one when it ends.
    pub async fn until_finishing(&self, connection: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = connection => {}
            _ = self.finishing() => {}
        }
    }

    /// True once [`Self::finishing`] has been reached.
    pub fn is_finishing(&self) -> bool {
        self.0.finish.borrow().is_some()
    }

    /// Waits until no older process of this role is left (roles with `alone`).
    pub async fn alone(&self) {
        let _ = self.0.alone.subscribe().wait_for(|alone| *alone).await;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// Marks this process as busy, for work that is no connection.
    pub fn busy(&self) -> Busy {
        let mut busy = self.busy_with(None);
        busy.start();
        busy
    }

    fn busy_with(&self, permit: Option<OwnedSemaphorePermit>) -> Busy {
        let (count, open) = (self.0.busy.clone(), self.0.counted.1.clone());
        Busy { count, open, counted: false, _permit: permit }
    }

    /// How many connections and other [`Busy`] things there are.
    pub fn busy_count(&self) -> usize {
        *self.0.busy.borrow()
    }

    /// Waits for room for one more connection that has arrived already, and takes it.
    pub async fn room(&self) -> Busy {
        let mut busy = self.free_room().await;
        busy.start();
        busy
    }

    async fn free_room(&self) -> Busy {
        let permit = Arc::clone(&self.0.connections).acquire_owned().await.ok();
        self.busy_with(permit)
    }

    /// Runs one connection in a task of its own: if it panics, it ends alone.
    pub fn spawn_connection(
        &self,
        mut busy: Busy,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        busy.start();
        self.0.counted.0.add(1);
        drop(tokio::spawn(async move {
            let _busy = busy;
            connection.await;
        }));
    }

    /// Accepts from `listener` and serves each connection in a task of its own, as many at a time as
    /// the role allows, until the worker has to finish.
    pub async fn serve<F, C>(&self, listener: Listener, handle: F)
    where
        F: Fn(Connection) -> C,
        C: Future<Output = ()> + Send + 'static,
    {
        let mut finishing = pin!(self.finishing());
        loop {
            let accepted = async {
                let busy = self.free_room().await;
                (listener.accept().await, busy)
            };
            let (accepted, busy) = tokio::select! {
                biased;
                _ = &mut finishing => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok(connection) => self.spawn_connection(busy, handle(connection)),
                Err(error) => accept_failed(listener.name(), &error).await,
            }
        }
    }

    /// Passes a connection to the worker of a user, which is started if there is none. Nothing comes
    /// back: if the supervisor refuses, it closes the descriptors.
    ///
    /// # Errors
    ///
    /// If payload or descriptors are too many for one datagram, or the supervisor has gone.
    pub async fn hand_over(
        &self,
        role: &str,
        identity: Identity,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let message = FromWorker::HandOver { role: role.to_owned(), identity };
        let bytes = handover::encode(&message, payload)?;
        self.channel()?.give(&bytes, descriptors).await
    }

    /// The stream of what other workers hand over to this one. The second caller gets nothing.
    pub fn handed_over(&self) -> HandOvers {
        HandOvers(lock(&self.0.handed_over.1).take())
    }

    fn channel(&self) -> io::Result<Arc<Channel>> {
        lock(&self.0.channel).clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// For the control worker: what the supervisor says of itself.
    pub(crate) async fn supervisor_state(&self) -> Arc<[u8]> {
        let mut state = self.0.state.subscribe();
        let state = state.wait_for(|state| !state.is_empty()).await;
        state.map_or_else(|_| Arc::from(Vec::new()), |state| Arc::clone(&state))
    }

    /// For the control worker: channels to the workers that start.
    pub(crate) fn observing(&self) -> Option<mpsc::UnboundedReceiver<(String, OwnedFd)>> {
        lock(&self.0.observing).take()
    }
}

/// See [`Worker::handed_over`].
pub struct HandOvers(Option<mpsc::Receiver<HandedOver>>);

impl HandOvers {
    /// The next one; waits for ever when there can be none. Safe to drop while it waits.
    pub async fn next(&mut self) -> HandedOver {
        if let Some(receiver) = &mut self.0
            && let Some(handed_over) = receiver.recv().await
        {
            return handed_over;
        }
        std::future::pending().await
    }
}

/// Out of descriptors or memory: the listen queue holds the clients until there is room again.
async fn accept_failed(name: &str, error: &io::Error) {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    if matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) {
        tracing::warn!(target: "mail", "warning: cannot accept at {name}: {error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn not_planned(kind: &'static str, name: &str) -> WorkerError {
    WorkerError::NotPlanned { kind, name: name.to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_all(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match file.read_at(&mut chunk, bytes.len() as u64)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large"));
        }
    }
}

fn until(within: Duration) -> Instant {
    Instant::now() + within
}
