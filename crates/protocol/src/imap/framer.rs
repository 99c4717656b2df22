//! Cuts what a client sends into commands (RFC 3501 section 4.3, RFC 7888).
//!
//! A command is one line, or several joined by literals. Small literals stay where they stood, so
//! that a complete command is one slice; the content of an APPEND is never kept here.

use std::mem;

use super::append;

/// What one command may hold. What is longer is refused, never kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of one command, its small literals included (`imap_max_line_length`).
    pub command: usize,
    /// Whether an APPEND may announce a message: only after the login.
    pub messages: bool,
}

/// What the framer found in the octets it took.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything was taken, no command is complete.
    More,
    /// The client waits for `+ OK` before it sends its literal.
    Continue,
    /// A complete command without its line end.
    Command(Vec<u8>),
    /// An APPEND up to its message, of which `size` octets follow.
    Message { command: Vec<u8>, size: u64, waits: bool },
    /// A command was longer than the limit. Its end has been reached; this is how it began.
    TooLong { start: Vec<u8> },
    /// The client announced what nobody keeps; it must be left: `* BYE Literal size too large`.
    LiteralTooLarge,
}

/// How much of an over-long command is kept to answer it with its tag.
const KEPT_START: usize = 256;

#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    command: Vec<u8>,
    /// Where the current line begins in `command`: behind the last literal.
    line_start: usize,
    literal_left: usize,
    too_long: bool,
}

/// A literal's announcement at the end of a line.
#[derive(Debug, PartialEq, Eq)]
struct Announcement {
    /// Where its `{` stands.
    at: usize,
    /// `None` for a number beyond all numbers.
    size: Option<u64>,
    waits: bool,
}

impl Framer {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, command: Vec::new(), line_start: 0, literal_left: 0, too_long: false }
    }

    /// Whether a command has begun and is not complete.
    #[must_use]
    pub fn is_within_command(&self) -> bool {
        !self.command.is_empty() || self.too_long
    }

    /// Takes octets from the front of `input`, up to the first event. Says how many it took.
    pub fn take(&mut self, input: &[u8]) -> (usize, Event) {
        let mut taken = 0;
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return (taken, Event::More);
            }
            if self.literal_left > 0 {
                let count = rest.len().min(self.literal_left);
                self.keep(rest.get(..count).unwrap_or_default());
                self.literal_left -= count;
                self.line_start = self.command.len();
                taken += count;
                continue;
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                self.keep(rest);
                return (input.len(), Event::More);
            };
            self.keep(rest.get(..end).unwrap_or_default());
            taken += end + 1;
            if let Some(event) = self.line_ended() {
                return (taken, event);
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.too_long {
            return;
        }
        if self.command.len() + bytes.len() > self.limits.command {
            self.too_long = true;
            let missing = KEPT_START.saturating_sub(self.command.len()).min(bytes.len());
            self.command.extend_from_slice(bytes.get(..missing).unwrap_or_default());
            self.command.truncate(KEPT_START);
            self.line_start = self.command.len();
            return;
        }
        self.command.extend_from_slice(bytes);
    }

    /// A line feed came: is the command complete, or does a literal follow?
    fn line_ended(&mut self) -> Option<Event> {
        if self.too_long {
            self.too_long = false;
            self.line_start = 0;
            return Some(Event::TooLong { start: mem::take(&mut self.command) });
        }
        if self.command.len() > self.line_start && self.command.last() == Some(&b'\r') {
            self.command.pop();
        }
        let line = self.command.get(self.line_start..).unwrap_or_default();
        let Some(literal) = Announcement::at_end_of(line) else {
            self.line_start = 0;
            return Some(Event::Command(mem::take(&mut self.command)));
        };
        let at = self.line_start + literal.at;
        let before = self.command.get(..at).unwrap_or_default();
        match append::message_follows(before) {
            append::Place::Message if self.limits.messages => {
                let Some(size) = literal.size else { return Some(Event::LiteralTooLarge) };
                self.command.truncate(at);
                self.line_start = 0;
                let command = mem::take(&mut self.command);
                return Some(Event::Message { command, size, waits: literal.waits });
            }
            // What is wrong with it is found when the command is read; its literal is none.
            append::Place::Wrong if self.limits.messages => {
                self.line_start = 0;
                return Some(Event::Command(mem::take(&mut self.command)));
            }
            _ => {}
        }
        let room = self.limits.command.saturating_sub(self.command.len() + 2);
        match literal.size.and_then(|size| usize::try_from(size).ok()) {
            Some(size) if size <= room => {
                self.command.extend_from_slice(b"\r\n");
                self.line_start = self.command.len();
                self.literal_left = size;
                literal.waits.then_some(Event::Continue)
            }
            _ => Some(Event::LiteralTooLarge),
        }
    }
}

