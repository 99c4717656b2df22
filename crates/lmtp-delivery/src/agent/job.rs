//! One delivery request at work: the open queue file and what all recipients share.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use daemon::{Identity, Worker};
use protocol::postfix::delivery::DeliveryRequest;
use queue::{Access, Lock, Queue, QueueDirectory, QueueFile};

use crate::agent::header;
use crate::task::{self, Failure, Outcome, Source, Target, Task};

/// What the recipients of one request share.
pub struct Job {
    pub request: DeliveryRequest,
    file: QueueFile,
    /// Opened for reading only: what delivery workers get.
    readable: File,
    pub delivered_to: HashSet<String>,
}

/// Why a request cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("no such queue")]
    NoQueue,
    #[error("open queue file: {0}")]
    Open(io::Error),
    #[error("damaged queue file: {0}")]
    Damaged(queue::ReadError),
}

impl JobError {
    /// The message was delivered or deleted meanwhile.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Open(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl Job {
    /// Opens and locks the queue file and reads its header for `Delivered-To`.
    pub fn open(directory: &QueueDirectory, request: DeliveryRequest) -> Result<Self, JobError> {
        let queue = Queue::named(&request.queue_name).ok_or(JobError::NoQueue)?;
        let id = &request.queue_id;
        let file = QueueFile::open(directory, queue, id, Lock::Shared).map_err(JobError::Open)?;
        let readable = directory.open(queue, id, Access::Read).map_err(JobError::Open)?;
        let offset = u64::try_from(request.data_offset).unwrap_or(u64::MAX);
        match header::delivered_to(&readable, offset) {
            Ok(delivered_to) => Ok(Self { request, file, readable, delivered_to }),
            Err(error) => {
                let _ = file.mark_damaged();
                Err(JobError::Damaged(error))
            }
        }
    }

    pub fn data_offset(&self) -> u64 {
        u64::try_from(self.request.data_offset).unwrap_or(u64::MAX)
    }

    pub fn readable(&self) -> &File {
        &self.readable
    }

    /// Marks a recipient done. A failure costs a duplicate later, never mail.
    pub fn mark_done(&self, offset: i64) -> Result<(), queue::ReadError> {
        match u64::try_from(offset) {
            Ok(offset) if offset > 0 => self.file.mark_done(offset),
            _ => Ok(()),
        }
    }

    /// Has the message put where `target` says, under the recipient's uid.
    pub async fn deliver(
        &self,
        worker: &Worker,
        identity: Identity,
        prefix: String,
        target: Target,
    ) -> Outcome {
        let content = match self.readable.try_clone() {
            Ok(file) => Some(OwnedFd::from(file)),
            Err(error) => return Outcome::Failed(Failure::new("4.3.0", error.to_string())),
        };
        let source = Source::QueueFile { data_offset: self.data_offset() };
        let task = Task { content: source, prefix, target };
        ask(worker, identity, &task, content).await
    }
}

/// Does a task; a delivery worker that does not answer is a temporary failure.
pub async fn ask(
    worker: &Worker,
    identity: Identity,
    task: &Task,
    content: Option<OwnedFd>,
) -> Outcome {
    match task::perform(worker, task::AGENT_DELIVERY, identity, task, content).await {
        Ok(outcome) => outcome,
        Err(gone) => Outcome::Failed(Failure::new("4.3.0", gone.to_string())),
    }
}
