//! Which message's recipients go next over one transport.
//!
//! Messages are served in the order of their arrival, and within a message every destination in turn.
//! A small message may overtake a large one, in exchange for the delivery slots that the large one
//! has earned (Postfix's preemptive scheduler): a mailing list does not hold up a letter.

use std::collections::VecDeque;

use protocol::postfix::Recipient;
use tokio::time::Instant;

use super::settings::Slots;

/// Which active message; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey(pub u64);

/// Recipients of one message that one agent gets in one request.
#[derive(Clone, Debug)]
pub struct Entry {
    pub message: MessageKey,
    /// Names the queue of the destination within the transport.
    pub destination: String,
    pub recipients: Vec<Recipient>,
}

/// What is left of one message for one transport.
#[derive(Debug)]
struct Job {
    message: MessageKey,
    since: Instant,
    peers: VecDeque<Peer>,
    /// Entries waiting, and all that there ever were.
    waiting: usize,
    total: usize,
    /// One credit for each entry that went out, less what overtaking messages have cost.
    credits: usize,
    /// It was overtaken, and by whom it overtook: neither may happen to it again in turn.
    overtaken: bool,
    overtaker: bool,
}

#[derive(Debug)]
struct Peer {
    destination: String,
    entries: VecDeque<Entry>,
}

/// All jobs of a transport, in the order in which they are served.
#[derive(Debug, Default)]
pub struct Jobs(Vec<Job>);

impl Jobs {
    /// Adds entries of a message.
    pub fn add(&mut self, entry: Entry, now: Instant) {
        let known = self.0.iter().rposition(|job| job.message == entry.message);
        let at = known.unwrap_or_else(|| {
            self.0.push(Job {
                message: entry.message,
                since: now,
                peers: VecDeque::new(),
                waiting: 0,
                total: 0,
                credits: 0,
                overtaken: false,
                overtaker: false,
            });
            self.0.len() - 1
        });
        let Some(job) = self.0.get_mut(at) else { return };
        job.waiting += 1;
        job.total += 1;
        match job.peers.iter_mut().find(|peer| peer.destination == entry.destination) {
            Some(peer) => peer.entries.push_back(entry),
            None => job.peers.push_back(Peer {
                destination: entry.destination.clone(),
                entries: VecDeque::from([entry]),
            }),
        }
    }

    /// Takes the next entry whose destination is `ready`.
    pub fn select(
        &mut self,
        slots: &Slots,
        now: Instant,
        ready: impl Fn(&str) -> bool,
    ) -> Option<Entry> {
        let mut at = self.0.iter().position(|job| job.has_ready(&ready))?;
        if let Some(better) = self.overtaker_of(at, slots, now, &ready) {
            let job = self.0.remove(better);
            self.0.insert(at, job);
            if let Some(slow) = self.0.get_mut(at + 1) {
                slow.overtaken = true;
            }
            if let Some(fast) = self.0.get_mut(at) {
                fast.overtaker = true;
            }
        }
        at = self.0.iter().position(|job| job.has_ready(&ready))?;
        let job = self.0.get_mut(at)?;
        let entry = job.take_ready(&ready)?;
        if job.waiting == 0 {
            self.0.remove(at);
        }
        Some(entry)
    }

    /// Takes every waiting entry of a destination: it is dead.
    pub fn take_destination(&mut self, destination: &str) -> Vec<Entry> {
        let mut taken = Vec::new();
        for job in &mut self.0 {
            job.peers.retain_mut(|peer| {
                if peer.destination != destination {
                    return true;
                }
                job.waiting = job.waiting.saturating_sub(peer.entries.len());
                taken.extend(peer.entries.drain(..));
                false
            });
        }
        self.0.retain(|job| job.waiting > 0);
        taken
    }

    /// Takes every waiting entry: the transport is dead.
    pub fn take_all(&mut self) -> Vec<Entry> {
        let jobs = std::mem::take(&mut self.0);
        jobs.into_iter().flat_map(|job| job.peers).flat_map(|peer| peer.entries).collect()
    }

