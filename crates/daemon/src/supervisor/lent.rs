//! Ports that an original lends us: as soon as its configuration has them again they are closed, before it binds them.
//! Postfix's master ends when one of its ports is taken (`fatal: bind ... Address already in use`), and all of Postfix
//! with it. So this does not wait for the next look at the files.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use config::{Place, Problems};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::Supervisor;
use super::process::Event;
use crate::plan::{At, Lent, Listen, Plan};
use crate::{Daemon, control, exit, notify, own};

/// Tells of each time that the file has been written, until nobody listens.
fn watch(file: &Path, told: mpsc::Sender<Event>) -> io::Result<()> {
    let events = inotify::init(CreateFlags::CLOEXEC)?;
    let written = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
    inotify::add_watch(&events, file.parent().unwrap_or(file), written)?;
    let name = file.file_name().unwrap_or_default().to_owned();
    let look = move || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&events, &mut buffer);
        loop {
            let is_it = |found: &CStr| found.to_bytes() == name.as_bytes();
            let written = match events.next() {
                Ok(event) => event.file_name().is_none_or(is_it), // without a name: some are lost
                Err(Errno::INTR) => false,
                Err(_) => return,
            };
            if written && told.blocking_send(Event::Lender).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("lender".to_owned()).spawn(look).map(drop)
}

/// The first plan: with nothing left for us there is nothing to start.
///
/// # Errors
///
/// One that says whose the ports are.
pub(super) fn begin(plan: Plan) -> Result<Plan, Problems> {
    let file = match &plan.lent {
        Lent::Returned(file) if plan.listeners.is_empty() => file.clone(),
        _ => return Ok(plan),
    };
    let mut problems = plan.problems;
    problems.error(Place::file(file), "none of its ports is left to us: no inet service is marked");
    Err(problems)
}

/// What a lender may want back.
fn ports(plan: &Plan) -> Vec<SocketAddr> {
    let port = |listen: &Listen| match listen.at {
        At::Tcp(address) if listen.name != control::METRICS_LISTENER => Some(address),
        _ => None,
    };
    plan.listeners.iter().filter_map(port).collect()
}

impl<D: Daemon> Supervisor<D> {
    /// Its directory stays the same over reloads.
    pub(super) fn watch_lender(&mut self) {
        let Lent::By(file) = &self.generation.plan.lent else { return };
        if std::mem::replace(&mut self.watches_lender, true) {
            return;
        }
        if let Err(error) = watch(file, self.events.clone()) {
            let file = file.display();
            tracing::warn!(target: "mail", "warning: {file}: cannot watch it: {error}; ports that are wanted back are closed some seconds later");
        }
    }

    /// Its file has been written. What is wrong in it is told by the look at all files.
    pub(super) fn on_lender(&mut self) {
        let lent = matches!(self.generation.plan.lent, Lent::By(_));
        if !lent || self.stopping || self.code.is_some() {
            return;
        }
        let Ok(plan) = own::plan::<D>(&self.args) else { return };
        if self.has_to_return(&plan) {
            return self.return_ports();
        }
        let wanted = ports(&plan);
        let fewer = ports(&self.generation.plan).iter().any(|port| !wanted.contains(port));
        if fewer && !plan.problems.has_errors() {
            let dropped = self.drop_candidate();
            self.begin(plan, &dropped);
        }
    }

    /// Whether an original has all its ports back.
    pub(super) fn has_to_return(&self, plan: &Plan) -> bool {
        matches!(self.generation.plan.lent, Lent::By(_)) && matches!(plan.lent, Lent::Returned(_))
    }

    /// Ends the daemon: nobody can connect any more, those who are served are served to their end. The exit code keeps the
    /// service manager from starting us again.
    pub(super) fn return_ports(&mut self) {
        if let Lent::By(file) = &self.generation.plan.lent {
            let file = file.display();
            tracing::warn!(target: "mail", "warning: {file}: what was marked as ours is live again: the ports are closed");
        }
        notify::stopping();
        self.code = Some(exit::CONFIGURATION);
        self.drop_candidate();
        self.restarts.clear();
        self.generation.let_go();
        let within = self.generation.plan.grace.reload;
        self.processes.values_mut().for_each(|process| process.finish(false, within));
    }
}
