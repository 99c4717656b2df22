//! What a worker asks the delivery worker of a uid to do, and what that answers.
//!
//! A task travels as the payload of a hand-over: with it the answer stream and, where there is a
//! message, a descriptor to read it from. The answer is one JSON value, then the end of the stream.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Blocking;
use std::path::PathBuf;
use std::time::Duration;

use daemon::{Identity, Worker};
use mailstore::quota::Quota;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// The role that delivers for the LMTP server: into mailboxes as Dovecot keeps them, nothing else.
pub const DELIVERY: &str = "delivery";
/// The role that delivers and reads for Postfix's agents.
pub const AGENT_DELIVERY: &str = "agent-delivery";

/// One thing to do under a recipient's uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub content: Source,
    /// Header lines of ours, with LF, that come before the message.
    pub prefix: String,
    pub target: Target,
}

/// How the message stands behind the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    Nothing,
    /// Lines with LF, from the beginning of the file.
    Lines,
    /// A Postfix queue file, its content from here.
    QueueFile {
        data_offset: u64,
    },
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A mailbox as Dovecot keeps it.
    Dovecot(Box<DovecotTarget>),
    /// A Maildir as Postfix delivers into it.
    Maildir {
        path: PathBuf,
        host: String,
    },
    Mbox(Box<MboxTarget>),
    /// Not a delivery: the first of these files that exists (`.forward`, `:include:`).
    Read {
        paths: Vec<PathBuf>,
        limit: u64,
        whose: Whose,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DovecotTarget {
    /// `mail_location`, its variables expanded.
    pub location: String,
    pub home: PathBuf,
    /// Where the detail of the address wants it, if that is asked for.
    pub mailbox: Option<String>,
    pub separator: Option<char>,
    pub hostname: String,
    pub autocreate: bool,
    pub autosubscribe: bool,
    pub fsync: bool,
    pub quota: Option<QuotaSettings>,
}

/// [`Quota`] as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaSettings {
    pub root: String,
    pub rules: Vec<String>,
    pub grace: String,
}

impl QuotaSettings {
    pub fn quota(&self) -> Result<Quota, mailstore::quota::QuotaError> {
        let rules: Vec<&str> = self.rules.iter().map(String::as_str).collect();
        Quota::from_settings(&self.root, &rules, &self.grace)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MboxTarget {
    pub path: PathBuf,
    /// For the log: `user info`, or nothing.
    pub user: String,
    /// Of the `From ` line; empty for the null sender.
    pub sender: String,
    pub dotlock: bool,
    pub fcntl: bool,
    pub flock: bool,
    pub attempts: u32,
    pub pause: Duration,
    /// Octets; 0 is no limit.
    pub size_limit: u64,
    /// The file has to be the recipient's (`strict_mailbox_ownership`).
    pub owned: bool,
}

/// Whose file counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// The reader's or root's (`.forward`).
    Reader,
    /// Anybody's: what it says is done as its owner (`:include:`).
    Anybody,
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// In `mailbox`; `instead_of` tells why it is not where it should have gone.
    Saved {
        mailbox: String,
        instead_of: Option<String>,
    },
    /// The file, or that there is none.
    Text(Option<Found>),
    OverQuota,
    Failed(Failure),
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its uid.
    pub owner: u32,
    pub text: String,
}

/// Why it is not done: an enhanced status, 4 or 5 first, and Postfix's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub status: String,
    pub text: String,
    /// What a command said itself, for the bounce; else empty.
    pub diagnostic: String,
}

impl Failure {
    pub fn new(status: &str, text: impl Into<String>) -> Self {
        Self { status: status.to_owned(), text: text.into(), diagnostic: String::new() }
    }

    #[must_use]
    pub fn with_diagnostic(self, diagnostic: &str) -> Self {
        Self { diagnostic: diagnostic.trim_end().to_owned(), ..self }
    }
}

/// No answer: the supervisor refused the user, the worker died, or it took too long.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    #[error("the delivery worker for uid {0} did not answer")]
    NoAnswer(u32),
    #[error("the delivery worker for uid {uid} cannot be reached: {source}")]
    Unreachable { uid: u32, source: std::io::Error },
}

const LONGEST_ANSWER: u64 = 512 * 1024;
/// A mailbox lock is waited for up to two minutes; a large message takes its time.
const PATIENCE: Duration = Duration::from_secs(1000);

/// Has `task` done by the worker that `role` has for `identity`.
pub async fn perform(
    worker: &Worker,
    role: &str,
    identity: Identity,
    task: &Task,
    content: Option<OwnedFd>,
) -> Result<Outcome, Gone> {
    ask(worker, role, identity, task, content, PATIENCE).await
}

/// Asks the worker that `role` has for `identity`, and waits this long for its answer.
pub async fn ask<Q: Serialize, A: for<'a> Deserialize<'a>>(
    worker: &Worker,
    role: &str,
    identity: Identity,
    question: &Q,
    content: Option<OwnedFd>,
    patience: Duration,
) -> Result<A, Gone> {
    let uid = identity.uid;
    let unreachable = |source| Gone::Unreachable { uid, source };
    let (here, there) = Blocking::pair().map_err(unreachable)?;
    here.set_nonblocking(true).map_err(unreachable)?;
    let payload = serde_json::to_vec(question).map_err(|_| Gone::NoAnswer(uid))?;
    let mut descriptors = vec![OwnedFd::from(there)];
    descriptors.extend(content);
    worker.hand_over(role, identity, &payload, descriptors).await.map_err(unreachable)?;
    let mut answer = Vec::new();
    let mut here = UnixStream::from_std(here).map_err(unreachable)?.take(LONGEST_ANSWER);
    let read = tokio::time::timeout(patience, here.read_to_end(&mut answer)).await;
    match read {
        Ok(Ok(_)) => serde_json::from_slice(&answer).map_err(|_| Gone::NoAnswer(uid)),
        _ => Err(Gone::NoAnswer(uid)),
    }
}
