//! A server that agrees to everything in Postfix's own words, queues nothing and logs who came and went.
//!
//! It stands in this process, without a socket or a clock, so all cases are played against it in no time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use super::case::Case;
use super::client::{Client, Conversation, converse};
use super::transcript::Transcript;

const GREETING: &str = "220 mail.example.com ESMTP Postfix";
const EHLO: &str = "250-mail.example.com\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n\
                    250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING";
const QUEUED: &str = "250 2.0.0 Ok: queued as 4F00D00D00D";

/// How the server is found out in a case, if it is.
pub fn difference(case: &Case) -> Option<String> {
    let Conversation { replies, .. } = match converse(case, || Ok(client(case)), |_| {}) {
        Ok(conversation) => conversation,
        Err(difference) => return Some(difference),
    };
    let from = case.from.map_or("127.0.0.1".to_owned(), |address| address.to_string());
    let log = ["connect from unknown", "disconnect from unknown"];
    let log = log.iter().map(|text| format!("{text}[{from}]")).collect();
    Transcript { replies, log, ..Transcript::default() }.lacks(case)
}

/// openssl, where it speaks, keeps the greeting before STARTTLS to itself.
fn client(case: &Case) -> Client {
    let greets = case.tls.as_ref().is_none_or(|words| words.starts_with("wrapped"));
    let server = Wire(Rc::default());
    if greets {
        server.0.borrow_mut().say(GREETING);
    }
    Client::of(Wire(server.0.clone()), server)
}

/// Both ends of the connection.
struct Wire(Rc<RefCell<Server>>);

#[derive(Default)]
struct Server {
    unread: Vec<u8>,
    said: VecDeque<u8>,
    state: State,
}

/// What the client is expected to send.
#[derive(Default)]
enum State {
    #[default]
    Command,
    Content,
    /// So many octets, and what is said after them.
    Chunk(usize, String),
    /// A response to a challenge; the next challenges.
    Response(Vec<&'static str>),
    Closed,
}

impl Server {
    fn say(&mut self, reply: &str) {
        self.said.extend(reply.bytes().chain(*b"\r\n"));
    }

    /// Answers what is whole.
    fn step(&mut self) -> Option<()> {
        if let State::Chunk(octets, reply) = &self.state {
            if self.unread.len() < *octets {
                return None;
            }
            let reply = reply.clone();
            self.unread.drain(..*octets);
            self.say(&reply);
            self.state = State::Command;
            return Some(());
        }
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match &mut self.state {
            State::Command => self.command(&line),
            State::Content if line == "." => {
                self.state = State::Command;
                self.say(QUEUED);
            }
            State::Response(challenges) => match challenges.pop() {
                Some(challenge) => self.say(challenge),
                None => {
                    self.state = State::Command;
                    self.say("235 2.7.0 Authentication successful");
                }
            },
            State::Content | State::Chunk(..) | State::Closed => {}
        }
        Some(())
    }

    fn command(&mut self, line: &str) {
        let line = line.to_ascii_uppercase();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["EHLO", ..] => self.say(EHLO),
            ["HELO", ..] => self.say("250 mail.example.com"),
            ["MAIL", ..] => self.say("250 2.1.0 Ok"),
            ["RCPT", ..] => self.say("250 2.1.5 Ok"),
            ["VRFY", rest @ ..] => self.say(&format!("252 2.0.0 {}", rest.join(" "))),
            ["XCLIENT", ..] => self.say(GREETING),
            ["STARTTLS", ..] => self.say("220 2.0.0 Ready to start TLS"),
            ["ETRN", ..] => self.say("250 Queuing started"),
            ["AUTH", "LOGIN"] => {
                self.state = State::Response(vec!["334 UGFzc3dvcmQ6"]);
                self.say("334 VXNlcm5hbWU6");
            }
            ["AUTH", _] => {
                self.state = State::Response(Vec::new());
                self.say("334 ");
            }
            ["AUTH", ..] => self.say("235 2.7.0 Authentication successful"),
            ["DATA", ..] => {
                self.state = State::Content;
                self.say("354 End data with <CR><LF>.<CR><LF>");
            }
            ["BDAT", octets, rest @ ..] => {
                let reply = if rest.is_empty() {
                    format!("250 2.0.0 Ok: {octets} bytes")
                } else {
                    QUEUED.replace("Ok:", &format!("Ok: {octets} bytes"))
                };
                self.state = State::Chunk(octets.parse().unwrap_or(0), reply);
            }
            ["QUIT", ..] => {
                self.say("221 2.0.0 Bye");
                self.state = State::Closed;
            }
            _ => self.say("250 2.0.0 Ok"),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut server = self.0.borrow_mut();
        server.unread.extend(bytes);
        while server.step().is_some() {}
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Wire {
    /// A server that has nothing to say is waited for in vain.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut server = self.0.borrow_mut();
        if server.said.is_empty() && !matches!(server.state, State::Closed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        server.said.read(into)
    }
}
