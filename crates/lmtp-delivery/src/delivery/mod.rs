//! The delivery worker: one process per uid, the only ones that touch mailboxes.

mod dovecot;
mod maildir;
mod mbox;
mod read;
mod source;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;

use daemon::{HandedOver, Worker, WorkerError};

use crate::service;
use crate::task::{self, Failure, Outcome, Target, Task};

pub use source::Message;

/// Does what other workers hand over until this process has to finish.
pub fn work(worker: Worker) -> Result<(), WorkerError> {
    let of_agents = worker.role() == task::AGENT_DELIVERY;
    service::serve_each(worker, move |handed_over| serve(handed_over, of_agents))
}

fn serve(handed_over: HandedOver, of_agents: bool) {
    let mut descriptors = handed_over.descriptors.into_iter();
    let Some(answer) = descriptors.next() else { return };
    let outcome = match serde_json::from_slice::<Task>(&handed_over.payload) {
        // The LMTP server meets strangers: whoever took it over should not get to read files.
        Ok(task) if matches!(task.target, Target::Dovecot(_)) == of_agents => {
            Outcome::Failed(Failure::new("4.3.0", "a task of the other kind"))
        }
        Ok(task) => perform(&task, descriptors.next().map(File::from)),
        Err(error) => Outcome::Failed(Failure::new("4.3.0", format!("unknown task: {error}"))),
    };
    service::answer(UnixStream::from(answer), "a delivery's outcome", &outcome);
}

/// Does one task. What it answers is durable.
pub fn perform(task: &Task, file: Option<File>) -> Outcome {
    let message = Message::new(task.content, &task.prefix, file);
    match &task.target {
        Target::Dovecot(target) => dovecot::deliver(target, &message),
        Target::Maildir { path, host } => maildir::deliver(path, host, &message),
        Target::Mbox(target) => mbox::deliver(target, &message),
        Target::Read { paths, limit, whose } => read::first(paths, *limit, *whose),
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
