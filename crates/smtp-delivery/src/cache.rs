//! Connections that wait a moment for the next message to the same place.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::session::Server;

/// More than this never wait at a time.
const MOST: usize = 200;

/// Where a connection may serve again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The next hop as requested, for the first good server of a delivery.
    pub nexthop: Option<String>,
    /// Whose credentials it uses, where they depend on the sender.
    pub sender: Option<String>,
}

struct Waiting {
    place: Place,
    until: Instant,
    connection: Connection,
}

/// The waiting connections of one service.
#[derive(Default)]
pub struct Cache(Mutex<Vec<Waiting>>);

impl Cache {
    /// Keeps a connection for `idle`.
    pub fn keep(&self, connection: Connection, place: Place, idle: Duration) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            waiting.push(Waiting { place, until: Instant::now() + idle, connection });
        }
    }

    /// One that has served this next hop.
    pub fn by_nexthop(&self, nexthop: &str, sender: Option<&str>) -> Option<Connection> {
        self.take(|one| {
            one.place.nexthop.as_deref() == Some(nexthop) && one.place.sender.as_deref() == sender
        })
    }

    /// One to this very server, without a login.
    pub fn by_server(&self, server: &Server) -> Option<Connection> {
        self.take(|one| {
            let known = &one.connection;
            known.server == *server && !known.authenticated && known.shown.is_none()
        })
    }

    fn take(&self, fits: impl Fn(&Waiting) -> bool) -> Option<Connection> {
        let now = Instant::now();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|one| one.until > now && fits(one))?;
        Some(waiting.swap_remove(at).connection)
    }

    /// Those whose time is over; they get a QUIT.
    pub fn expired(&self) -> Vec<Connection> {
        let now = Instant::now();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut expired = Vec::new();
        while let Some(at) = waiting.iter().position(|one| one.until <= now) {
            expired.push(waiting.swap_remove(at).connection);
        }
        expired
    }
}
