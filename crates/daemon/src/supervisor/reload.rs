//! From one generation to the next: the new one is started beside the old one, and only when all its
//! workers are ready does the old one finish. Whatever goes wrong before leaves the old one as it was.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::Instant;

use super::generation::{Generation, Socket};
use super::process::{Phase, Process};
use super::{MERCY, Supervisor, report};
use crate::handover::ToWorker;
use crate::{Daemon, Plan, Problems, Processes, control, descriptors, exit, log, notify, own};

/// A generation whose workers are starting.
pub(super) struct Candidate {
    pub generation: Generation,
    processes: BTreeSet<u64>,
}

impl Candidate {
    pub fn waits_for(&self, process: u64) -> bool {
        self.processes.contains(&process)
    }
}

impl<D: Daemon> Supervisor<D> {
    /// SIGHUP, or a change of a watched file: reads everything anew.
    pub(super) fn reload(&mut self) {
        if self.stopping || self.code.is_some() {
            return;
        }
        notify::reloading();
        tracing::info!(target: "mail", "reload -- version {}", env!("CARGO_PKG_VERSION"));
        let dropped = self.drop_candidate();
        match own::plan::<D>(&self.args) {
            Ok(plan) if self.has_to_return(&plan) => self.return_ports(),
            Ok(plan) if !plan.problems.has_errors() => self.begin(plan, &dropped),
            Ok(Plan { problems, .. }) | Err(problems) => self.refuse(problems, exit::CONFIGURATION),
        }
    }

    /// Prepares a generation and starts its workers. `dropped` are the sockets of a candidate whose
    /// workers may still have them.
    pub(super) fn begin(&mut self, plan: Plan, dropped: &[Socket]) {
        report(&plan.problems);
        self.last_problems = plan.problems.clone();
        let number = self.next_generation;
        self.next_generation += 1;
        let generation = match Generation::prepare(number, plan, &self.generation, dropped) {
            Ok(generation) => generation,
            Err(problems) => return self.refuse(problems, exit::CONFIGURATION),
        };
        if let Err(error) = self.make_links(&generation) {
            let mut problems = Problems::default();
            problems.error(None, format!("cannot make links: {error}"));
            return self.refuse(problems, exit::SYSTEM);
        }
        let mut roles = generation.plan.roles.clone();
        if self.control_stays(&generation) {
            roles.retain(|role| role.name != control::ROLE);
        }
        self.candidate = Some(Candidate { generation, processes: BTreeSet::new() });
        for role in roles {
            let Processes::Fixed(count) = role.processes else { continue };
            for _ in 0..count {
                match self.spawn(&role, number, None) {
                    Ok(id) => {
                        if let Some(candidate) = &mut self.candidate {
                            candidate.processes.insert(id);
                        }
                    }
                    Err(error) => {
                        return self.abandon(
                            &format!("cannot start {}: {error}", role.name),
                            exit::SYSTEM,
                        );
                    }
                }
            }
        }
        self.commit_when_ready();
    }

    /// The control worker counts over all generations: it is replaced only when its place changes.
    fn control_stays(&self, next: &Generation) -> bool {
        let now = &self.generation.plan;
        let runs =
            |process: &Process| process.role == control::ROLE && process.phase == Phase::Ready;
        (&now.control, now.metrics) == (&next.plan.control, next.plan.metrics)
            && self.processes.values().any(runs)
    }

    fn make_links(&mut self, generation: &Generation) -> std::io::Result<()> {
        for link in &generation.plan.links {
            if !self.links.contains_key(&link.name) {
                self.links.insert(link.name.clone(), descriptors::pair()?);
            }
        }
        Ok(())
    }

    /// Makes the candidate the current generation as soon as all its workers are ready.
    pub(super) fn commit_when_ready(&mut self) {
        let ready = |candidate: &Candidate| {
            candidate.processes.iter().all(|id| {
                self.processes.get(id).is_some_and(|process| process.phase == Phase::Ready)
            })
        };
        if !self.candidate.as_ref().is_some_and(ready) {
            return;
        }
        let Some(Candidate { mut generation, .. }) = self.candidate.take() else { return };
        if self.control_stays(&generation) {
            let controls =
                self.processes.values_mut().filter(|process| process.role == control::ROLE);
            controls.for_each(|control| control.generation = generation.number);
        }
        generation.succeed(&mut self.generation);
        let grace = generation.plan.grace.clone();
        self.generation = generation;
        self.watch_lender();
        self.pass_logs();
        let current = self.generation.number;
        self.restarts.clear();
        self.deaths.clear();
        for process in self.processes.values_mut() {
            if process.generation < current {
                process.finish(false, grace.reload);
            }
        }
        self.end_oldest(grace.generations);
        self.links
            .retain(|name, _| self.generation.plan.links.iter().any(|link| link.name == *name));
        let status = format!("generation {current}, {} workers", self.processes.len());
        tracing::info!(target: "mail", "{} {} ready: {status}", D::NAME, env!("CARGO_PKG_VERSION"));
        self.push_state();
        self.announcement = Some((status, Instant::now() + MERCY));
        self.announce_when_taken_over();
    }

