//! An SMTP host that keeps account of what it accepted for whom. It can refuse some recipients for a while, and it can hold
//! back its last word, so that a test knows which deliveries are under way.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::log::PATIENCE;

/// How often each recipient got each message: by Message-ID and recipient.
pub type Account = BTreeMap<(String, String), usize>;

/// A running host. It takes no new connections once it is dropped.
#[derive(Debug)]
pub struct Sink {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    account: Account,
    /// Messages that have their answer, good or bad.
    answered: usize,
    /// Messages that may be answered before the rest is held back; nothing: all.
    allowed: Option<usize>,
    /// Messages that were sent whole and have no answer yet.
    held: usize,
    /// Messages that were held back.
    let_go: usize,
    /// Recipients that begin so are put off.
    put_off: Option<String>,
    stopped: bool,
}

impl Sink {
    /// Listens on a port of 127.0.0.1. Before and after, who connects is refused.
    #[track_caller]
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|error| panic!("{port}: {error}"));
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&serving);
                if shared.state().stopped {
                    return;
                }
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, shared, thread: Some(thread) }
    }

    /// Puts off recipients that begin so; nothing: none any more.
    pub fn put_off(&self, beginning: Option<&str>) {
        self.shared.state().put_off = beginning.map(str::to_owned);
    }

    /// After so many messages, counted from the start, every later one waits for its answer.
    pub fn hold_after(&self, messages: usize) {
        self.shared.change(|state| state.allowed = Some(messages));
    }

    /// Waits until so many messages wait for their answer.
    #[track_caller]
    pub fn wait_held(&self, messages: usize, patience: Duration) {
        let end = Instant::now() + patience;
        let mut state = self.shared.state();
        while state.held < messages {
            let left = end.saturating_duration_since(Instant::now());
            let held = state.held;
            if left.is_zero() {
                drop(state);
                panic!("{held} of {messages} are held back");
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Answers those that wait, every second one with a refusal for now, and goes on to hold back later ones. Gives their
    /// number.
    pub fn answer_held(&self) -> usize {
        let mut held = 0;
        self.shared.change(|state| {
            held = state.held;
            state.allowed = Some(state.answered + held);
        });
        held
    }

    /// Holds nothing back any more.
    pub fn let_go(&self) {
        self.shared.change(|state| state.allowed = None);
    }

    pub fn account(&self) -> Account {
        self.shared.state().account.clone()
    }

    /// Messages that were answered, accepted or not.
    pub fn answered(&self) -> usize {
        self.shared.state().answered
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopped = true;
            state.allowed = None;
        });
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// A client that goes away ends its thread, however rudely.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(20 * PATIENCE)).ok()?; // connections are kept for the next message
        let mut wire = BufReader::new(stream);
        say(&mut wire, "220 sink.test ESMTP")?;
        let mut recipients = Vec::new();
        loop {
            let line = line(&mut wire)?;
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => say(&mut wire, "250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME")?,
                "RCPT" => {
                    let address = line.split(['<', '>']).nth(1)?.to_owned();
                    if self.puts_off(&address) {
                        say(&mut wire, "450 4.2.0 later")?;
                    } else {
                        recipients.push(address);
                        say(&mut wire, "250 2.1.5 Ok")?;
                    }
                }
                "DATA" if recipients.is_empty() => say(&mut wire, "554 5.5.1 no recipients")?,
                "DATA" => {
                    say(&mut wire, "354 go on")?;
                    let id = content(&mut wire)?;
                    let accepted = self.accept(&id, &mut recipients);
                    let reply = if accepted { "250 2.0.0 Ok: queued" } else { "451 4.3.0 later" };
                    say(&mut wire, reply)?;
                }
                "QUIT" => return say(&mut wire, "221 2.0.0 Bye"),
                "RSET" => {
                    recipients.clear();
                    say(&mut wire, "250 2.0.0 Ok")?;
                }
                _ => say(&mut wire, "250 2.0.0 Ok")?,
            }
        }
    }

    fn puts_off(&self, address: &str) -> bool {
        let state = self.state();
        state.put_off.as_deref().is_some_and(|beginning| address.starts_with(beginning))
    }

    /// Waits for its turn. Every second message that had to wait is not accepted.
    fn accept(&self, id: &str, recipients: &mut Vec<String>) -> bool {
        let mut state = self.state();
        let is_held =
            |state: &State| state.allowed.is_some_and(|allowed| state.answered >= allowed);
        let mut accepted = true;
        if is_held(&state) {
            state.held += 1;
            self.changed.notify_all();
            while is_held(&state) {
                state = self.changed.wait(state).unwrap();
            }
            state.held -= 1;
            state.let_go += 1;
            accepted = state.let_go.is_multiple_of(2);
        }
        state.answered += 1;
        for recipient in recipients.drain(..).filter(|_| accepted) {
            *state.account.entry((id.to_owned(), recipient)).or_default() += 1;
        }
        accepted
    }
}

fn say(wire: &mut BufReader<TcpStream>, reply: &str) -> Option<()> {
    wire.get_mut().write_all(format!("{reply}\r\n").as_bytes()).ok()
}

fn line(wire: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    wire.read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Reads a message; gives its Message-ID.
fn content(wire: &mut BufReader<TcpStream>) -> Option<String> {
    let mut id = String::new();
    loop {
        let line = line(wire)?;
        if line == "." {
            return Some(id);
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("message-id")
        {
            id = value.to_owned();
        }
    }
}
