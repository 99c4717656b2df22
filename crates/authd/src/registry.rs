//! Connections of login processes, and the logins that wait to be confirmed by a mail process.

use crate::login::Login;
use protocol::dovecot_auth::Ticket;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all connections.
#[derive(Default)]
pub struct Registry(Mutex<HashMap<u32, Process>>);

struct Process {
    cookie: String,
    logins: HashMap<u32, (Instant, Login)>,
}

/// How long a login may wait for its mail process.
const WAIT: Duration = Duration::from_secs(120);
/// Logins of one login process that may wait.
const WAITING: usize = 10_000;

/// A login process's place; given up when its connection ends.
pub struct Place {
    registry: Arc<Registry>,
    pid: u32,
}

impl Registry {
    /// Enters a login process; `None` if another living connection has this pid.
    #[must_use]
    pub fn enter(self: &Arc<Self>, pid: u32, cookie: &str) -> Option<Place> {
        let mut processes = self.lock();
        if processes.contains_key(&pid) {
            return None;
        }
        let process = Process { cookie: cookie.to_owned(), logins: HashMap::new() };
        processes.insert(pid, process);
        Some(Place { registry: Arc::clone(self), pid })
    }

    /// The login that a ticket names, once.
    #[must_use]
    pub fn take(&self, ticket: &Ticket) -> Option<Login> {
        let mut processes = self.lock();
        let process = processes.get_mut(&ticket.client_pid)?;
        if !crypto::equal(process.cookie.as_bytes(), ticket.cookie.as_bytes()) {
            return None;
        }
        let (since, login) = process.logins.remove(&ticket.auth_id)?;
        (since.elapsed() < WAIT).then_some(login)
    }

    /// Whether a ticket's login waits here.
    #[must_use]
    pub fn knows(&self, ticket: &Ticket) -> bool {
        let processes = self.lock();
        let process = processes.get(&ticket.client_pid);
        process.is_some_and(|process| process.logins.contains_key(&ticket.auth_id))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether a login still waits to be confirmed.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.registry.lock().get(&self.pid).is_some_and(|process| !process.logins.is_empty())
    }

    /// Keeps a login until it is confirmed.
    pub fn keep(&self, id: u32, login: Login) {
        if let Some(process) = self.registry.lock().get_mut(&self.pid) {
            if process.logins.len() >= WAITING {
                process.logins.retain(|_, (since, _)| since.elapsed() < WAIT);
            }
            if process.logins.len() < WAITING {
                process.logins.insert(id, (Instant::now(), login));
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_confirmed_once_and_only_with_its_cookie() {
        let registry = Arc::new(Registry::default());
        let place = registry.enter(7, "c00c1e").unwrap();
        assert!(registry.enter(7, "other").is_none());
        place.keep(1, Login { user: "info".into(), ..Login::default() });
        let ticket =
            |pid, id, cookie: &str| Ticket { client_pid: pid, auth_id: id, cookie: cookie.into() };
        assert!(registry.take(&ticket(7, 1, "wrong1")).is_none());
        assert!(registry.take(&ticket(8, 1, "c00c1e")).is_none());
        assert!(registry.take(&ticket(7, 2, "c00c1e")).is_none());
        assert_eq!(registry.take(&ticket(7, 1, "c00c1e")).unwrap().user, "info");
        assert!(registry.take(&ticket(7, 1, "c00c1e")).is_none());
        drop(place);
        assert!(registry.enter(7, "again").is_some());
    }
}
