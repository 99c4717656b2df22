//! A transport and its destinations: who may be asked to deliver now, and how often.

use std::collections::HashMap;
use std::time::Duration;

use protocol::postfix::Dsn;
use protocol::postfix::delivery::flags;
use tokio::time::Instant;

use super::jobs::{Entry, Jobs};
use super::settings::TransportSettings;
use super::window::Window;

/// Connections to agents that wait for a greeting, for each transport.
const PENDING: usize = 2;
/// A delivery that begins this soon after another may use its connection.
const BACK_TO_BACK: Duration = Duration::from_secs(1);

/// Why nothing goes to a destination or over a transport now.
#[derive(Clone, Debug, PartialEq)]
pub struct Dead {
    pub dsn: Dsn,
    pub until: Instant,
}

/// One destination of a transport (a queue of Postfix's queue manager).
#[derive(Debug)]
struct Destination {
    nexthop: String,
    window: Window,
    busy: u32,
    waiting: usize,
    dead: Option<Dead>,
    /// After a delivery, until the rate delay has passed.
    resting: Option<Instant>,
    last_done: Option<Instant>,
    reuse: u32,
}

/// One transport of master.cf.
#[derive(Debug)]
pub struct Transport {
    pub name: String,
    settings: TransportSettings,
    destinations: HashMap<String, Destination>,
    jobs: Jobs,
    connecting: usize,
    dead: Option<Dead>,
    /// When the transport's own rate delay lets the next delivery begin.
    resting: Option<Instant>,
}

/// An entry that goes out, with what its request needs.
#[derive(Debug)]
pub struct Selected {
    pub entry: Entry,
    pub nexthop: String,
    /// Connection cache bits of the request.
    pub reuse: u32,
}

impl Transport {
    #[must_use]
    pub fn new(name: &str, settings: TransportSettings) -> Self {
        Self {
            name: name.to_owned(),
            settings,
            destinations: HashMap::new(),
            jobs: Jobs::default(),
            connecting: 0,
            dead: None,
            resting: None,
        }
    }

    /// Most recipients of one request.
    #[must_use]
    pub fn recipients(&self) -> usize {
        if self.settings.recipients == 0 { usize::MAX } else { self.settings.recipients }
    }

    /// Why mail for this destination has to wait, if it has to.
    #[must_use]
    pub fn obstacle(&self, destination: &str) -> Option<&Dead> {
        let dead = self.destinations.get(destination).and_then(|known| known.dead.as_ref());
        self.dead.as_ref().or(dead)
    }

    /// Queues an entry.
    pub fn add(&mut self, entry: Entry, nexthop: &str, now: Instant) {
        let window = Window::new(&self.settings.window);
        let destination =
            self.destinations.entry(entry.destination.clone()).or_insert_with(|| Destination {
                nexthop: nexthop.to_owned(),
                window,
                busy: 0,
                waiting: 0,
                dead: None,
                resting: None,
                last_done: None,
                reuse: 0,
            });
        destination.waiting += 1;
        self.jobs.add(entry, now);
    }

    /// Whether to connect to one more agent now. The caller does, and reports how it went.
    pub fn wants_agent(&mut self, now: Instant) -> bool {
        let ready = self.destinations.values().map(|known| known.room(now)).sum::<usize>();
        let wanted = self.dead.is_none()
            && self.connecting < PENDING
            && self.connecting < ready
            && self.resting.is_none_or(|until| until <= now);
        if wanted {
            self.connecting += 1;
            if self.settings.transport_rate_delay > Duration::ZERO {
                self.resting = Some(now + self.settings.transport_rate_delay);
            }
        }
        wanted
    }

    /// An agent has greeted: what it shall deliver. Nothing when all has been taken meanwhile.
    pub fn select(&mut self, now: Instant) -> Option<Selected> {
        self.connecting = self.connecting.saturating_sub(1);
        if self.dead.is_some() {
            return None;
        }
        let destinations = &self.destinations;
        let ready = |name: &str| destinations.get(name).is_some_and(|known| known.room(now) > 0);
        let entry = self.jobs.select(&self.settings.slots, now, ready)?;
        let destination = self.destinations.get_mut(&entry.destination)?;
        destination.waiting = destination.waiting.saturating_sub(1);
        destination.busy += 1;
        let reuse = destination.reuse_flags(now);
        Some(Selected { nexthop: destination.nexthop.clone(), entry, reuse })
    }

