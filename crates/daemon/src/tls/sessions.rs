//! TLS sessions that a client may resume: what a full handshake leaves behind, kept for the next connection to the same
//! server under the same policy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::client::Witness;
use super::identity::ClientKeys;

/// More servers are not remembered.
const MOST: usize = 2000;

/// The sessions of one service.
pub struct Sessions {
    lasting: Duration,
    kept: Mutex<HashMap<String, Kept>>,
}

/// The state of one server: whoever uses it has it alone until its handshake is over, since the witness sees one
/// handshake at a time. It is kept only where the server proved that it has its certificate's key.
pub(super) struct Kept {
    pub config: Arc<ClientConfig>,
    pub witness: Arc<Witness>,
    /// What we showed. A session goes with its certificate.
    pub keys: Option<Arc<ClientKeys>>,
    pub since: Instant,
}

impl Sessions {
    /// Sessions older than `lasting` are not resumed.
    #[must_use]
    pub fn new(lasting: Duration) -> Self {
        Self { lasting, kept: Mutex::default() }
    }

    pub(super) fn take(&self, key: &str, keys: Option<&Arc<ClientKeys>>) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(key)?;
        let same = match (&kept.keys, keys) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        (same && kept.since.elapsed() < self.lasting).then_some(kept)
    }

    pub(super) fn keep(&self, key: &str, session: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, session| session.since.elapsed() < self.lasting);
        }
        if kept.len() < MOST {
            kept.insert(key.to_owned(), session);
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Sessions")
    }
}
