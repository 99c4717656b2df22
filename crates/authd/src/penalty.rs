//! Addresses that guess passwords wait longer and longer before each attempt.
//!
//! As Dovecot's anvil does it: 4, 8, 15, 15 seconds after one, two, three and more failures, also
//! before the right password; a success forgets, and so does time. The same wrong password again does
//! not count: that is a mail reader with an old password, not a guess.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All addresses. Requests without an address share a place.
#[derive(Default)]
pub struct Penalties(Mutex<HashMap<Option<IpAddr>, Penalty>>);

struct Penalty {
    failures: u32,
    since: Instant,
    /// What was tried.
    tried: Vec<u64>,
}

const MAX_FAILURES: u32 = 4;
const LONGEST: Duration = Duration::from_secs(15);
const FORGOTTEN: Duration = Duration::from_secs(29);
const ADDRESSES: usize = 100_000;
const TRIED: usize = 16;

impl Penalties {
    /// How long an attempt from this address has to wait.
    #[must_use]
    pub fn wait(&self, address: Option<IpAddr>) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&key(address)) {
            Some(penalty) if penalty.since.elapsed() < FORGOTTEN => delay(penalty.failures),
            _ => Duration::ZERO,
        }
    }

    /// Counts a failure with this name and password.
    pub fn failed(&self, address: Option<IpAddr>, user: &str, password: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (user, password).hash(&mut hasher);
        let attempt = hasher.finish();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES {
            known.retain(|_, penalty| penalty.since.elapsed() < FORGOTTEN);
            if known.len() >= ADDRESSES {
                return;
            }
        }
        let fresh = || Penalty { failures: 0, since: Instant::now(), tried: Vec::new() };
        let penalty = known.entry(key(address)).or_insert_with(fresh);
        if penalty.since.elapsed() >= FORGOTTEN {
            *penalty = fresh();
        }
        if !penalty.tried.contains(&attempt) {
            penalty.failures = (penalty.failures + 1).min(MAX_FAILURES);
            penalty.tried.truncate(TRIED - 1);
            penalty.tried.insert(0, attempt);
        }
        penalty.since = Instant::now();
    }

    /// Forgets the failures of an address from which somebody has logged in.
    pub fn succeeded(&self, address: Option<IpAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(address));
    }
}

/// An IPv6 network of 48 bits counts as one address.
fn key(address: Option<IpAddr>) -> Option<IpAddr> {
    address.map(|address| match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 80 << 80).into()),
        four => four,
    })
}

fn delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_secs(2 << n).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_cost_more_and_more_time() {
        let penalties = Penalties::default();
        let address = "2001:db8:1::1".parse().ok();
        let neighbour = "2001:db8:1:9::2".parse().ok();
        let mut waits = Vec::new();
        for password in ["a", "b", "b", "c", "d", "e"] {
            waits.push(penalties.wait(address).as_secs());
            penalties.failed(neighbour, "info", password.as_bytes());
        }
        assert_eq!(waits, [0, 4, 8, 8, 15, 15]);
        assert_eq!(penalties.wait("192.0.2.1".parse().ok()), Duration::ZERO);
        penalties.succeeded(address);
        assert_eq!(penalties.wait(neighbour), Duration::ZERO);
    }
}
