//! One worker process: starting it, talking to it, ending it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Supervisor;
use super::generation::Generation;
use crate::descriptors::{self, Channel};
use crate::handover::{self, Descriptor, FromWorker, Identity, Start, ToWorker};
use crate::journal::SOCKET_VARIABLE;
use crate::{Account, Daemon, Processes, Role, control};

/// Messages that a worker may leave unread.
const MOST_UNREAD: usize = 512;
/// Descriptors in one message at the start.
const BATCH: usize = 32;
/// What a worker may see of our environment.
const ENVIRONMENT: [&str; 8] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_BACKTRACE",
    "JOURNAL_STREAM",
    SOCKET_VARIABLE,
    "LLVM_PROFILE_FILE",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Finishing { until: Instant },
}

pub(super) struct Process {
    pub role: String,
    pub generation: u64,
    pub child: Child,
    pub pid: u32,
    pub phase: Phase,
    /// The user it was started for, if on demand.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub started: Instant,
    /// How many hand-overs it got.
    pub sent: u64,
    /// The exit code of a failure that it has told.
    pub failed: Option<u8>,
    pub killed: bool,
    /// How it ended, and until when its last words are waited for.
    pub ended: Option<(ExitStatus, Instant)>,
    /// All it has said has been read.
    pub silent: bool,
    /// Has said that it accepts no more.
    pub accepts: bool,
    /// Has been told that it is alone, or need not be.
    pub alone: bool,
    /// Where the control worker asks it for its metrics.
    pub metrics: Option<OwnedFd>,
    outbox: mpsc::Sender<(Vec<u8>, Vec<OwnedFd>)>,
}

pub(super) enum Event {
    Said {
        process: u64,
        message: FromWorker,
        payload: Vec<u8>,
        descriptors: Vec<OwnedFd>,
    },
    Garbage {
        process: u64,
        problem: String,
    },
    /// It says nothing more.
    Silent {
        process: u64,
    },
    /// Whoever lends us our ports has written the file that says so.
    Lender,
}

impl Process {
    /// Queues a message; a worker that leaves too many unread loses them.
    pub fn send(
        &self,
        message: &ToWorker,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let bytes = handover::encode(message, payload)?;
        let full = |_| io::Error::new(io::ErrorKind::WouldBlock, "the worker does not read");
        self.outbox.try_send((bytes, descriptors)).map_err(full)
    }

    /// Asks it to finish; the time is never made longer.
    pub fn finish(&mut self, stop: bool, within: Duration) {
        let until = Instant::now() + within;
        if matches!(self.phase, Phase::Finishing { until: before } if before <= until) {
            return;
        }
        self.phase = Phase::Finishing { until };
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        if self.send(&ToWorker::Finish { stop, within_ms }, &[], Vec::new()).is_err() {
            self.kill();
        }
    }

    pub fn kill(&mut self) {
        self.killed = true;
        let _ = self.child.kill();
    }
}

impl<D: Daemon> Supervisor<D> {
    /// Starts a worker; it is ready when it says so.
    pub(super) fn spawn(
        &mut self,
        role: &Role,
        number: u64,
        identity: Option<&Identity>,
    ) -> io::Result<u64> {
        let generation = match &self.candidate {
            Some(candidate) if candidate.generation.number == number => &candidate.generation,
            _ => &self.generation,
        };
        let (ours, theirs) = descriptors::pair()?;
        let (metrics, asks) = descriptors::pair()?;
        let passed = self.descriptors_for(role, generation, metrics)?;
        let start = self.start_of(role, generation, identity);
        let child = command::<D>(&role.name, theirs).spawn()?;
        let id = self.next_process;
        self.next_process += 1;
        let outbox = self.talk(id, ours)?;
        let process = Process {
            role: role.name.clone(),
            generation: number,
            pid: child.id(),
            child,
            phase: Phase::Starting,
            uid: identity.map(|identity| identity.uid),
            gid: identity.map(|identity| identity.gid),
            started: Instant::now(),
            sent: 0,
            failed: None,
            killed: false,
            ended: None,
            silent: false,
            accepts: true,
            alone: !role.alone,
            metrics: Some(asks),
            outbox,
        };
        for batch in chunks(passed) {
            let (names, descriptors) = batch.into_iter().unzip();
            process.send(&ToWorker::Descriptors(names), &[], descriptors)?;
        }
        let memory = descriptors::memory("start", &serde_json::to_vec(&start)?)?;
        process.send(&ToWorker::Start, &[], vec![memory])?;
        self.processes.insert(id, process);
        self.introduce(id);
        self.tell_alone();
        Ok(id)
    }

    fn descriptors_for(
        &self,
        role: &Role,
        generation: &Generation,
        metrics: OwnedFd,
    ) -> io::Result<Vec<(Descriptor, OwnedFd)>> {
        let mut passed = vec![(Descriptor::Metrics, metrics)];
        for socket in &generation.sockets {
            if role.listeners.contains(&socket.name) {
                passed.push((
                    Descriptor::Listener(socket.name.clone()),
                    socket.descriptor.try_clone()?,
                ));
            }
        }
        for link in &generation.plan.links {
            let Some((asks, answers)) = self.links.get(&link.name) else { continue };
            if link.clients.contains(&role.name) {
                passed.push((Descriptor::LinkClient(link.name.clone()), asks.try_clone()?));
            }
            if link.server == role.name {
                passed.push((Descriptor::LinkServer(link.name.clone()), answers.try_clone()?));
            }
        }
        for (number, file) in generation.logs.iter().enumerate() {
            passed.push((Descriptor::Log(number), file.try_clone()?));
        }
        for (name, path) in &role.files {
            let file = std::fs::File::open(path)?;
            passed.push((Descriptor::File(name.clone()), file.into()));
        }
        for table in &role.tables {
            if let Ok(file) = std::fs::File::open(&table.text) {
                let name = table.text.display().to_string();
                passed.push((Descriptor::File(name), file.into()));
            }
        }
        Ok(passed)
    }