    /// The later job that may overtake the one at `current`, if there is any. It costs that one's credits.
    fn overtaker_of(
        &mut self,
        current: usize,
        slots: &Slots,
        now: Instant,
        ready: &impl Fn(&str) -> bool,
    ) -> Option<usize> {
        let slow = self.0.get(current)?;
        if slots.cost < 2 || slow.credits == 0 || slow.total < slots.minimum * slots.cost {
            return None;
        }
        let most = (slow.waiting + slow.credits) / slots.cost;
        let earned = slow.credits / slots.cost + slots.loan;
        let affordable = |entries: usize| {
            entries <= most && earned * 100 >= entries * (100 - slots.discount.min(100))
        };
        let (mut best, mut best_score) = (None, 0.0_f64);
        for (at, job) in self.0.iter().enumerate().skip(current + 1) {
            if job.overtaken || job.overtaker || !affordable(job.waiting) || !job.has_ready(ready) {
                continue;
            }
            let waited = now.saturating_duration_since(job.since).as_secs_f64() + 1.0;
            let entries = u32::try_from(job.total).unwrap_or(u32::MAX);
            let score = waited / f64::from(entries.max(1));
            if score > best_score {
                (best, best_score) = (Some((at, job.waiting)), score);
            }
        }
        let (at, entries) = best?;
        let slow = self.0.get_mut(current)?;
        slow.credits = slow.credits.saturating_sub(entries * slots.cost);
        Some(at)
    }
}

impl Job {
    fn has_ready(&self, ready: &impl Fn(&str) -> bool) -> bool {
        self.peers.iter().any(|peer| ready(&peer.destination))
    }

    /// The next entry of the first ready peer, which then goes to the end of the round.
    fn take_ready(&mut self, ready: &impl Fn(&str) -> bool) -> Option<Entry> {
        let at = self.peers.iter().position(|peer| ready(&peer.destination))?;
        let mut peer = self.peers.remove(at)?;
        let entry = peer.entries.pop_front();
        if !peer.entries.is_empty() {
            self.peers.push_back(peer);
        }
        self.waiting = self.waiting.saturating_sub(1);
        self.credits += 1;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Jobs, MessageKey};
    use crate::scheduler::settings::Slots;
    use tokio::time::Instant;

    const SLOTS: Slots = Slots { cost: 5, loan: 3, discount: 50, minimum: 3 };

    fn entry(message: u64, destination: &str) -> Entry {
        Entry {
            message: MessageKey(message),
            destination: destination.to_owned(),
            recipients: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_go_in_order_and_destinations_in_turn() {
        let mut jobs = Jobs::default();
        for (message, destination) in [(1, "a"), (1, "a"), (1, "b"), (2, "a"), (2, "c")] {
            jobs.add(entry(message, destination), Instant::now());
        }
        let mut order = Vec::new();
        while let Some(next) = jobs.select(&SLOTS, Instant::now(), |name| name != "b") {
            order.push((next.message.0, next.destination));
        }
        let expected = [(1, "a"), (1, "a"), (2, "a"), (2, "c")];
        assert_eq!(order, expected.map(|(message, name)| (message, name.to_owned())));
        assert_eq!(jobs.take_destination("b").len(), 1);
        assert!(jobs.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_overtakes_a_mailing_list() {
        let mut jobs = Jobs::default();
        for n in 0..100 {
            jobs.add(entry(1, &format!("d{n}")), Instant::now());
        }
        jobs.add(entry(2, "letter"), Instant::now());
        let mut before = 0;
        while let Some(next) = jobs.select(&SLOTS, Instant::now(), |_| true) {
            if next.message.0 == 2 {
                break;
            }
            before += 1;
        }
        assert!(before < 20, "{before}");
        let never = Slots { cost: 0, ..SLOTS };
        jobs.add(entry(3, "letter"), Instant::now());
        assert_eq!(jobs.select(&never, Instant::now(), |_| true).unwrap().message.0, 1);
        assert!(jobs.take_all().len() > 80);
    }
}
