//! What the filter says and logs: values, so that a test can look at them.

use protocol::milter::Reply;

/// Syslog's levels, as OpenDKIM uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

/// The answer to one event.
#[derive(Debug, Default)]
pub struct Output {
    pub replies: Vec<Reply>,
    pub lines: Vec<(Level, String)>,
}

impl Output {
    pub fn reply(reply: Reply) -> Self {
        Self { replies: vec![reply], lines: Vec::new() }
    }

    pub fn log(&mut self, level: Level, text: String) {
        self.lines.push((level, text));
    }
}