    fn start_of(&self, role: &Role, generation: &Generation, identity: Option<&Identity>) -> Start {
        let account = identity.map_or_else(
            || role.account.clone(),
            |identity| {
                let groups = identity.groups.clone();
                Some(Account { groups, ..Account::numeric(identity.uid, identity.gid) })
            },
        );
        let idle = match role.processes {
            Processes::OnDemand { idle, .. } => Some(idle),
            Processes::Fixed(_) => None,
        };
        Start {
            role: role.name.clone(),
            generation: generation.number,
            account,
            home: identity.map(|identity| identity.home.clone()),
            threads: role.threads,
            connections: role.connections,
            idle_ms: idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            sandbox: role.sandbox.clone(),
            mode: generation.plan.sandbox,
            settings: role.settings.clone(),
            tls: generation.bundles_of(&role.name).cloned().collect(),
            log: generation.plan.log.clone(),
            journal: self.journal.clone(),
        }
    }

    /// One task writes to the worker, one reads from it; both end with it.
    fn talk(&self, id: u64, socket: OwnedFd) -> io::Result<mpsc::Sender<(Vec<u8>, Vec<OwnedFd>)>> {
        let channel = Arc::new(Channel::new(socket)?);
        let (outbox, mut waiting) = mpsc::channel::<(Vec<u8>, Vec<OwnedFd>)>(MOST_UNREAD);
        let writer = Arc::clone(&channel);
        drop(tokio::spawn(async move {
            while let Some((bytes, descriptors)) = waiting.recv().await {
                if writer.give(&bytes, descriptors).await.is_err() {
                    break;
                }
            }
        }));
        let events = self.events.clone();
        drop(tokio::spawn(async move {
            while let Some(event) = listen(id, &channel).await {
                let last = matches!(event, Event::Garbage { .. });
                if events.send(event).await.is_err() || last {
                    break;
                }
            }
            let _ = events.send(Event::Silent { process: id }).await;
        }));
        Ok(outbox)
    }

    /// A role that must be alone learns it when every older process of the role has gone.
    pub(super) fn tell_alone(&mut self) {
        let mut waiting: Vec<u64> = Vec::new();
        for (id, process) in &self.processes {
            let older = |other: &(&u64, &Process)| *other.0 < *id && other.1.role == process.role;
            if !process.alone && !self.processes.iter().any(|other| older(&other)) {
                waiting.push(*id);
            }
        }
        for id in waiting {
            if let Some(process) = self.processes.get_mut(&id) {
                process.alone = process.send(&ToWorker::Alone, &[], Vec::new()).is_ok();
            }
        }
    }

    /// Makes a new worker known to the control worker, or all workers to a new control worker.
    fn introduce(&self, new: u64) {
        let Some(newcomer) = self.processes.get(&new) else { return };
        for process in self.processes.values() {
            let (control, observed) = match (&newcomer.role, &process.role) {
                (role, _) if role == control::ROLE => (newcomer, process),
                (_, role) if role == control::ROLE => (process, newcomer),
                _ => continue,
            };
            let Some(Ok(end)) = observed.metrics.as_ref().map(|end| end.try_clone()) else {
                continue;
            };
            if observed.role != control::ROLE {
                let message = ToWorker::Metrics { role: observed.role.clone() };
                let _ = control.send(&message, &[], vec![end]);
            }
        }
    }
}

/// The next thing a worker says; `None` at its end.
async fn listen(process: u64, channel: &Channel) -> Option<Event> {
    let heard = match channel.receive().await {
        Ok(None) => return None,
        Ok(Some(datagram)) => handover::decode::<FromWorker>(&datagram.bytes)
            .map(|(message, payload)| (message, payload.to_vec(), datagram.descriptors)),
        Err(error) => Err(error),
    };
    Some(match heard {
        Ok((message, payload, descriptors)) => {
            Event::Said { process, message, payload, descriptors }
        }
        Err(error) => Event::Garbage { process, problem: error.to_string() },
    })
}

/// The same binary, even when another one stands at its path by now.
fn command<D: Daemon>(role: &str, control: OwnedFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(format!("{}: {role}", D::NAME)).arg(handover::WORKER_ARGUMENT).env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // A group of its own: Ctrl-C at the terminal is for the supervisor, which tells the workers.
    command.stdin(Stdio::from(control)).stdout(Stdio::null()).current_dir("/").process_group(0);
    command
}

fn chunks(mut passed: Vec<(Descriptor, OwnedFd)>) -> Vec<Vec<(Descriptor, OwnedFd)>> {
    let mut batches = Vec::new();
    while passed.len() > BATCH {
        let rest = passed.split_off(BATCH);
        batches.push(std::mem::replace(&mut passed, rest));
    }
    batches.push(passed);
    batches
}
