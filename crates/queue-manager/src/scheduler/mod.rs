//! The queue manager proper (qmgr): which message is delivered when, by which agent.
//!
//! `intake` takes messages in, `route` asks where their recipients go, `manager` owns the active
//! queue, `transport`, `jobs` and `window` decide what goes out next, `agent` hands it over, and
//! `completion` ends an attempt. Every fact that must survive a crash is in the queue directory.

mod agent;
mod completion;
mod context;
mod intake;
mod jobs;
pub mod log;
mod manager;
mod message;
mod route;
pub mod service;
pub mod settings;
#[cfg(test)]
mod tests;
mod transport;
mod window;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::postfix::trigger::QmgrTrigger;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

pub use context::Context;
use intake::Triggers;
use manager::{Event, Manager};

/// Events that wait for the manager.
const EVENTS: usize = 1024;
/// How long deliveries may go on after the worker has to finish; a new queue manager finds the rest.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// A manager without a time to wake looks around this often.
const IDLE: Duration = Duration::from_secs(60);

/// A handle to a running scheduler, for the trigger socket.
#[derive(Clone)]
pub struct Scheduler {
    triggers: Arc<Triggers>,
    events: mpsc::Sender<Event>,
}

/// What [`Scheduler::new`] gives to run.
pub struct Engine {
    context: Arc<Context>,
    triggers: Arc<Triggers>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
}

impl Scheduler {
    #[must_use]
    pub fn new(context: Context) -> (Self, Engine) {
        let triggers = Arc::<Triggers>::default();
        let (sender, events) = mpsc::channel(EVENTS);
        let engine = Engine {
            context: Arc::new(context),
            triggers: Arc::clone(&triggers),
            events,
            sender: sender.clone(),
        };
        (Self { triggers, events: sender }, engine)
    }

    /// Obeys the bytes that came on `public/qmgr`.
    pub async fn trigger(&self, trigger: QmgrTrigger) {
        if trigger.unthrottle {
            let _ = self.events.send(Event::Unthrottle).await;
        }
        self.triggers.add(trigger);
    }
}

impl Engine {
    /// Owns the active queue until `finishing`. No other queue manager may run on it meanwhile.
    ///
    /// # Errors
    ///
    /// The active queue of the forerunner cannot be taken over.
    pub async fn run(mut self, finishing: impl Future<Output = ()>) -> std::io::Result<()> {
        let context = Arc::clone(&self.context);
        let shared = Arc::clone(&context);
        let recover = move || shared.queue.recover_active(shared.clock.now());
        completion::blocking(recover).await?;
        let room = Arc::new(Semaphore::new(context.settings.messages.min(Semaphore::MAX_PERMITS)));
        let mut manager = Manager::new(Arc::clone(&context), self.sender.clone());
        let intake = tokio::spawn(intake::run(
            Arc::clone(&context),
            Arc::clone(&self.triggers),
            room,
            self.sender.clone(),
        ));
        drop(self.sender);
        let mut finishing = pin!(finishing);
        loop {
            let wake = manager.push().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                biased;
                () = &mut finishing => break,
                event = self.events.recv() => match event {
                    Some(event) => manager.handle(event),
                    None => break,
                },
                () = sleep_until(wake) => {}
            }
        }
        intake.abort();
        manager.stop_accepting();
        let _ = timeout(LAST_WORDS, async {
            while manager.busy() > 0 {
                if let Ok(Some(event)) =
                    timeout(Duration::from_millis(50), self.events.recv()).await
                {
                    manager.handle(event);
                }
            }
        })
        .await;
        Ok(())
    }
}
