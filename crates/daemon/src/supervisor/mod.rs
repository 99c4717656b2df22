//! The supervisor: the one process that may be root. It holds the sockets and reads the keys, starts
//! and restarts workers, replaces a generation of them by the next, and tells the service manager.
//!
//! It reads no byte of any peer. What workers say is bounded and may be hostile; a worker that says
//! what cannot be understood is killed.

mod generation;
mod lent;
mod process;
mod reload;
mod state;
mod users;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::handover::{FromWorker, Identity, ToWorker};
use crate::journal::Target;
use crate::{
    Args, Daemon, Log, Plan, Problems, Processes, Severity, exit, listen, log, notify, own,
    sandbox, settle,
};
use generation::Generation;
pub(crate) use generation::nobody;
use process::{Event, Phase, Process};
use reload::Candidate;

/// How long a new worker may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What a finishing worker gets beyond its time before it is killed.
const MERCY: Duration = Duration::from_secs(2);
/// How long after its end a worker's messages may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The longest wait before a worker that keeps dying is started again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A worker that lived this long has not died at its start.
const HEALTHY: Duration = Duration::from_secs(5);

pub(crate) fn main<D: Daemon>(args: Args) -> ExitCode {
    let (mut inherited, mut refused) = listen::inherited();
    let capabilities = sandbox::keep_of_supervisor();
    settle::raise_descriptor_limit();
    let target = Target::of_environment();
    let journal = match &target {
        Target::Journal(socket) => Some(socket.clone()),
        Target::Stderr => None,
    };
    let plan = own::plan::<D>(&args).and_then(|plan| match plan.problems.has_errors() {
        true => Err(plan.problems),
        false => lent::begin(plan),
    });
    if let Ok(Plan { taken_over: Some(path), .. }) = &plan {
        match listen::taken_over(path) {
            Ok(sockets) => inherited.extend(sockets),
            Err(error) => refused.push(format!("{}: {error}", path.display())),
        }
    }
    let style = plan.as_ref().map_or_else(|_| Log::default(), |plan| plan.log.clone());
    log::init(&style, D::NAME, target);
    if let Err(error) = capabilities {
        tracing::warn!(target: "mail", "warning: cannot drop capabilities: {error}");
    }
    if !sandbox::available() {
        tracing::warn!(target: "mail", "warning: this kernel has no Landlock, or an old one: workers are not kept from files that their users may open");
    }
    for problem in refused {
        tracing::warn!(target: "mail", "warning: {problem}");
    }
    let code = match plan {
        Err(problems) => {
            report(&problems);
            exit::CONFIGURATION
        }
        Ok(plan) => run::<D>(args, plan, inherited, journal).unwrap_or_else(|error| {
            tracing::error!(target: "mail", "fatal: {error}");
            exit::SYSTEM
        }),
    };
    log::flush(Duration::from_secs(1));
    ExitCode::from(code)
}

/// Each problem on a line of its own, with its place.
fn report(problems: &Problems) {
    for problem in problems {
        match problem.severity {
            Severity::Error => tracing::error!(target: "mail", "{problem}"),
            Severity::Warning => tracing::warn!(target: "mail", "{problem}"),
        }
    }
}

fn run<D: Daemon>(
    args: Args,
    plan: Plan,
    inherited: Vec<(String, OwnedFd)>,
    journal: Option<PathBuf>,
) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sender, events) = mpsc::channel(1024);
        let mut supervisor = Supervisor::<D> {
            args,
            generation: Generation::empty(inherited),
            candidate: None,
            watches_lender: false,
            processes: BTreeMap::new(),
            next_process: 1,
            next_generation: 1,
            links: BTreeMap::new(),
            restarts: Vec::new(),
            deaths: BTreeMap::new(),
            events: sender,
            announcement: None,
            stopping: false,
            code: None,
            journal,
            next_state: (Instant::now(), false),
            last_problems: Problems::default(),
            daemon: PhantomData,
        };
        supervisor.begin(plan, &[]);
        supervisor.supervise(events).await
    })
}

