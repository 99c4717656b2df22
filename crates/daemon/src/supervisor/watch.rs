//! Files that change while the daemon runs: renewed certificates and changed tables go to the living
//! workers, a changed configuration counts as a SIGHUP.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::postfix::TableFile;
use tokio::time::Instant;

use super::Supervisor;
use crate::handover::ToWorker;
use crate::plan::Plan;
use crate::{Daemon, Role, descriptors, tls};

/// What tells one state of a file from another. Symbolic links are followed: certbot moves those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Print {
    fn of(path: &Path) -> Option<Self> {
        let facts = fs::metadata(path).ok()?;
        Some(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            seconds: facts.mtime(),
            nanoseconds: facts.mtime_nsec(),
        })
    }
}

/// All files of a plan as they were when last read.
#[derive(Default)]
pub(super) struct Prints {
    seen: BTreeMap<PathBuf, Option<Print>>,
    /// Identities that did not parse at the last look: perhaps they are being written.
    doubtful: Vec<String>,
    /// The configuration has changed, and perhaps is still being written.
    unsettled: bool,
}

impl Prints {
    pub fn of(plan: &Plan) -> Self {
        let identities =
            plan.roles.iter().flat_map(|role| &role.tls).flat_map(|tls| &tls.identities);
        let identities = identities.flat_map(|files| [&files.certificate, &files.key]);
        let files = plan.roles.iter().flat_map(|role| &role.files).map(|(_, path)| path);
        let tables = plan.roles.iter().flat_map(|role| &role.tables).map(TableFile::signal);
        let paths = identities.chain(files).chain(&plan.watch).chain(tables);
        let seen = paths.map(|path| (path.clone(), Print::of(path))).collect();
        Self { seen, doubtful: Vec::new(), unsettled: false }
    }

    /// Notes the present state of all files, and returns those that are not as they were.
    fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, print) in &mut self.seen {
            let now = Print::of(path);
            if now != *print {
                *print = now;
                changed.push(path.clone());
            }
        }
        changed
    }
}

impl<D: Daemon> Supervisor<D> {
    pub(super) fn look_for_changes(&mut self) {
        let every = self.generation.plan.watch_every.unwrap_or(Duration::from_secs(5));
        self.generation.next_look = Instant::now() + every;
        let changed = self.generation.prints.changed();
        let doubtful = std::mem::take(&mut self.generation.prints.doubtful);
        let unsettled = std::mem::take(&mut self.generation.prints.unsettled);
        if changed.is_empty() && doubtful.is_empty() {
            if unsettled {
                self.reload();
            }
            return;
        }
        let roles = self.generation.plan.roles.clone();
        for role in &roles {
            for plan in &role.tls {
                let suspect = doubtful.contains(&plan.name);
                let touched = plan.identities.iter().any(|files| {
                    changed.contains(&files.certificate) || changed.contains(&files.key)
                });
                if touched || suspect {
                    self.renew(role, plan, suspect && !touched);
                }
            }
            for (name, path) in role.files.iter().filter(|(_, path)| changed.contains(path)) {
                self.pass_file(role, name, path);
            }
            for TableFile { text, index } in &role.tables {
                if changed.contains(text)
                    || index.as_ref().is_some_and(|index| changed.contains(index))
                {
                    self.pass_file(role, &text.display().to_string(), text);
                }
            }
        }
        self.push_state();
        let watched = self.generation.plan.watch.iter().any(|path| changed.contains(path));
        self.generation.prints.unsettled = unsettled || watched;
    }

    /// Certificate and key are two files, so one of them may still be the old one: only what is wrong
    /// at two looks is reported.
    fn renew(&mut self, role: &Role, plan: &tls::Plan, second_look: bool) {
        match tls::read(plan) {
            Ok(bundle) => {
                let Ok(bytes) = serde_json::to_vec(&bundle) else { return };
                for process in self.processes.values().filter(|process| process.role == role.name) {
                    if let Ok(memory) = descriptors::memory("identity", &bytes) {
                        let _ = process.send(&ToWorker::Renewed, &[], vec![memory]);
                    }
                }
                tracing::info!(target: "mail", "{}: renewed certificates of {}", role.name, plan.name);
                self.generation.renew(&role.name, bundle);
            }
            Err(error) if second_look => {
                tracing::error!(target: "mail", "{error}; the old certificate stays in use");
            }
            Err(_) => {
                if !self.generation.prints.doubtful.contains(&plan.name) {
                    self.generation.prints.doubtful.push(plan.name.clone());
                }
            }
        }
    }

    fn pass_file(&self, role: &Role, name: &str, path: &Path) {
        for process in self.processes.values().filter(|process| process.role == role.name) {
            match fs::File::open(path) {
                Ok(file) => {
                    let _ = process.send(&ToWorker::File(name.to_owned()), &[], vec![file.into()]);
                }
                Err(error) => {
                    tracing::error!(target: "mail", "{}: {error}; what was read stays", path.display());
                    return;
                }
            }
        }
    }
}
