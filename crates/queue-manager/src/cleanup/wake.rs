//! Waking the queue manager: one trigger at a time, however many messages have come.

use std::path::PathBuf;
use std::time::Duration;

use protocol::postfix::trigger::WAKEUP;
use tokio::sync::Notify;

use crate::ipc;

pub struct Waker {
    socket: PathBuf,
    wanted: Notify,
}

/// While the queue manager is away: how often it is tried. It scans the queue when it comes.
const PAUSE: Duration = Duration::from_millis(200);

impl Waker {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, wanted: Notify::new() }
    }

    /// A message has come.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    pub async fn run(&self) {
        loop {
            self.wanted.notified().await;
            if ipc::trigger(&self.socket, WAKEUP).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
