//! The active queue: every message in it, and what happens next.
//!
//! One task owns all of it. Files, agents and services are asked by tasks of their own, which come
//! back with an [`Event`]; so nothing here waits, and nothing is decided twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use neighbours::attributes::AttrIoError;
use protocol::postfix::delivery::{DeliveryReply, Remaining};
use protocol::postfix::{Dsn, Recipient};
use queue::{Lock, Queue, QueueFile};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::agent::{self, Agent};
use super::completion::{self, Left, blocking};
use super::context::Context;
use super::intake::batch_size;
use super::jobs::{Entry, MessageKey};
use super::message::{Facts, Rest, next_batch, still_to_do};
use super::route::{Decision, decide};
use super::transport::{Selected, Transport};

/// What other tasks report.
pub enum Event {
    /// A message has come into the active queue.
    Taken {
        facts: Box<Facts>,
        decisions: Vec<Decision>,
        rest: Option<Rest>,
        permit: OwnedSemaphorePermit,
    },
    /// More recipients of a message have been read; nothing if its file cannot be read any more.
    More {
        message: MessageKey,
        batch: Option<(Vec<Decision>, Option<Rest>)>,
    },
    /// An agent has greeted, or cannot be had.
    Agent {
        transport: String,
        agent: Result<Agent, String>,
    },
    Delivered {
        transport: String,
        entry: Entry,
        outcome: Result<DeliveryReply, AttrIoError>,
    },
    /// Recipients that go nowhere now are noted.
    Settled {
        message: MessageKey,
        left: Left,
    },
    /// Try again what is dead.
    Unthrottle,
}

/// A message in the active queue.
struct Active {
    facts: Arc<Facts>,
    /// Entries and notes under way.
    outstanding: usize,
    left: Left,
    rest: Option<Rest>,
    /// Recipients in memory.
    recipients: usize,
    permit: OwnedSemaphorePermit,
}

pub struct Manager {
    context: Arc<Context>,
    messages: HashMap<MessageKey, Active>,
    transports: HashMap<String, Transport>,
    next_key: u64,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    /// Whether new work may begin.
    accepting: bool,
}

impl Manager {
    #[must_use]
    pub fn new(context: Arc<Context>, events: mpsc::Sender<Event>) -> Self {
        Self {
            context,
            messages: HashMap::new(),
            transports: HashMap::new(),
            next_key: 0,
            events,
            tasks: JoinSet::new(),
            accepting: true,
        }
    }

    pub fn stop_accepting(&mut self) {
        self.accepting = false;
    }

    /// Tasks under way: deliveries, notices, reads.
    #[must_use]
    pub fn busy(&mut self) -> usize {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.len()
    }

    pub fn handle(&mut self, event: Event) {
        while self.tasks.try_join_next().is_some() {}
        match event {
            Event::Taken { facts, decisions, rest, permit } => {
                let key = MessageKey(self.next_key);
                self.next_key += 1;
                let active = Active {
                    facts: Arc::from(facts),
                    outstanding: 0,
                    left: Left::Nothing,
                    rest,
                    recipients: 0,
                    permit,
                };
                self.messages.insert(key, active);
                self.assign(key, decisions);
            }
            Event::More { message, batch } => self.more(message, batch),
            Event::Agent { transport, agent } => self.agent(&transport, agent),
            Event::Delivered { transport, entry, outcome } => {
                self.delivered(&transport, entry, outcome);
            }
            Event::Settled { message, left } => {
                self.done(message, left);
            }
            Event::Unthrottle => self.transports.values_mut().for_each(Transport::unthrottle),
        }
    }

    /// Connects to agents for what may go out now. Says when to come back without an event.
    pub fn push(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = None;
        for transport in self.transports.values_mut() {
            let wake = transport.tick(now);
            next = [next, wake].into_iter().flatten().min();
            while self.accepting && transport.wants_agent(now) {
                let (context, events) = (Arc::clone(&self.context), self.events.clone());
                let name = transport.name.clone();
                self.tasks.spawn(async move {
                    let agent = agent::connect(&context, &name).await;
                    let _ = events.send(Event::Agent { transport: name, agent }).await;
                });
            }
        }
        self.transports.retain(|_, transport| !transport.is_idle());
        next
    }

    /// The read of a message's next recipients has ended.
    fn more(&mut self, key: MessageKey, batch: Option<(Vec<Decision>, Option<Rest>)>) {
        let Some(active) = self.messages.get_mut(&key) else { return };
        active.outstanding = active.outstanding.saturating_sub(1);
        match batch {
            Some((decisions, rest)) => {
                active.rest = rest;
                self.assign(key, decisions);
            }
            None => {
                active.left = Left::Something;
                self.advance(key);
            }
        }
    }