struct Supervisor<D> {
    args: Args,
    /// The one whose workers accept.
    generation: Generation,
    /// The one that is being started beside it.
    candidate: Option<Candidate>,
    /// Whoever lends us our ports is watched.
    watches_lender: bool,
    processes: BTreeMap<u64, Process>,
    next_process: u64,
    next_generation: u64,
    /// Both ends of every link, so that it outlives the processes at its ends.
    links: BTreeMap<String, (OwnedFd, OwnedFd)>,
    /// When to start a worker of a role again.
    restarts: Vec<(Instant, String)>,
    /// How often a role's workers have died young, one after the other.
    deaths: BTreeMap<String, u32>,
    events: mpsc::Sender<Event>,
    /// What to tell the service manager as soon as no older worker accepts, or at the latest then.
    announcement: Option<(String, Instant)>,
    stopping: bool,
    /// Set when the daemon has to end with this exit code.
    code: Option<u8>,
    journal: Option<PathBuf>,
    /// Until when the control worker's picture may be old, and whether it is.
    next_state: (Instant, bool),
    /// Of the last reload, for status.
    last_problems: Problems,
    daemon: PhantomData<D>,
}

struct Signals {
    hangup: Signal,
    /// OpenDKIM's word for a reload.
    user1: Signal,
    /// The guard's: somebody else has taken the path of one of our sockets.
    user2: Signal,
    terminate: Signal,
    interrupt: Signal,
    child: Signal,
}

impl<D: Daemon> Supervisor<D> {
    async fn supervise(&mut self, mut events: mpsc::Receiver<Event>) -> io::Result<u8> {
        let mut signals = Signals {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
        };
        let watchdog = notify::watchdog();
        let mut alive = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
        self.reap(); // who died before we listened for it
        while !(self.processes.is_empty() && (self.stopping || self.code.is_some())) {
            let next = self.next_deadline();
            tokio::select! {
                Some(event) = events.recv() => self.heed(event),
                _ = signals.child.recv() => self.reap(),
                _ = signals.hangup.recv() => self.reload(),
                _ = signals.user1.recv() => self.reload(),
                _ = signals.user2.recv() => {
                    self.generation.retakes = true;
                    self.reload();
                }
                _ = signals.terminate.recv() => self.stop(),
                _ = signals.interrupt.recv() => self.stop(),
                _ = alive.tick(), if watchdog.is_some() => notify::alive(),
                () = tokio::time::sleep_until(next) => self.on_time(),
            }
        }
        Ok(self.code.unwrap_or(0))
    }

