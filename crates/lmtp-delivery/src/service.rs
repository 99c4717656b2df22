//! How a worker that others hand tasks to, a delivery worker or the runner, takes and answers them.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use daemon::{HandedOver, Worker, WorkerError};
use serde::Serialize;

/// How long an answer may take to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves each task on a thread of its own, until this process has to finish.
pub fn serve_each(
    worker: Worker,
    serve: impl Fn(HandedOver) + Clone + Send + 'static,
) -> Result<(), WorkerError> {
    let service = worker.clone();
    worker.run(async move {
        let mut tasks = service.handed_over();
        loop {
            let handed_over = tokio::select! {
                biased;
                handed_over = tasks.next() => handed_over,
                _ = service.finishing() => return Ok(()),
            };
            let (busy, serve) = (service.busy(), serve.clone());
            drop(tokio::task::spawn_blocking(move || {
                let _busy = busy;
                serve(handed_over);
            }));
        }
    })
}

/// Sends the answer to a task: one JSON value, then the end of the stream. `what` is it in a log line.
pub fn answer(to: UnixStream, what: &str, answer: &impl Serialize) {
    let mut to = to;
    let sent = to
        .set_nonblocking(false)
        .and_then(|()| to.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| serde_json::to_vec(answer).map_err(io::Error::other))
        .and_then(|bytes| to.write_all(&bytes));
    if let Err(error) = sent {
        tracing::warn!(target: "mail", "warning: {what} was not taken: {error}");
    }
}
