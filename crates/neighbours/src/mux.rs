//! Many questions at once over one line connection, matched to their answers by id.
//!
//! A task owns the socket. A question gets a free id, its answer comes whenever the server gives it.
//! When the connection ends, every open question ends with [`Lost::Closed`].

use bytes::Bytes;
use protocol::dovecot_auth::Lines;
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Questions that may wait for the socket; more of them wait at their caller.
const QUEUED: usize = 64;
/// Questions without an answer on one connection. Beyond it the server is taken for stuck.
const OPEN: usize = 4096;
/// How long a server may leave its socket full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Closed,
    TimedOut,
}

/// Reads an answer: its id and what it says. `Ok(None)` is a line to ignore, `Err` ends the connection.
pub(crate) type Parse<R> = fn(&Bytes) -> Result<Option<(u32, R)>, ()>;
type Write = Box<dyn FnOnce(u32, &mut Vec<u8>) + Send>;

enum Command<R> {
    Ask {
        write: Write,
        reply: oneshot::Sender<(u32, R)>,
    },
    /// Goes on with a question that was answered by another question.
    Again {
        id: u32,
        write: Write,
        reply: oneshot::Sender<(u32, R)>,
    },
    Forget {
        id: u32,
        write: Write,
    },
}

/// The caller's end of the connection's task.
pub(crate) struct Mux<R>(mpsc::Sender<Command<R>>);

impl<R> Clone for Mux<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Send + 'static> Mux<R> {
    /// Takes over a connection whose handshake is done; `lines` holds what was read too much.
    pub fn start(stream: UnixStream, lines: Lines, parse: Parse<R>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let task = Task { stream, lines, parse, open: HashMap::new(), last_id: 0 };
        tokio::spawn(task.run(receiver));
        Self(sender)
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub async fn ask(&self, write: Write, limit: Duration) -> Result<(u32, R), Lost> {
        let (reply, answer) = oneshot::channel();
        self.answer(Command::Ask { write, reply }, answer, limit).await
    }

    pub async fn again(&self, id: u32, write: Write, limit: Duration) -> Result<R, Lost> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Again { id, write, reply };
        self.answer(command, answer, limit).await.map(|(_, reply)| reply)
    }

    /// Drops a question that the caller has given up; says so to the server with `write`.
    pub fn forget(&self, id: u32, write: Write) {
        // a full queue means a stuck server: its connection will end, and the question with it
        let _ = self.0.try_send(Command::Forget { id, write });
    }

    async fn answer(
        &self,
        command: Command<R>,
        answer: oneshot::Receiver<(u32, R)>,
        limit: Duration,
    ) -> Result<(u32, R), Lost> {
        let exchange = async {
            self.0.send(command).await.map_err(|_| Lost::Closed)?;
            answer.await.map_err(|_| Lost::Closed)
        };
        timeout(limit, exchange).await.unwrap_or(Err(Lost::TimedOut))
    }
}

struct Task<R> {
    stream: UnixStream,
    lines: Lines,
    parse: Parse<R>,
    open: HashMap<u32, oneshot::Sender<(u32, R)>>,
    last_id: u32,
}

impl<R> Task<R> {
    async fn run(mut self, mut commands: mpsc::Receiver<Command<R>>) {
        while self.dispatch().is_ok() {
            let outcome = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.send(command, &mut commands).await,
                    None => return,
                },
                read = self.stream.read_buf(self.lines.buffer()) => match read {
                    Ok(0) => return,
                    other => other.map(drop),
                },
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Hands out every whole line that was read.
    fn dispatch(&mut self) -> Result<(), ()> {
        while let Some(line) = self.lines.next_line().map_err(drop)? {
            if let Some((id, reply)) = (self.parse)(&line)?
                && let Some(caller) = self.open.remove(&id)
            {
                let _ = caller.send((id, reply)); // a caller that has gone wants no answer
            }
        }
        Ok(())
    }

    /// Writes a command and all that wait behind it at once.
    async fn send(
        &mut self,
        command: Command<R>,
        commands: &mut mpsc::Receiver<Command<R>>,
    ) -> io::Result<()> {
        let mut out = Vec::new();
        self.enter(command, &mut out)?;
        while let Ok(command) = commands.try_recv() {
            self.enter(command, &mut out)?;
        }
        timeout(WRITE_TIMEOUT, self.stream.write_all(&out))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn enter(&mut self, command: Command<R>, out: &mut Vec<u8>) -> io::Result<()> {
        match command {
            Command::Ask { write, reply } => {
                self.open.retain(|_, caller| !caller.is_closed());
                if self.open.len() >= OPEN {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let id = self.free_id();
                write(id, out);
                self.open.insert(id, reply);
            }
            Command::Again { id, write, reply } => {
                write(id, out);
                self.open.insert(id, reply);
            }
            Command::Forget { id, write } => {
                self.open.remove(&id);
                write(id, out);
            }
        }
        Ok(())
    }

    /// Ids are never reused while their numbers last: a late answer to a forgotten question must not
    /// be taken for the answer to another.
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.open.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
