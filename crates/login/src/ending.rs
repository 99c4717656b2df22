//! When a session has to end though its client has not said so.

use std::time::Duration;

use daemon::{Cause, Worker};
use tokio::time::{Instant, sleep};

/// Before its process is killed.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A client that is silent so long when the daemon stops is not in the middle of a dialogue.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until a session that waits for its client has to end: the daemon stops and the client pauses, or the time of an
/// old generation is over. A reload alone ends nobody. Never returns for a session without a worker.
pub async fn stopping(worker: Option<&Worker>) {
    let Some(worker) = worker else { return std::future::pending().await };
    loop {
        let finish = worker.finishing().await;
        let left = finish.until.saturating_duration_since(Instant::now());
        if left < LAST_WORDS {
            return;
        }
        let left = left - LAST_WORDS;
        if finish.cause == Cause::Reload {
            // The cause may still become another one.
            sleep(left.min(Duration::from_secs(1))).await;
        } else {
            return sleep(left.min(PAUSE)).await;
        }
    }
}