    fn heed(&mut self, event: Event) {
        match event {
            Event::Said { process, message, payload, descriptors } => match message {
                FromWorker::Ready => self.on_ready(process),
                FromWorker::Failed { text, code } => self.on_failed(process, &text, code),
                FromWorker::HandOver { role, identity } => {
                    self.hand_over(process, &role, identity, &payload, descriptors);
                }
                FromWorker::Finishing => {
                    if let Some(process) = self.processes.get_mut(&process) {
                        process.accepts = false;
                    }
                    self.announce_when_taken_over();
                }
                FromWorker::Idle { received } => self.on_idle(process, received),
            },
            Event::Garbage { process, problem } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    let (role, pid) = (&process.role, process.pid);
                    tracing::error!(target: "mail", "{role} pid {pid}: {problem}: killed");
                    process.kill();
                }
            }
            Event::Lender => self.on_lender(),
            Event::Silent { process } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.silent = true;
                }
                self.bury();
            }
        }
    }

    fn on_ready(&mut self, id: u64) {
        if let Some(process) = self.processes.get_mut(&id)
            && process.phase == Phase::Starting
        {
            process.phase = Phase::Ready;
        }
        self.commit_when_ready();
        self.push_state();
    }

    fn on_failed(&mut self, id: u64, text: &str, code: u8) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        tracing::error!(target: "mail", "{}: {text}", process.role);
        process.failed = Some(code);
    }

    /// An on-demand worker that has everything we sent it, and nothing to do.
    fn on_idle(&mut self, id: u64, received: u64) {
        if let Some(process) = self.processes.get_mut(&id)
            && process.uid.is_some()
            && process.sent == received
        {
            process.finish(false, Duration::from_secs(5));
        }
    }

    /// Passes what one worker hands over to the worker of that user.
    fn hand_over(
        &mut self,
        from: u64,
        role: &str,
        identity: Identity,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) {
        let known = self.processes.get(&from).map(|from| (from.role.clone(), from.generation));
        let (from, generation) = known.unwrap_or_default();
        match self.worker_for(&from, generation, role, &identity) {
            Ok(process) => {
                process.sent += 1;
                let delivered = process.send(&ToWorker::HandOver(identity), payload, descriptors);
                if let Err(error) = delivered {
                    tracing::error!(target: "mail", "{role}: hand-over from {from} lost: {error}");
                }
            }
            Err(problem) => {
                let (uid, gid) = (identity.uid, identity.gid);
                tracing::error!(target: "mail", "{role}: hand-over from {from} for uid {uid}, gid {gid} refused: {problem}");
            }
        }
    }

    fn worker_for(
        &mut self,
        from: &str,
        generation: u64,
        name: &str,
        identity: &Identity,
    ) -> Result<&mut Process, String> {
        // A worker that is ready serves, even while others of its generation still start.
        let starting = self.candidate.as_ref().map(|candidate| &candidate.generation);
        let serving = starting.filter(|starting| starting.number == generation);
        let Generation { plan, number, .. } = serving.unwrap_or(&self.generation);
        let number = *number;
        let role = plan.roles.iter().find(|role| role.name == name);
        let role = role.ok_or_else(|| "there is no such role".to_owned())?.clone();
        let Processes::OnDemand { max, .. } = role.processes else {
            return Err("its workers are not started on demand".to_owned());
        };
        if !role.hand_over_from.iter().any(|name| name == from) {
            return Err(format!("role {from} is not in hand_over_from of role {name}"));
        }
        users::check(&plan.users, identity)?;
        let fits = |process: &Process| {
            process.role == name
                && process.uid == Some(identity.uid)
                && process.gid == Some(identity.gid)
                && process.generation == number
                && process.ended.is_none()
                && matches!(process.phase, Phase::Starting | Phase::Ready)
        };
        let found = self.processes.iter().find(|(_, process)| fits(process)).map(|(id, _)| *id);
        let id = match found {
            Some(id) => id,
            None => {
                let alive = self.processes.values().filter(|process| process.role == name).count();
                if self.stopping || alive >= max {
                    return Err(format!("{alive} workers are running, and no more are allowed"));
                }
                self.spawn(&role, number, Some(identity)).map_err(|error| error.to_string())?
            }
        };
        self.processes.get_mut(&id).ok_or_else(|| "it has gone".to_owned())
    }

    /// Collects the workers that have ended.
    fn reap(&mut self) {
        for process in self.processes.values_mut().filter(|process| process.ended.is_none()) {
            if let Ok(Some(status)) = process.child.try_wait() {
                process.ended = Some((status, Instant::now() + LAST_WORDS));
            }
        }
        self.bury();
    }

    /// Parts with those that have ended, after their last words: why they failed matters.
    fn bury(&mut self) {
        let now = Instant::now();
        let over = |process: &Process| match process.ended {
            Some((status, latest)) if process.silent || now >= latest => Some(status),
            _ => None,
        };
        let ended = self.processes.iter().filter_map(|(id, process)| Some((*id, over(process)?)));
        let ended: Vec<(u64, ExitStatus)> = ended.collect();
        if ended.is_empty() {
            return;
        }
        for (id, status) in ended {
            if let Some(process) = self.processes.remove(&id) {
                self.on_exit(id, &process, status);
            }
        }
        if self.stopping {
            self.end_in_order();
        }
        self.tell_alone();
        self.push_state();
        self.announce_when_taken_over();
    }

    fn on_exit(&mut self, id: u64, process: &Process, status: ExitStatus) {
        let finishing = matches!(process.phase, Phase::Finishing { .. });
        if !status.success() && !process.killed {
            let (name, role, pid) = (D::NAME, &process.role, process.pid);
            match status.signal() {
                Some(signal) => {
                    tracing::warn!(target: "mail", "warning: process {name} {role} pid {pid} killed by signal {signal}");
                }
                None if process.failed.is_none() => {
                    let code = status.code().unwrap_or(-1);
                    tracing::warn!(target: "mail", "warning: process {name} {role} pid {pid} exit status {code}");
                }
                None => {}
            }
        }
        if self.candidate.as_ref().is_some_and(|candidate| candidate.waits_for(id)) {
            let code = process.failed.unwrap_or(exit::TEMPORARY);
            return self.abandon(&format!("{} did not start", process.role), code);
        }
        let current = process.generation == self.generation.number;
        if current && !finishing && process.uid.is_none() && !self.stopping && self.code.is_none() {
            self.restart_later(process);
        }
    }

    /// At once for a worker that had run well; ever later for one that keeps dying, and latest for
    /// one that does not even start.
    fn restart_later(&mut self, process: &Process) {
        let deaths = self.deaths.entry(process.role.clone()).or_default();
        *deaths = if process.started.elapsed() >= HEALTHY { 0 } else { *deaths + 1 };
        let started = process.phase != Phase::Starting;
        let most = if started { Duration::from_secs(1) } else { LONGEST_BACKOFF };
        let wait = match *deaths {
            0 | 1 => Duration::ZERO,
            more => Duration::from_millis(50 << more.min(10)).min(most),
        };
        if wait > Duration::from_secs(1) {
            tracing::warn!(target: "mail", "warning: {}: bad command startup -- throttling", process.role);
        }
        self.restarts.push((Instant::now() + wait, process.role.clone()));
    }

    fn next_deadline(&self) -> Instant {
        let finishing = self.processes.values().filter_map(|process| match process.phase {
            Phase::Finishing { until } if !process.killed => Some(until + MERCY),
            Phase::Starting if !process.killed => Some(process.started + START_LIMIT),
            _ => None,
        });
        let restarts = self.restarts.iter().map(|(at, _)| *at);
        let state = Some(self.next_state.0).filter(|_| self.next_state.1);
        let ended = self.processes.values().filter_map(|process| Some(process.ended?.1));
        let announcement = self.announcement.iter().map(|(_, latest)| *latest);
        finishing
            .chain(restarts)
            .chain(state)
            .chain(ended)
            .chain(announcement)
            .fold(self.generation.next_look, Instant::min)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        for process in self.processes.values_mut() {
            let late = match process.phase {
                Phase::Finishing { until } => now >= until + MERCY,
                Phase::Starting => now >= process.started + START_LIMIT,
                Phase::Ready => false,
            };
            if late && !process.killed {
                let (role, pid) = (&process.role, process.pid);
                tracing::warn!(target: "mail", "warning: process {} {role} pid {pid} does not end: killed", D::NAME);
                process.kill();
            }
        }
        self.announce_when_taken_over();
        self.bury();
        if self.next_state.1 {
            self.push_state();
        }
        let due: Vec<String> =
            self.restarts.extract_if(.., |(at, _)| *at <= now).map(|(_, role)| role).collect();
        for name in due {
            let role = self.generation.plan.roles.iter().find(|role| role.name == name).cloned();
            let Some(role) = role.filter(|_| !self.stopping) else { continue };
            if let Err(error) = self.spawn(&role, self.generation.number, None) {
                tracing::error!(target: "mail", "cannot start {name}: {error}");
                self.restarts.push((now + LONGEST_BACKOFF, name));
            }
        }
        if now >= self.generation.next_look {
            self.look_for_changes();
        }
    }

    /// The first time: everybody finishes; the second time: at once.
    fn stop(&mut self) {
        notify::stopping();
        let again = std::mem::replace(&mut self.stopping, true);
        self.candidate = None;
        self.restarts.clear();
        self.generation.sockets.clear(); // whoever comes next can have the ports as soon as no worker accepts
        match again {
            true => self.processes.values_mut().for_each(Process::kill),
            false => self.end_in_order(),
        }
    }

    /// Tells everybody to finish; while those work that end first, only them.
    fn end_in_order(&mut self) {
        let plan = &self.generation.plan;
        let first = |process: &Process| {
            plan.roles.iter().any(|role| role.ends_first && role.name == process.role)
        };
        let waits = self.processes.values().any(first);
        for process in self.processes.values_mut() {
            if !waits || first(process) {
                process.finish(true, plan.grace.stop);
            }
        }
    }
}
