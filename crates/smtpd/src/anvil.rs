//! How much each client asks of us: what Postfix's anvil counts, inside the one process that serves clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses worth remembering; beyond it, those without a connection are forgotten first.
const MOST: usize = 100_000;

/// Counts for all services of this worker. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Anvil(Arc<Mutex<HashMap<Key, Counts>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    service: String,
    client: IpAddr,
}

/// What is counted over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Connection,
    Message,
    Recipient,
    NewTls,
    Auth,
}

#[derive(Clone, Debug)]
struct Counts {
    start: Instant,
    connections: u32,
    events: [u32; 5],
}

/// One connection that is counted until it is dropped.
#[derive(Debug)]
pub struct Counted {
    anvil: Anvil,
    key: Key,
    window: Duration,
    /// Connections of this client now, and in the window.
    pub concurrent: u32,
    pub rate: u32,
}

impl Anvil {
    /// Counts a new connection of `client` to `service`.
    #[must_use]
    pub fn connect(
        &self,
        service: &str,
        client: IpAddr,
        window: Duration,
        now: Instant,
    ) -> Counted {
        let key = Key { service: service.to_owned(), client };
        let (concurrent, rate) = {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if counts.len() >= MOST {
                counts.retain(|_, count| {
                    count.connections > 0 || now.duration_since(count.start) <= window
                });
            }
            let count = counts.entry(key.clone()).or_insert_with(|| Counts::new(now));
            count.connections += 1;
            (count.connections, count.add(Event::Connection, window, now))
        };
        Counted { anvil: self.clone(), key, window, concurrent, rate }
    }
}

impl Counted {
    /// Counts an event and says how many there were in the window.
    pub fn count(&self, event: Event, now: Instant) -> u32 {
        let mut counts = self.anvil.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(self.key.clone()).or_insert_with(|| Counts::new(now));
        count.add(event, self.window, now)
    }

    /// How many there were in the window, without counting one more.
    #[must_use]
    pub fn seen(&self, event: Event, now: Instant) -> u32 {
        let counts = self.anvil.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&self.key).map_or(0, |count| {
            if now.duration_since(count.start) > self.window {
                0
            } else {
                count.events[event as usize]
            }
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.anvil.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            count.connections = count.connections.saturating_sub(1);
        }
    }
}

impl Counts {
    fn new(now: Instant) -> Self {
        Self { start: now, connections: 0, events: [0; 5] }
    }

    fn add(&mut self, event: Event, window: Duration, now: Instant) -> u32 {
        if now.duration_since(self.start) > window {
            self.start = now;
            self.events = [0; 5];
        }
        let counter = &mut self.events[event as usize];
        *counter = counter.saturating_add(1);
        *counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_begin_anew_after_the_window_and_connections_end() {
        let (anvil, now) = (Anvil::default(), Instant::now());
        let client = IpAddr::from([192, 0, 2, 1]);
        let window = Duration::from_secs(60);
        let first = anvil.connect("smtp", client, window, now);
        let second = anvil.connect("smtp", client, window, now);
        assert_eq!((second.concurrent, second.rate), (2, 2));
        assert_eq!(anvil.connect("submission", client, window, now).rate, 1);
        assert_eq!(first.count(Event::Message, now), 1);
        assert_eq!(second.count(Event::Message, now), 2);
        drop(first);
        let later = now + Duration::from_secs(61);
        assert_eq!(second.seen(Event::Message, later), 0);
        let third = anvil.connect("smtp", client, window, later);
        assert_eq!((third.concurrent, third.rate), (2, 1));
    }
}