    /// Everybody, the old ones too, goes on in the files that have just been opened: the others may have been rotated away.
    fn pass_logs(&self) {
        let opened = || self.generation.logs.iter().map(OwnedFd::try_clone).collect();
        let log = &self.generation.plan.log;
        if let Ok(files) = opened() {
            log::redirect(log, files);
        }
        for process in self.processes.values() {
            if let Ok(files) = opened() {
                let _ = process.send(&ToWorker::Log(log.clone()), &[], files);
            }
        }
    }

    /// Ready means that whoever connects from now on meets the new generation.
    pub(super) fn announce_when_taken_over(&mut self) {
        let Some((status, latest)) = &self.announcement else { return };
        let current = self.generation.number;
        let old =
            |process: &Process| process.generation < current && process.accepts && !process.killed;
        if Instant::now() >= *latest || !self.processes.values().any(old) {
            notify::ready(status);
            self.announcement = None;
        }
    }

    /// Of too many old generations the oldest ends at once.
    fn end_oldest(&mut self, most: usize) {
        let current = self.generation.number;
        let old: BTreeSet<u64> =
            self.processes.values().map(|process| process.generation).collect();
        let old: Vec<u64> = old.into_iter().filter(|generation| *generation < current).collect();
        let excess = old.len().saturating_sub(most);
        for process in self.processes.values_mut() {
            if old.iter().take(excess).any(|generation| process.generation == *generation) {
                process.finish(true, self.generation.plan.grace.stop);
            }
        }
    }

    /// The candidate cannot run; its workers go, the old generation stays.
    pub(super) fn abandon(&mut self, why: &str, code: u8) {
        self.drop_candidate();
        let mut problems = Problems::default();
        problems.error(None, why);
        self.refuse(problems, code);
    }

    /// Its sockets. Those of its workers that serve already serve to the end, beside the old ones.
    pub(super) fn drop_candidate(&mut self) -> Vec<Socket> {
        let Some(candidate) = self.candidate.take() else { return Vec::new() };
        let Generation { number, plan, sockets, .. } = candidate.generation;
        let goes_on = self.generation.number > 0;
        for process in self.processes.values_mut().filter(|process| process.generation == number) {
            // One on demand starts because somebody waits for it; one that waits to be alone does nothing yet.
            let serves = process.uid.is_some() || process.phase != Phase::Starting;
            if goes_on && serves && process.alone {
                process.finish(false, plan.grace.reload);
            } else {
                process.kill();
            }
        }
        sockets
    }

    /// Says why there is no new generation. Without an old one the daemon ends.
    fn refuse(&mut self, problems: Problems, code: u8) {
        report(&problems);
        self.last_problems = problems;
        if self.generation.number == 0 {
            self.code = Some(code);
            return;
        }
        tracing::error!(target: "mail", "reload refused: generation {} goes on", self.generation.number);
        let status = format!("generation {}; the last reload was refused", self.generation.number);
        self.push_state();
        notify::ready(&status);
    }

    /// The control worker shows what we are; nobody asks us. At most twenty times a second: the
    /// picture is as large as the number of workers.
    pub(super) fn push_state(&mut self) {
        let now = Instant::now();
        self.next_state.1 = now < self.next_state.0;
        if self.next_state.1 {
            return;
        }
        self.next_state.0 = now + Duration::from_millis(50);
        let mut controls =
            self.processes.values().filter(|process| process.role == control::ROLE).peekable();
        if controls.peek().is_none() || self.generation.number == 0 {
            return;
        }
        let Ok(state) = serde_json::to_vec(&self.state()) else { return };
        for process in controls {
            if let Ok(memory) = descriptors::memory("state", &state) {
                let _ = process.send(&ToWorker::State, &[], vec![memory]);
            }
        }
    }
}
