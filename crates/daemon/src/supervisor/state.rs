//! What `status` on the control socket answers.

use serde::Serialize;

use super::Supervisor;
use super::process::Phase;
use crate::tls::Certificate;
use crate::{Daemon, Problems, listen};

#[derive(Serialize)]
pub(super) struct State {
    daemon: &'static str,
    version: &'static str,
    pid: u32,
    generation: u64,
    workers: Vec<WorkerState>,
    listeners: Vec<ListenerState>,
    certificates: Vec<Certificate>,
    /// Of the last start or reload.
    problems: Problems,
}

#[derive(Serialize)]
struct WorkerState {
    role: String,
    pid: u32,
    generation: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    seconds: u64,
}

#[derive(Serialize)]
struct ListenerState {
    name: String,
    address: String,
    inherited: bool,
}

impl<D: Daemon> Supervisor<D> {
    pub(super) fn state(&self) -> State {
        let workers = self.processes.values().map(|process| WorkerState {
            role: process.role.clone(),
            pid: process.pid,
            generation: process.generation,
            state: match process.phase {
                Phase::Starting => "starting",
                Phase::Ready => "ready",
                Phase::Finishing { .. } => "finishing",
            },
            uid: process.uid,
            seconds: process.started.elapsed().as_secs(),
        });
        let listeners = self.generation.sockets.iter().map(|socket| ListenerState {
            name: socket.name.clone(),
            address: listen::address(&socket.descriptor),
            inherited: socket.at.is_none(),
        });
        let mut certificates: Vec<Certificate> = Vec::new();
        for certificate in self.generation.bundles().flat_map(crate::tls::Bundle::certificates) {
            if !certificates.contains(&certificate) {
                certificates.push(certificate);
            }
        }
        State {
            daemon: D::NAME,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            generation: self.generation.number,
            workers: workers.collect(),
            listeners: listeners.collect(),
            certificates,
            problems: self.last_problems.clone(),
        }
    }
}
