//! A filter that does as it is told and remembers what it was told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use harness::Scratch;

use protocol::milter::{Actions, Event, Family, Frame, Negotiation, Reply, Steps};

/// One thing that the filter does when an event comes.
#[derive(Clone, Debug)]
pub enum Act {
    Say(Reply),
    Raw(Vec<u8>),
    /// Closes the connection.
    Die,
    /// Says nothing more.
    Hang,
}

/// What it does in a case.
#[derive(Clone, Debug)]
pub struct Script {
    pub negotiation: Negotiation,
    /// By the letter of the event; all others are answered with "continue".
    pub acts: BTreeMap<char, Vec<Act>>,
}

impl Default for Script {
    fn default() -> Self {
        let negotiation =
            Negotiation { actions: Actions::ALL, steps: Steps(0), ..Negotiation::default() };
        Self { negotiation, acts: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    /// What each connection has said, in the order in which they were opened: two of them are two conversations.
    seen: Vec<Vec<String>>,
    open: usize,
}

/// The filter's sockets; it serves until the test ends.
#[derive(Clone, Debug)]
pub struct Filter {
    pub port: u16,
    _scratch: Arc<Scratch>,
    pub path: PathBuf,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Filter {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let scratch = Arc::new(Scratch::new());
        let path = scratch.join("socket");
        let local = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let filter = Self { port, path, _scratch: scratch, shared: Arc::default() };
        let serving = filter.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serving.meet(stream);
            }
        });
        let serving = filter.clone();
        std::thread::spawn(move || {
            for stream in local.incoming().flatten() {
                serving.meet(stream);
            }
        });
        filter
    }

    fn meet(&self, stream: impl Read + Write + Send + 'static) {
        let serving = self.clone();
        let number = serving.opened();
        std::thread::spawn(move || {
            serving.serve(number, stream);
            serving.shared.0.lock().unwrap().open -= 1;
            serving.shared.1.notify_all();
        });
    }

    fn opened(&self) -> usize {
        let mut state = self.shared.0.lock().unwrap();
        state.open += 1;
        state.seen.push(Vec::new());
        state.seen.len() - 1
    }

    pub fn play(&self, script: &Script) {
        let mut state = self.shared.0.lock().unwrap();
        state.script = script.clone();
        state.seen.clear();
    }

    /// Waits until nobody talks to it, and gives what it has heard.
    pub fn heard(&self) -> Vec<String> {
        let (state, changed) = &*self.shared;
        let waiting =
            changed.wait_timeout_while(state.lock().unwrap(), harness::log::PATIENCE, |state| {
                state.open > 0
            });
        let (mut state, timeout) = waiting.unwrap();
        assert!(!timeout.timed_out(), "a filter is still talked to: {:?}", state.seen);
        std::mem::take(&mut state.seen).concat()
    }

    fn note(&self, number: usize, line: String) {
        self.shared.0.lock().unwrap().seen[number].push(line);
    }

    fn serve(&self, number: usize, mut stream: impl Read + Write) {
        let script = self.shared.0.lock().unwrap().script.clone();
        let mut buffer = Default::default();
        while let Some(event) = read(&mut stream, &mut buffer) {
            let letter = char::from(event.code());
            let line = shown(&event);
            self.note(number, line);
            let steps = script.negotiation.steps;
            let answered = event.stage().is_some_and(|stage| steps.answers(stage));
            let acts = match (&event, script.acts.get(&letter)) {
                (Event::Quit, _) => return,
                (_, Some(acts)) => acts.clone(),
                (Event::Negotiate(offer), None) => {
                    let version = script.negotiation.version.min(offer.version);
                    let answer = Negotiation { version, ..script.negotiation.clone() };
                    vec![Act::Say(Reply::Negotiate(answer))]
                }
                _ if answered => vec![Act::Say(Reply::Continue)],
                _ => Vec::new(),
            };
            let mut out = Vec::new();
            for act in acts {
                match act {
                    Act::Say(reply) => reply.encode(&mut out),
                    Act::Raw(bytes) => out.extend(bytes),
                    Act::Die => {
                        let _ = stream.write_all(&out);
                        return;
                    }
                    Act::Hang => {
                        let _ = stream.write_all(&out);
                        let _ = stream.read_to_end(&mut Vec::new());
                        return;
                    }
                }
            }
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }
}

fn read(stream: &mut impl Read, buffer: &mut bytes::BytesMut) -> Option<Event> {
    let mut piece = [0; 4096];
    loop {
        if let Some(frame) = Frame::take(buffer, 1 << 20).unwrap() {
            return Some(Event::decode(frame).unwrap());
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// An event as one line: its letter and what it says.
fn shown(event: &Event) -> String {
    let words = |address: &[u8], parameters: &[bytes::Bytes]| {
        let mut line = text(address);
        parameters.iter().for_each(|one| line.push_str(&format!(" {}", text(one))));
        line
    };
    let letter = char::from(event.code());
    let rest = match event {
        Event::Negotiate(offer) => {
            format!("{} {:x} {:x}", offer.version, offer.actions.0, offer.steps.0)
        }
        Event::Macros { code, values } => {
            let values =
                values.iter().map(|(name, value)| format!(" {}={}", text(name), text(value)));
            format!("{}{}", char::from(*code), values.collect::<String>())
        }
        Event::Connect { host, family } => {
            let host = text(host);
            match family {
                Family::Unknown => format!("{host} U"),
                Family::Inet { port, address } => {
                    format!("{host} 4 {} {}", u8::from(*port > 0), text(address))
                }
                Family::Inet6 { address, .. } => format!("{host} 6 {}", text(address)),
                Family::Unix { path, .. } => format!("{host} L {}", text(path)),
            }
        }
        Event::Helo(name) | Event::Unknown(name) => text(name),
        Event::Mail { address, parameters } | Event::Rcpt { address, parameters } => {
            words(address, parameters)
        }
        Event::Header { name, value } => format!("{}|{}", text(name), text(value)),
        Event::Body(bytes) | Event::Eom(bytes) if bytes.len() > 300 => bytes.len().to_string(),
        Event::Body(bytes) | Event::Eom(bytes) => text(bytes),
        Event::Data | Event::Eoh | Event::Abort | Event::Quit | Event::QuitNewConnection => {
            String::new()
        }
    };
    format!("{letter} {rest}").trim_end().to_owned()
}

/// The letters of what was heard, without macros: `OCHMRTLLNBE`.
pub fn letters(heard: &[String]) -> String {
    let letters = heard.iter().filter_map(|line| line.chars().next());
    letters.filter(|&letter| letter != 'D').collect()
}
