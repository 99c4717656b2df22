//! From the incoming and deferred queues into the active one, in turn, as far as there is room.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use mail_types::QueueId;
use protocol::postfix::trigger::QmgrTrigger;
use queue::{Queue, Scan};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::completion::blocking;
use super::context::Context;
use super::log::external;
use super::manager::Event;
use super::message::{Taken, take};
use super::route::decide;

/// Names that a scan reads ahead.
const AHEAD: usize = 256;
/// Recipients of one message that are read at a time, at most.
const BATCH: usize = 5000;
/// After trouble with the queue directory itself.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(10);

/// Triggers that have come and are not yet obeyed.
#[derive(Debug, Default)]
pub struct Triggers {
    waiting: Mutex<QmgrTrigger>,
    arrived: Notify,
}

impl Triggers {
    pub fn add(&self, trigger: QmgrTrigger) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.merge(trigger);
        self.arrived.notify_one();
    }

    fn take(&self) -> QmgrTrigger {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A scan of one queue in progress.
struct Run {
    queue: Queue,
    ignore_time: bool,
    scan: Option<Scan>,
    ids: VecDeque<QueueId>,
}

impl Run {
    async fn start(context: &Arc<Context>, queue: Queue, ignore_time: bool) -> Self {
        let shared = Arc::clone(context);
        let scan = match blocking(move || shared.queue.scan(queue)).await {
            Ok(scan) => Some(scan),
            Err(error) => {
                context.log.warning(&format!("open directory {}: {error}", queue.name()));
                None
            }
        };
        Self { queue, ignore_time, scan, ids: VecDeque::new() }
    }

    /// The next name; nothing at the end.
    async fn next(&mut self) -> Option<QueueId> {
        if self.ids.is_empty() {
            let mut scan = self.scan.take()?;
            let read = blocking(move || {
                let ids: VecDeque<QueueId> = scan.by_ref().take(AHEAD).collect();
                Ok((scan, ids))
            });
            let (scan, ids) = read.await.ok()?;
            self.scan = (ids.len() == AHEAD).then_some(scan);
            self.ids = ids;
        }
        self.ids.pop_front()
    }
}

/// Feeds the manager for ever.
pub async fn run(
    context: Arc<Context>,
    triggers: Arc<Triggers>,
    room: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
) {
    let delay = context.settings.times.queue_run_delay;
    let everything =
        QmgrTrigger { scan_incoming: true, scan_deferred: true, ..QmgrTrigger::default() };
    triggers.add(everything);
    let mut next_run = Instant::now() + delay;
    let (mut incoming, mut deferred): (Option<Run>, Option<Run>) = (None, None);
    let mut turn = Queue::Deferred;
    loop {
        if Instant::now() >= next_run {
            next_run = Instant::now() + delay;
            triggers.add(everything);
        }
        let asked = triggers.take();
        if asked.scan_incoming && incoming.is_none() {
            incoming = Some(Run::start(&context, Queue::Incoming, asked.ignore_time).await);
        } else if asked.scan_incoming {
            // What came while a scan runs may lie behind it: look again after it.
            triggers.waiting.lock().unwrap_or_else(PoisonError::into_inner).scan_incoming = true;
        }
        if asked.scan_deferred && (deferred.is_none() || asked.ignore_time) {
            deferred = Some(Run::start(&context, Queue::Deferred, asked.ignore_time).await);
        }
        turn = if turn == Queue::Deferred { Queue::Incoming } else { Queue::Deferred };
        let run = match turn {
            Queue::Incoming if incoming.is_some() => &mut incoming,
            Queue::Deferred if deferred.is_some() => &mut deferred,
            _ if incoming.is_some() => &mut incoming,
            _ => &mut deferred,
        };
        let Some(current) = run else {
            tokio::select! {
                () = triggers.arrived.notified() => {}
                () = sleep_until(next_run) => {}
            }
            continue;
        };
        match current.next().await {
            None => *run = None,
            Some(id) => {
                let (queue, ignore_time) = (current.queue, current.ignore_time);
                let taken = take_in(&context, queue, id, ignore_time, &room, &events).await;
                if let Err(error) = taken {
                    let name = queue.name();
                    context.log.warning(&format!("trouble with the {name} queue: {error}"));
                    *run = None;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn take_in(
    context: &Arc<Context>,
    from: Queue,
    id: QueueId,
    ignore_time: bool,
    room: &Arc<Semaphore>,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let Ok(permit) = Arc::clone(room).acquire_owned().await else { return Ok(()) };
    let (shared, name, most) = (Arc::clone(context), id.clone(), batch_size(context));
    let taken =
        blocking(move || take(&shared.queue, from, &name, most, ignore_time, &*shared.clock))
            .await?;
    match taken {
        Taken::NotNow => {}
        Taken::InUse => context.log.info(&id, "skipped, still being delivered"),
        Taken::Corrupt(why) => {
            let from = from.name();
            context.log.warning(&format!("{id}: message rejected: {why}"));
            context.log.warning(&format!(
                "saving corrupt file \"{id}\" from queue \"{from}\" to queue \"corrupt\""
            ));
        }
        Taken::Message(facts, batch) => {
            let recipients = facts.envelope.size.map_or(0, |size| size.recipients);
            let line = format!(
                "from=<{}>, size={}, nrcpt={recipients} (queue active)",
                external(facts.sender()),
                facts.size()
            );
            context.log.info(&id, &line);
            context.recipients.fetch_add(batch.recipients.len(), Ordering::Relaxed);
            let decisions = decide(context, &facts, batch.recipients).await;
            let event = Event::Taken { facts, decisions, rest: batch.rest, permit };
            let _ = events.send(event).await;
        }
    }
    Ok(())
}

/// How many recipients may be read now.
pub fn batch_size(context: &Context) -> usize {
    let used = context.recipients.load(Ordering::Relaxed);
    let free = context.settings.recipients.saturating_sub(used);
    free.clamp(context.settings.recipients_at_least.min(BATCH), BATCH)
}