    /// Packs recipients into entries, and notes those that have to wait.
    fn assign(&mut self, key: MessageKey, decisions: Vec<Decision>) {
        let now = Instant::now();
        let Some(active) = self.messages.get_mut(&key) else { return };
        active.recipients = decisions.len();
        let mut groups: BTreeMap<(String, String), (String, Vec<Recipient>)> = BTreeMap::new();
        let (mut put_off, mut discarded) = (Vec::new(), Vec::new());
        for decision in decisions {
            match decision {
                Decision::Deliver { recipient, transport, nexthop, queue } => {
                    let group = groups.entry((transport, queue));
                    group.or_insert_with(|| (nexthop, Vec::new())).1.push(recipient);
                }
                Decision::Defer { recipient, dsn } => put_off.push((recipient, dsn)),
                Decision::Discard { recipient } => discarded.push(recipient),
            }
        }
        for ((name, queue), (nexthop, recipients)) in groups {
            let settings = *self.context.settings.transport(&name);
            let transport = self
                .transports
                .entry(name)
                .or_insert_with_key(|name| Transport::new(name, settings));
            if active.facts.unthrottle {
                transport.unthrottle_destination(&queue);
            }
            if let Some(dead) = transport.obstacle(&queue) {
                let dsn = dead.dsn.clone();
                put_off.extend(recipients.into_iter().map(|recipient| (recipient, dsn.clone())));
                continue;
            }
            let most =
                if active.facts.envelope.verp.is_some() { 1 } else { transport.recipients() };
            for recipients in recipients.chunks(most) {
                let recipients = recipients.to_vec();
                let entry = Entry { message: key, destination: queue.clone(), recipients };
                transport.add(entry, &nexthop, now);
                active.outstanding += 1;
            }
        }
        if !put_off.is_empty() || !discarded.is_empty() {
            active.outstanding += 1;
            self.settle(key, put_off, discarded);
        }
        self.advance(key);
    }

    fn agent(&mut self, name: &str, agent: Result<Agent, String>) {
        let Some(transport) = self.transports.get_mut(name) else { return };
        let now = Instant::now();
        match agent {
            Ok(agent) => {
                let Some(selected) = transport.select(now) else { return };
                let Selected { entry, nexthop, reuse } = selected;
                let Some(active) = self.messages.get(&entry.message) else { return };
                let request = agent::request(&active.facts, &entry, &nexthop, reuse);
                let (context, events) = (Arc::clone(&self.context), self.events.clone());
                let transport = name.to_owned();
                self.tasks.spawn(async move {
                    let outcome = agent::deliver(&context, agent, &request).await;
                    let _ = events.send(Event::Delivered { transport, entry, outcome }).await;
                });
            }
            Err(why) => {
                self.context.log.warning(&why);
                let dsn = Dsn::local("4.3.0", "delayed", "mail transport unavailable");
                let retry = self.context.settings.times.transport_retry;
                let waiting = transport.failed(dsn.clone(), now, retry);
                self.put_off(waiting, &dsn);
            }
        }
    }

    fn delivered(&mut self, name: &str, entry: Entry, outcome: Result<DeliveryReply, AttrIoError>) {
        let Some(transport) = self.transports.get_mut(name) else { return };
        let (now, retry) = (Instant::now(), self.context.settings.times.minimal_backoff);
        match outcome {
            Ok(DeliveryReply { destination, status }) => {
                if destination.status.is_empty() && destination.reason.is_empty() {
                    transport.succeeded(&entry.destination, now);
                } else {
                    let dsn = suspended(destination);
                    let waiting =
                        transport.destination_failed(&entry.destination, dsn.clone(), now, retry);
                    self.put_off(waiting, &dsn);
                }
                let left = match status {
                    Remaining::Nothing => Left::Nothing,
                    Remaining::Something => Left::Something,
                };
                self.done(entry.message, left);
            }
            Err(error) => {
                transport.ended(&entry.destination, now);
                self.context.log.warning(&format!(
                    "transport {name} failure -- see a previous warning/fatal/panic logfile \
                     record for the problem description ({error})"
                ));
                let dsn = Dsn::local("4.3.0", "delayed", "unknown mail transport error");
                self.put_off(vec![entry], &dsn);
            }
        }
    }

    /// Notes for every recipient of these entries that it has to wait.
    fn put_off(&mut self, entries: Vec<Entry>, dsn: &Dsn) {
        for entry in entries {
            let recipients = entry.recipients.into_iter();
            let put_off = recipients.map(|recipient| (recipient, dsn.clone())).collect();
            self.settle(entry.message, put_off, Vec::new());
        }
    }

    /// One outstanding thing of the message: notes that must be on disk before it moves on.
    fn settle(
        &mut self,
        key: MessageKey,
        put_off: Vec<(Recipient, Dsn)>,
        discarded: Vec<Recipient>,
    ) {
        let Some(active) = self.messages.get(&key) else { return };
        let (context, events) = (Arc::clone(&self.context), self.events.clone());
        let facts = Arc::clone(&active.facts);
        self.tasks.spawn(async move {
            let left = settled(&context, &facts, put_off, discarded).await;
            let _ = events.send(Event::Settled { message: key, left }).await;
        });
    }

