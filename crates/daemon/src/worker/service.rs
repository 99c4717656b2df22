//! The running of a worker: its runtime, its talk with the supervisor, and its end.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{HandedOver, Worker, lock, until};
use crate::descriptors::{self, Channel, Datagram};
use crate::handover::{self, FromWorker, ToWorker};
use crate::{WorkerError, log, metrics, tls};

/// How long a worker without its supervisor may take to finish.
const ORPHANED: Duration = Duration::from_secs(3);
const LARGEST_BUNDLE: usize = 16 * 1024 * 1024;

/// That, why and until when a worker has to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    pub cause: Cause,
    /// What still runs then is cut off.
    pub until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A newer generation has taken over: connections may go on for their time.
    Reload,
    /// The daemon stops: say goodbye soon.
    Stop,
    /// The supervisor has died.
    Orphaned,
}

impl Worker {
    /// Builds the runtime and runs `service` in it. The supervisor takes the worker for ready when
    /// `service` waits for the first time. Returns when `service` has ended and its connections too,
    /// or when their time is over.
    ///
    /// # Errors
    ///
    /// What `service` returns, or that there is no runtime to be had.
    pub fn run<F>(&self, service: F) -> Result<(), WorkerError>
    where
        F: Future<Output = Result<(), WorkerError>>,
    {
        let mut builder = match self.0.start.threads {
            0 | 1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let threads = self.0.start.threads.clamp(1, 256);
        if threads > 1 {
            builder.worker_threads(threads);
        }
        let runtime =
            builder.enable_all().build().map_err(WorkerError::io("starting the runtime"))?;
        let result = runtime.block_on(self.drive(service));
        log::nobody_is_served();
        runtime.shutdown_timeout(Duration::from_millis(500));
        result
    }

    async fn drive<F>(&self, service: F) -> Result<(), WorkerError>
    where
        F: Future<Output = Result<(), WorkerError>>,
    {
        let control = lock(&self.0.control).take();
        let control = control.ok_or_else(|| WorkerError::service("run can be called once"))?;
        let broken = || WorkerError::io("control socket");
        let channel = Arc::new(Channel::new(control).map_err(broken())?);
        *lock(&self.0.channel) = Some(Arc::clone(&channel));
        let mut terminate = signal(SignalKind::terminate()).map_err(broken())?;
        let ours = tokio::spawn(self.clone().listen_to_supervisor(Arc::clone(&channel)));
        if let Some(metrics) = lock(&self.0.metrics).take() {
            drop(tokio::spawn(answer_metrics(metrics)));
        }
        let mut service = pin!(service);
        let mut result = poll_fn(|context| match service.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        if result.as_ref().is_none_or(Result::is_ok) {
            self.say(&channel, &FromWorker::Ready).await.map_err(broken())?;
            self.0.ready.store(true, Ordering::Relaxed);
        }
        let mut too_late = pin!(self.cut_off());
        let mut idle = pin!(self.idle(&channel));
        let mut cut = false;
        while result.is_none() && !cut {
            tokio::select! {
                ended = &mut service => result = Some(ended),
                () = &mut too_late => cut = true,
                _ = terminate.recv() => self.finish(Cause::Stop, ORPHANED),
                () = &mut idle => {}
            }
        }
        let mut quiet = self.0.busy.subscribe();
        tokio::select! {
            () = async {}, if cut => {}
            _ = quiet.wait_for(|busy| *busy == 0), if !cut => {}
            () = &mut too_late, if !cut => {}
            () = async { while terminate.recv().await.is_some() { self.finish(Cause::Stop, ORPHANED); } } => {}
        }
        ours.abort();
        result.unwrap_or(Ok(()))
    }

    async fn say(&self, channel: &Channel, message: &FromWorker) -> io::Result<()> {
        channel.send(&handover::encode(message, &[])?, &[]).await
    }

    /// A nearer end replaces a later one, never the other way round.
    fn finish(&self, cause: Cause, within: Duration) {
        if self.0.ready.load(Ordering::Relaxed) {
            lock(&self.0.listeners).clear();
        }
        let new = Finish { cause, until: until(within) };
        self.0.finish.send_if_modified(|finish| {
            let sooner = finish.is_none_or(|old| new.until < old.until);
            if sooner {
                *finish = Some(new);
            }
            sooner
        });
    }

    /// Ends when the time to finish is over.
    async fn cut_off(&self) {
        let mut finish = self.0.finish.subscribe();
        loop {
            let end = finish.borrow_and_update().map(|finish| finish.until);
            tokio::select! {
                () = async { match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                } } => return,
                changed = finish.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Tells the supervisor whenever an on-demand worker has had nothing to do for its time.
    async fn idle(&self, channel: &Channel) {
        let Some(idle) = self.0.start.idle_ms.map(Duration::from_millis) else {
            return std::future::pending().await;
        };
        let mut busy = self.0.busy.subscribe();
        loop {
            if busy.wait_for(|busy| *busy == 0).await.is_err() {
                return std::future::pending().await;
            }
            if timeout(idle, busy.wait_for(|busy| *busy > 0)).await.is_err() {
                let received = self.0.received.load(Ordering::Relaxed);
                let _ = self.say(channel, &FromWorker::Idle { received }).await;
            }
        }
    }

    async fn listen_to_supervisor(self, channel: Arc<Channel>) {
        loop {
            match channel.receive().await {
                Ok(Some(datagram)) => {
                    if let Err(error) = self.obey(&channel, datagram).await {
                        tracing::warn!(target: "mail", "warning: message from the supervisor: {error}");
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(target: "mail", "warning: control socket: {error}");
                    break;
                }
            }
        }
        self.finish(Cause::Orphaned, ORPHANED);
    }

    async fn obey(&self, channel: &Channel, datagram: Datagram) -> io::Result<()> {
        let (message, payload) = handover::decode::<ToWorker>(&datagram.bytes)?;
        let payload = payload.to_vec();
        let mut descriptors = datagram.descriptors.into_iter();
        let mut one =
            || descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
        match message {
            ToWorker::Finish { stop, within_ms } => {
                let cause = if stop { Cause::Stop } else { Cause::Reload };
                self.finish(cause, Duration::from_millis(within_ms));
                self.say(channel, &FromWorker::Finishing).await?;
            }
            ToWorker::Alone => drop(self.0.alone.send_replace(true)),
            ToWorker::Renewed => {
                let memory = descriptors::read_memory(one()?, LARGEST_BUNDLE)?;
                let bundle: tls::Bundle = serde_json::from_slice(&memory)?;
                if let Some(tls) = self.0.tls.get(&bundle.name) {
                    tls.renew(&bundle).map_err(io::Error::other)?;
                }
            }
            ToWorker::File(name) => {
                let file = Arc::new(std::fs::File::from(one()?));
                lock(&self.0.files).insert(name, file);
                self.0.file_changes.send_modify(|changes| *changes += 1);
            }
            ToWorker::HandOver(identity) => {
                self.0.received.fetch_add(1, Ordering::Relaxed);
                let descriptors = descriptors.collect();
                let handed_over = HandedOver { identity, payload, descriptors };
                let _ = self.0.handed_over.0.send(handed_over).await;
            }
            ToWorker::Log(log) => crate::log::redirect(&log, descriptors.collect()),
            ToWorker::Metrics { role } => drop(self.0.observed.send((role, one()?))),
            ToWorker::State => {
                let state = descriptors::read_memory(one()?, LARGEST_BUNDLE)?;
                self.0.state.send_replace(state.into());
            }
            ToWorker::Descriptors(_) | ToWorker::Start => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }
}

/// Answers each question of the control worker with the metrics of this process.
async fn answer_metrics(end: OwnedFd) {
    let Ok(channel) = Channel::new(end) else { return };
    let dropped = metrics::gauge("log_lines_dropped", "Log lines that did not fit into the queue.");
    while let Ok(Some(_question)) = channel.receive().await {
        dropped.set(i64::try_from(crate::log::dropped()).unwrap_or(i64::MAX));
        let Ok(bytes) = serde_json::to_vec(&metrics::snapshot()) else { continue };
        let Ok(memory) = descriptors::memory("metrics", &bytes) else { continue };
        if channel.give(b"metrics", vec![memory]).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}