    /// No agent could be had: everything waits for `retry`.
    pub fn failed(&mut self, dsn: Dsn, now: Instant, retry: Duration) -> Vec<Entry> {
        self.connecting = self.connecting.saturating_sub(1);
        self.dead = Some(Dead { dsn, until: now + retry });
        let entries = self.jobs.take_all();
        for entry in &entries {
            if let Some(known) = self.destinations.get_mut(&entry.destination) {
                known.waiting = known.waiting.saturating_sub(1);
            }
        }
        entries
    }

    /// A delivery ended and the destination is well.
    pub fn succeeded(&mut self, destination: &str, now: Instant) {
        let limits = &self.settings.window;
        if let Some(known) = self.destinations.get_mut(destination) {
            match known.dead.take() {
                Some(_) => known.window.revive(limits, known.busy),
                None => known.window.success(limits, known.busy),
            }
        }
        self.ended(destination, now);
    }

    /// A delivery failed because of the destination. Gives the entries that have to wait, if it is dead now.
    pub fn destination_failed(
        &mut self,
        destination: &str,
        dsn: Dsn,
        now: Instant,
        retry: Duration,
    ) -> Vec<Entry> {
        let limits = &self.settings.window;
        let mut entries = Vec::new();
        if let Some(known) = self.destinations.get_mut(destination) {
            known.window.failure(limits);
            if known.window.size() == 0 {
                known.dead = Some(Dead { dsn, until: now + retry });
                known.waiting = 0;
                entries = self.jobs.take_destination(destination);
            }
        }
        self.ended(destination, now);
        entries
    }

    /// A delivery ended without saying anything of the destination.
    pub fn ended(&mut self, destination: &str, now: Instant) {
        let rate_delay = self.settings.destination_rate_delay;
        if let Some(known) = self.destinations.get_mut(destination) {
            known.busy = known.busy.saturating_sub(1);
            known.last_done = Some(now);
            if rate_delay > Duration::ZERO {
                known.resting = Some(now + rate_delay);
            }
        }
    }

    /// Forgets that anything is dead.
    pub fn unthrottle(&mut self) {
        self.dead = None;
        let names: Vec<String> = self.destinations.keys().cloned().collect();
        names.iter().for_each(|name| self.unthrottle_destination(name));
    }

    /// Forgets that the transport and this destination are dead.
    pub fn unthrottle_destination(&mut self, destination: &str) {
        self.dead = None;
        if let Some(known) = self.destinations.get_mut(destination)
            && known.dead.take().is_some()
        {
            known.window.revive(&self.settings.window, known.busy);
        }
    }

    /// Lets what has been dead long enough be tried again, drops idle destinations, and says when
    /// to look again.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        if self.dead.as_ref().is_some_and(|dead| dead.until <= now) {
            self.dead = None;
        }
        self.resting = self.resting.filter(|&until| until > now);
        let limits = &self.settings.window;
        for known in self.destinations.values_mut() {
            if known.dead.as_ref().is_some_and(|dead| dead.until <= now) {
                known.dead = None;
                known.window.revive(limits, known.busy);
            }
            known.resting = known.resting.filter(|&until| until > now);
        }
        self.destinations.retain(|_, known| known.matters(now));
        let waits = self
            .destinations
            .values()
            .flat_map(|known| [known.dead.as_ref().map(|dead| dead.until), known.resting]);
        let own = [self.dead.as_ref().map(|dead| dead.until), self.resting];
        waits.chain(own).flatten().min()
    }

    /// Nothing is waiting, running or remembered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.connecting == 0
            && self.dead.is_none()
            && self.resting.is_none()
            && self.destinations.is_empty()
    }
}

