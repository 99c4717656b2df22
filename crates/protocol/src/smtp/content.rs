//! Message content as it comes over the wire: DATA with its dots, BDAT with its counts.
//!
//! Only `<CRLF>.<CRLF>` ends DATA, whatever a setting says: every other reading lets a sender smuggle a second
//! message past a relay that reads differently. A line that ends in a bare LF is still a line, and a lone dot
//! between bare line feeds is dropped like in Postfix's `smtpd_forbid_bare_newline = normalize`. A CR that no LF
//! follows is content here (cleanup turns it into a blank).

/// How a physical line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The line goes on: it is longer than the limit, or its end has not come yet.
    Continued,
    Crlf,
    BareLf,
    /// The last chunk ended without a line ending.
    Nothing,
}

/// What the next bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All bytes are used up (a few may be held back); feed more.
    NeedMore,
    /// A line, or a piece of one, without line ending and without the dot that stuffing added.
    Line(&'a [u8], Ending),
    /// The end of the content. What follows is commands.
    End,
}

/// Reads the content after DATA.
#[derive(Debug)]
pub struct Content {
    lines: Lines,
    /// The line before ended in a bare LF; the beginning counts as after CRLF.
    after_bare_lf: bool,
    continued: bool,
}

impl Content {
    /// `limit`: `line_length_limit`, the longest piece that comes as one line.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { lines: Lines::new(limit), after_bare_lf: false, continued: false }
    }

    /// Looks at `input` and says how many of its bytes are used up by the event.
    pub fn next<'a>(&'a mut self, input: &[u8]) -> (usize, Event<'a>) {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (taken, ending) = self.lines.take(rest);
            used += taken;
            let Some(ending) = ending else {
                return (used, Event::NeedMore);
            };
            let first_piece = !self.continued;
            let after_bare_lf = self.after_bare_lf;
            self.continued = ending == Ending::Continued;
            self.after_bare_lf = ending == Ending::BareLf;
            let line_is_dot = first_piece && self.lines.line() == b".";
            if line_is_dot && ending == Ending::Crlf && !after_bare_lf {
                return (used, Event::End);
            }
            if line_is_dot && ending != Ending::Continued {
                continue; // a lone dot beside a bare LF: neither an end nor content
            }
            let skip = usize::from(first_piece && self.lines.line().first() == Some(&b'.'));
            return (used, Event::Line(self.lines.line().get(skip..).unwrap_or_default(), ending));
        }
    }
}

/// Reads the content of BDAT chunks; one value for all chunks of a message.
#[derive(Debug)]
pub struct Chunk {
    lines: Lines,
    left: u64,
    last: bool,
    ended: bool,
}

impl Chunk {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { lines: Lines::new(limit), left: 0, last: false, ended: false }
    }

    /// A chunk of `size` octets follows. Its last line may continue in the next one.
    pub fn begin(&mut self, size: u64, last: bool) {
        self.left = size;
        self.last = last;
        self.ended = false;
    }

    /// Octets of this chunk that have not come yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// As [`Content::next`]; [`Event::End`] is the end of this chunk.
    pub fn next<'a>(&'a mut self, input: &[u8]) -> (usize, Event<'a>) {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (used, ending) = self.lines.take(input.get(..most).unwrap_or_default());
        self.left -= used as u64;
        if let Some(ending) = ending {
            return (used, Event::Line(self.lines.line(), ending));
        }
        if self.left > 0 {
            return (used, Event::NeedMore);
        }
        if self.last && !self.ended {
            self.ended = true;
            if self.lines.finish() {
                return (used, Event::Line(self.lines.line(), Ending::Nothing));
            }
        }
        (used, Event::End)
    }
}

/// Physical lines, at most `limit` octets at a time.
#[derive(Debug)]
struct Lines {
    limit: usize,
    buffer: Vec<u8>,
    /// The last octet was a CR whose meaning the next one decides.
    pending_cr: bool,
    handed_out: bool,
}

impl Lines {
    fn new(limit: usize) -> Self {
        Self { limit: limit.max(2), buffer: Vec::new(), pending_cr: false, handed_out: false }
    }

    fn line(&self) -> &[u8] {
        &self.buffer
    }

    /// Uses up input until a line or a full piece of one is in the buffer.
    fn take(&mut self, input: &[u8]) -> (usize, Option<Ending>) {
        if std::mem::take(&mut self.handed_out) {
            self.buffer.clear();
        }
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            if self.pending_cr {
                self.pending_cr = false;
                if byte == b'\n' {
                    self.handed_out = true;
                    return (used + 1, Some(Ending::Crlf));
                }
                self.buffer.push(b'\r');
                if self.buffer.len() >= self.limit {
                    self.handed_out = true;
                    return (used, Some(Ending::Continued));
                }
                continue; // looks at this byte again
            }
            match byte {
                b'\r' => {
                    self.pending_cr = true;
                    used += 1;
                }
                b'\n' => {
                    self.handed_out = true;
                    return (used + 1, Some(Ending::BareLf));
                }
                _ => {
                    let room = self.limit - self.buffer.len();
                    let rest = input.get(used..).unwrap_or_default();
                    let run =
                        rest.iter().take(room).take_while(|&&b| b != b'\r' && b != b'\n').count();
                    self.buffer.extend_from_slice(rest.get(..run).unwrap_or_default());
                    used += run;
                    if self.buffer.len() >= self.limit {
                        // Its line ending, if it is next, makes an empty piece of its own, as in Postfix.
                        self.handed_out = true;
                        return (used, Some(Ending::Continued));
                    }
                }
            }
        }
        (used, None)
    }

    /// At the end of everything: is there an unfinished line?
    fn finish(&mut self) -> bool {
        if std::mem::take(&mut self.pending_cr) {
            self.buffer.push(b'\r');
        }
        self.handed_out = true;
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
