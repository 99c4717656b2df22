//! The delivery worker: one process per uid, the only ones that touch mailboxes.

mod dovecot;
mod maildir;
mod mbox;
mod read;
mod source;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use daemon::{HandedOver, Worker, WorkerError};

use crate::task::{self, Failure, Outcome, Target, Task};

pub use source::Message;

/// How long an answer may take to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does what other workers hand over until this process has to finish.
pub fn work(worker: Worker) -> Result<(), WorkerError> {
    let service = worker.clone();
    let of_agents = worker.role() == task::AGENT_DELIVERY;
    worker.run(async move {
        let mut tasks = service.handed_over();
        loop {
            let handed_over = tokio::select! {
                biased;
                handed_over = tasks.next() => handed_over,
                _ = service.finishing() => return Ok(()),
            };
            let busy = service.busy();
            drop(tokio::task::spawn_blocking(move || {
                let _busy = busy;
                serve(handed_over, of_agents);
            }));
        }
    })
}

fn serve(handed_over: HandedOver, of_agents: bool) {
    let mut descriptors = handed_over.descriptors.into_iter();
    let Some(answer) = descriptors.next() else { return };
    let mut answer = UnixStream::from(answer);
    let outcome = match serde_json::from_slice::<Task>(&handed_over.payload) {
        // The LMTP server meets strangers: whoever took it over should not get to read files.
        Ok(task) if matches!(task.target, Target::Dovecot(_)) == of_agents => {
            Outcome::Failed(Failure::new("4.3.0", "a task of the other kind"))
        }
        Ok(task) => perform(&task, descriptors.next().map(File::from)),
        Err(error) => Outcome::Failed(Failure::new("4.3.0", format!("unknown task: {error}"))),
    };
    let sent = answer
        .set_nonblocking(false)
        .and_then(|()| answer.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| serde_json::to_vec(&outcome).map_err(io::Error::other))
        .and_then(|bytes| answer.write_all(&bytes));
    if let Err(error) = sent {
        tracing::warn!(target: "mail", "warning: a delivery's outcome was not taken: {error}");
    }
}

/// Does one task. What it answers is durable.
pub fn perform(task: &Task, file: Option<File>) -> Outcome {
    let message = Message::new(task.content, &task.prefix, file);
    match &task.target {
        Target::Dovecot(target) => dovecot::deliver(target, &message),
        Target::Maildir { path, host } => maildir::deliver(path, host, &message),
        Target::Mbox(target) => mbox::deliver(target, &message),
        Target::Read { paths, limit } => read::first(paths, *limit),
    }
}

/// The enhanced status of a failed system call, as Postfix's local and virtual give it.
fn status_of(error: &io::Error) -> &'static str {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => "4.3.0",
        Some(Errno::EDQUOT | Errno::EFBIG) => "5.2.2",
        _ => "4.2.0",
    }
}

/// strerror's text, without Rust's number behind it.
fn reason(error: &io::Error) -> String {
    use nix::errno::Errno;
    match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    }
}
