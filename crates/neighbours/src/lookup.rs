//! Lookup tables inside a worker's sandbox: users are asked for, and files that the worker may not open
//! come from the supervisor.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use daemon::Worker;
use tables::{Passed, Set, Users};
use tokio::runtime::Handle;

struct OfWorker(Worker);

/// An empty set of tables for a worker whose role [`opens_tables`](daemon::Role::opens_tables).
pub fn tables(worker: &Worker) -> Set {
    let of_worker = Arc::new(OfWorker(worker.clone()));
    Set::new(Arc::clone(&of_worker) as Arc<dyn Users>).with_passed(of_worker)
}

impl Passed for OfWorker {
    fn file(&self, path: &Path) -> Option<Arc<File>> {
        self.0.table(path)
    }
}

/// A set of tables asks on a thread that may wait.
impl Users for OfWorker {
    fn passwd(&self, name: &str) -> Result<Option<String>, String> {
        let users = self.0.users().map_err(|error| error.to_string())?;
        let user = Handle::current().block_on(users.user(name))?;
        Ok(user.map(|user| {
            let daemon::UserEntry { name, password, uid, gid, gecos, home, shell } = user;
            format!("{name}:{password}:{uid}:{gid}:{gecos}:{home}:{shell}")
        }))
    }

    fn group(&self, name: &str) -> Result<Option<String>, String> {
        let users = self.0.users().map_err(|error| error.to_string())?;
        let group = Handle::current().block_on(users.group(name))?;
        Ok(group.map(|group| {
            let daemon::GroupEntry { name, password, gid, members } = group;
            format!("{name}:{password}:{gid}:{}", members.join(","))
        }))
    }
}