impl Destination {
    /// How many more entries may go out now.
    fn room(&self, now: Instant) -> usize {
        if self.dead.is_some() || self.resting.is_some_and(|until| until > now) {
            return 0;
        }
        let free = self.window.size().saturating_sub(self.busy);
        usize::try_from(free).unwrap_or(usize::MAX).min(self.waiting)
    }

    /// Postfix's rule for when an agent may keep its connection for the next delivery.
    fn reuse_flags(&mut self, now: Instant) -> u32 {
        let back_to_back = self.last_done.is_some_and(|done| now <= done + BACK_TO_BACK);
        if self.reuse & flags::CONN_STORE == 0 {
            if back_to_back {
                self.reuse |= flags::CONN_STORE | flags::CONN_LOAD;
            }
        } else if self.busy <= 1 && !back_to_back {
            self.reuse &= !flags::CONN_STORE;
        }
        self.reuse
    }

    fn matters(&self, now: Instant) -> bool {
        self.busy > 0
            || self.waiting > 0
            || self.dead.is_some()
            || self.resting.is_some()
            || self.last_done.is_some_and(|done| now <= done + BACK_TO_BACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::jobs::MessageKey;
    use crate::scheduler::settings::tests::settings;

    fn entry(message: u64, destination: &str) -> Entry {
        let destination = destination.to_owned();
        Entry { message: MessageKey(message), destination, recipients: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_gets_no_more_than_its_window() {
        let settings = settings("smtp_destination_concurrency_limit = 2\n");
        let mut transport = Transport::new("smtp", *settings.transport("smtp"));
        let now = Instant::now();
        for message in 0..10 {
            transport.add(entry(message, "a"), "a", now);
        }
        let mut out = 0;
        while transport.wants_agent(now) {
            out += usize::from(transport.select(now).is_some());
        }
        assert_eq!(out, 2);
        transport.succeeded("a", now);
        assert!(transport.wants_agent(now) && transport.select(now).is_some());
        assert!(!transport.wants_agent(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_destination_rests_and_is_tried_again() {
        let settings = settings("");
        let mut transport = Transport::new("smtp", *settings.transport("smtp"));
        let now = Instant::now();
        let retry = Duration::from_secs(300);
        let dsn = Dsn::local("4.4.1", "delayed", "connect to a: refused");
        for message in 0..9 {
            transport.add(entry(message, "a"), "a", now);
        }
        let mut back = Vec::new();
        while transport.wants_agent(now) && back.is_empty() {
            transport.select(now).unwrap();
            back = transport.destination_failed("a", dsn.clone(), now, retry);
        }
        assert!(!back.is_empty());
        assert_eq!(transport.obstacle("a").unwrap().dsn, dsn);
        assert_eq!(transport.obstacle("b"), None);
        assert_eq!(transport.tick(now), Some(now + retry));
        transport.tick(now + retry);
        assert_eq!(transport.obstacle("a"), None);
        transport.tick(now + retry * 2);
        assert!(transport.is_idle(), "{transport:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_delay_leaves_time_between_deliveries() {
        let settings =
            settings("smtp_destination_rate_delay = 10s\nlocal_transport_rate_delay = 5s\n");
        let mut now = Instant::now();
        let mut transport = Transport::new("smtp", *settings.transport("smtp"));
        transport.add(entry(1, "a"), "a", now);
        transport.add(entry(2, "a"), "a", now);
        assert!(transport.wants_agent(now) && transport.select(now).is_some());
        transport.succeeded("a", now);
        assert!(!transport.wants_agent(now));
        now = transport.tick(now).unwrap();
        transport.tick(now);
        assert!(transport.wants_agent(now));

        let mut transport = Transport::new("local", *settings.transport("local"));
        transport.add(entry(1, "a"), "a", now);
        transport.add(entry(2, "b"), "b", now);
        assert!(transport.wants_agent(now));
        assert!(!transport.wants_agent(now));
        assert!(transport.wants_agent(now + Duration::from_secs(5)));
    }
}
