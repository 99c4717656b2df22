//! The runner: one process per user, outside every sandbox, that starts the commands which `.forward`,
//! aliases, `mailbox_command` and pipe(8) services name. It is asked by the agent, as delivery workers are.
//!
//! What a command gets and what its end means is as in Postfix's `pipe_command`.

mod ended;
mod launch;

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use daemon::{HandedOver, Worker, WorkerError};
use serde::{Deserialize, Serialize};

use crate::service;

pub use ended::Ended;

/// The role of the runners.
pub const RUNNER: &str = "runner";
/// A command and the message for its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub program: Program,
    /// The whole environment, but for the search path.
    pub environment: Vec<(String, String)>,
    pub directory: String,
    pub limit: Duration,
    /// What Postfix's program is called in messages of its child: `local`, `pipe`.
    pub name: String,
    pub copy: Copy,
    /// The message, by its place in the queue file that comes beside.
    pub data_offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// For a shell only if it has characters for one, or if `shell` names one.
    Line {
        line: String,
        shell: String,
    },
    Arguments(Vec<String>),
}

impl Program {
    /// How reports name the command.
    pub fn shown(&self) -> &str {
        match self {
            Self::Line { line, .. } => line,
            Self::Arguments(words) => words.first().map_or("", String::as_str),
        }
    }
}

/// How the message is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Header lines of ours, with their line ends.
    pub prefix: String,
    pub eol: String,
    /// `>` before lines that begin with `From `.
    pub quote: bool,
    /// A second dot before lines that begin with one.
    pub dot: bool,
    /// An empty line behind the message.
    pub blank: bool,
}

/// Starts what the agent hands over until this process has to finish.
pub fn work(worker: Worker) -> Result<(), WorkerError> {
    service::serve_each(worker, serve)
}

fn serve(handed_over: HandedOver) {
    let mut descriptors = handed_over.descriptors.into_iter();
    let (Some(answer), Some(content)) = (descriptors.next(), descriptors.next()) else { return };
    let ended = match serde_json::from_slice::<Run>(&handed_over.payload) {
        Ok(run) => launch::run(&run, File::from(content)),
        Err(error) => Ended::not_started(&format!("unknown task: {error}")),
    };
    service::answer(UnixStream::from(answer), "how a command ended", &ended);
}