    fn done(&mut self, key: MessageKey, left: Left) {
        let Some(active) = self.messages.get_mut(&key) else { return };
        active.outstanding = active.outstanding.saturating_sub(1);
        if left == Left::Something {
            active.left = Left::Something;
        }
        self.advance(key);
    }

    /// Goes on with a message that has nothing under way: its next recipients, or its end.
    fn advance(&mut self, key: MessageKey) {
        let Some(active) = self.messages.get_mut(&key).filter(|active| active.outstanding == 0)
        else {
            return;
        };
        self.context.recipients.fetch_sub(active.recipients, Ordering::Relaxed);
        active.recipients = 0;
        if let Some(rest) = active.rest.take() {
            active.outstanding += 1;
            let facts = Arc::clone(&active.facts);
            self.read_more(key, facts, rest);
            return;
        }
        let Some(Active { facts, left, permit, .. }) = self.messages.remove(&key) else { return };
        let context = Arc::clone(&self.context);
        self.tasks.spawn(async move {
            completion::finish(&context, &facts, left).await;
            drop(permit);
        });
    }

    fn read_more(&mut self, key: MessageKey, facts: Arc<Facts>, rest: Rest) {
        let (context, events) = (Arc::clone(&self.context), self.events.clone());
        self.tasks.spawn(async move {
            let (shared, known) = (Arc::clone(&context), Arc::clone(&facts));
            let most = batch_size(&context);
            let read = blocking(move || Ok(next_batch(&shared.queue, &known, rest, most))).await;
            let batch = match read {
                Ok(Ok(batch)) => {
                    context.recipients.fetch_add(batch.recipients.len(), Ordering::Relaxed);
                    Some((decide(&context, &facts, batch.recipients).await, batch.rest))
                }
                Ok(Err(error)) => {
                    context.log.warning(&format!("{}: message rejected: {error}", facts.id));
                    None
                }
                Err(error) => {
                    context.log.warning(&format!("{}: {error}", facts.id));
                    None
                }
            };
            let _ = events.send(Event::More { message: key, batch }).await;
        });
    }
}

/// The reason with which other mail for a failing destination waits.
fn suspended(dsn: Dsn) -> Dsn {
    let reason = format!("delivery temporarily suspended: {}", dsn.reason);
    Dsn { reason, ..dsn }
}

async fn settled(
    context: &Arc<Context>,
    facts: &Arc<Facts>,
    put_off: Vec<(Recipient, Dsn)>,
    discarded: Vec<Recipient>,
) -> Left {
    let mut left = Left::Nothing;
    let reason = put_off.first().map(|(_, dsn)| dsn.clone());
    let (shared, known) = (Arc::clone(context), Arc::clone(facts));
    let (recipients, reasons): (Vec<_>, Vec<_>) = put_off.into_iter().unzip();
    let same = reasons.windows(2).all(|pair| pair.first() == pair.get(1));
    let waiting = if same && reason.is_some() {
        let read = blocking(move || Ok(still_to_do(&shared.queue, &known.id, recipients))).await;
        let dsn = reason.unwrap_or_default();
        read.unwrap_or_default().into_iter().map(|recipient| (recipient, dsn.clone())).collect()
    } else {
        recipients.into_iter().zip(reasons).collect::<Vec<_>>()
    };
    let logged = match facts.force_expire {
        true => context.queue.read_log(queue::LogKind::Defer, &facts.id).unwrap_or_default(),
        false => Vec::new(),
    };
    for (recipient, dsn) in waiting {
        left = Left::Something;
        if logged.iter().all(|entry| entry.recipient.offset != recipient.offset) {
            let trace = facts.trace_flags();
            context.defer(&facts.id, &facts.stats(), trace, &recipient, &dsn).await;
        }
    }
    for recipient in discarded {
        if discard(context, facts, &recipient).await.is_err() {
            left = Left::Something;
        }
    }
    left
}

/// Marks mail to the double-bounce address as done.
async fn discard(
    context: &Arc<Context>,
    facts: &Arc<Facts>,
    recipient: &Recipient,
) -> std::io::Result<()> {
    let text = "undeliverable postmaster notification discarded";
    let dsn = Dsn::local("2.0.0", "relayed", text);
    let now = context.clock.timestamp();
    context.log.recipient(&facts.id, recipient, &facts.stats(), now, "none", "sent", &dsn);
    let Some(offset) = u64::try_from(recipient.offset).ok().filter(|&offset| offset > 0) else {
        return Ok(());
    };
    let (shared, id) = (Arc::clone(context), facts.id.clone());
    blocking(move || {
        let file = QueueFile::open(&shared.queue, Queue::Active, &id, Lock::Shared)?;
        file.mark_done(offset).map_err(|error| std::io::Error::other(error.to_string()))
    })
    .await
}