impl Announcement {
    /// Reads `{number}` or `{number+}` at the end of a line.
    fn at_end_of(line: &[u8]) -> Option<Self> {
        let inner = line.strip_suffix(b"}")?;
        let at = inner.iter().rposition(|&byte| byte == b'{')?;
        let mut number = inner.get(at + 1..)?;
        let waits = match number.strip_suffix(b"+") {
            Some(rest) => {
                number = rest;
                false
            }
            None => true,
        };
        if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let size = str::from_utf8(number).ok().and_then(|text| text.parse().ok());
        Some(Self { at, size, waits })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { command: 1000, messages: true };

    /// Every event of `input`, which arrives in pieces of `step` octets; messages are skipped over.
    fn events(input: &[u8], step: usize, limits: Limits) -> Vec<Event> {
        let mut framer = Framer::new(limits);
        let mut found = Vec::new();
        let mut skip = 0;
        for piece in input.chunks(step.max(1)) {
            let mut rest = piece;
            while !rest.is_empty() {
                let skipped = rest.len().min(skip);
                rest = &rest[skipped..];
                skip -= skipped;
                let (taken, event) = framer.take(rest);
                rest = &rest[taken..];
                match event {
                    Event::More => {}
                    Event::Message { size, .. } => {
                        skip = usize::try_from(size).unwrap();
                        found.push(event);
                    }
                    Event::LiteralTooLarge => {
                        found.push(event);
                        return found;
                    }
                    _ => found.push(event),
                }
            }
        }
        found
    }

    fn command(text: &str) -> Event {
        Event::Command(text.into())
    }

    #[test]
    fn lines_and_literals_become_commands() {
        for (input, expected) in [
            ("a NOOP\r\nb NOOP\n", vec![command("a NOOP"), command("b NOOP")]),
            ("a LOGIN {3}\r\nbob x\r\n", vec![Event::Continue, command("a LOGIN {3}\r\nbob x")]),
            ("a LOGIN {3+}\r\nb\nb {0+}\r\n\r\n", vec![command("a LOGIN {3+}\r\nb\nb {0+}\r\n")]),
            ("a X {3}\r\n{9} y\r\n", vec![Event::Continue, command("a X {3}\r\n{9} y")]),
            ("a X {x}\r\n\r\n", vec![command("a X {x}"), command("")]),
            (
                "a APPEND in (\\Seen) {5+}\r\nhello\r\n",
                vec![
                    Event::Message {
                        command: b"a APPEND in (\\Seen) ".to_vec(),
                        size: 5,
                        waits: false,
                    },
                    command(""),
                ],
            ),
            (
                "a append {2+}\r\nin {9}\r\n123456789\r\n",
                vec![
                    Event::Message {
                        command: b"a append {2+}\r\nin ".to_vec(),
                        size: 9,
                        waits: true,
                    },
                    command(""),
                ],
            ),
            ("a APPEND in (\\Seen {5}\r\n", vec![command("a APPEND in (\\Seen {5}")]),
        ] {
            assert_eq!(events(input.as_bytes(), 9999, LIMITS), expected, "{input:?}");
        }
    }

    #[test]
    fn too_much_is_refused_and_not_kept() {
        let long = format!("tag NOOP {}\r\nb NOOP\r\n", "x".repeat(5000));
        let found = events(long.as_bytes(), 700, LIMITS);
        let [Event::TooLong { start }, next] = &found[..] else { panic!("{found:?}") };
        assert!(start.starts_with(b"tag NOOP xxx") && start.len() <= KEPT_START);
        assert_eq!(*next, command("b NOOP"));
        for input in ["a LOGIN {4294967296}\r\n", "a LOGIN {4294967296+}\r\n", "a X {999}\r\n"] {
            assert_eq!(events(input.as_bytes(), 1, LIMITS), [Event::LiteralTooLarge]);
        }
        let before_login = Limits { messages: false, ..LIMITS };
        let input = b"a APPEND in {4000}\r\n";
        assert_eq!(events(input, 99, before_login), [Event::LiteralTooLarge]);
        let input = b"a APPEND in {99999999999999999999999}\r\n";
        assert_eq!(events(input, 99, LIMITS), [Event::LiteralTooLarge]);
    }

    proptest! {
        #[test]
        fn one_octet_at_a_time_is_the_same_as_all_at_once(
            input in "([a-c {}()+0-9\r\n]|APPEND |\\{2\\}\r\n|\\{1\\+\\}\r\n|\r\n){0,60}",
            step in 1_usize..7,
        ) {
            let whole = events(input.as_bytes(), usize::MAX, LIMITS);
            prop_assert_eq!(events(input.as_bytes(), step, LIMITS), whole);
        }
    }
}
