//! A session after the login, without its socket: commands go in, [`Answer`]s come out (RFC 1939
//! sections 5 to 7).

use crate::maildrop::Maildrop;
use crate::settings::Settings;
use mail_types::Uid;
use mailstore::StoreError;
use protocol::pop3::{BadArgument, MessageNumber, Transaction};

/// What the connection does with a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Whole lines, with their CRLF.
    Say(String),
    /// `line`, then the message, to be counted with [`Session::sent`]; `lines` of its body for TOP.
    Message { line: String, uid: Uid, lines: Option<u64> },
    /// QUIT: [`Session::commit`], then say what it says.
    Quit,
    /// Too many commands that make no sense.
    Leave(String),
}

/// The counts of the line at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub top: u64,
    pub top_bytes: u64,
    pub retrieved: u64,
    pub retrieved_bytes: u64,
    pub deleted: u64,
    pub messages: u64,
    pub size: u64,
}

/// More commands in a row than this that nobody knows end the session.
const MOST_MISTAKES: u32 = 20;

pub struct Session {
    maildrop: Maildrop,
    deleted: Vec<bool>,
    seen: Vec<bool>,
    /// The highest number that was retrieved.
    last: u32,
    counts: Counts,
    mistakes: u32,
    enable_last: bool,
    flag_updates: bool,
    uidls: Option<Vec<String>>,
}

fn say(text: impl std::fmt::Display) -> Answer {
    Answer::Say(format!("{text}\r\n"))
}

impl Session {
    #[must_use]
    pub fn new(maildrop: Maildrop, settings: &Settings) -> Self {
        let count = maildrop.entries().len();
        let size = maildrop.entries().iter().map(|entry| entry.size).sum();
        Self {
            maildrop,
            deleted: vec![false; count],
            seen: vec![false; count],
            last: 0,
            counts: Counts { messages: count as u64, size, ..Counts::default() },
            mistakes: 0,
            enable_last: settings.enable_last,
            flag_updates: !settings.no_flag_updates,
            uidls: None,
        }
    }

    pub fn maildrop(&mut self) -> &mut Maildrop {
        &mut self.maildrop
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes one command line, without its CRLF.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read any more; the session ends.
    pub fn command(&mut self, line: &[u8]) -> Result<Answer, StoreError> {
        let command = Transaction::parse(line);
        if !matches!(command, Transaction::Unknown(_) | Transaction::Last) {
            self.mistakes = 0;
        }
        Ok(match command {
            Transaction::Capa => Answer::Say(
                "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n.\r\n"
                    .to_owned(),
            ),
            Transaction::Noop => say("+OK"),
            Transaction::Stat => {
                let (count, size) = self.totals();
                say(format_args!("+OK {count} {size}"))
            }
            Transaction::List(None) => self.list(),
            Transaction::List(Some(number)) => self.with(number, |session, index| {
                let size = session.maildrop.entries()[index].size;
                say(format_args!("+OK {} {size}", index + 1))
            }),
            Transaction::Uidl(None) => self.all_uidls()?,
            Transaction::Uidl(Some(number)) => {
                let uidls = self.uidls()?.to_vec();
                self.with(number, |_, index| {
                    say(format_args!("+OK {} {}", index + 1, uidls[index]))
                })
            }
            Transaction::Retr(number) => self.with(number, Self::retrieve),
            Transaction::Top { message, lines } => {
                self.with(message, |session, index| session.top(index, lines))
            }
            Transaction::Dele(number) => self.with(number, |session, index| {
                session.deleted[index] = true;
                session.counts.deleted += 1;
                say("+OK Marked to be deleted.")
            }),
            Transaction::Rset => {
                self.deleted.fill(false);
                self.seen.fill(false);
                self.counts.deleted = 0;
                self.last = 0;
                say("+OK")
            }
            Transaction::Last if self.enable_last => say(format_args!("+OK {}", self.last)),
            Transaction::Last => self.unknown("LAST"),
            Transaction::Quit => Answer::Quit,
            Transaction::Unknown(name) => self.unknown(&name),
        })
    }

    fn unknown(&mut self, name: &str) -> Answer {
        self.mistakes += 1;
        if self.mistakes > MOST_MISTAKES {
            return Answer::Leave("-ERR Too many bad commands.\r\n".to_owned());
        }
        match name {
            "" => say("-ERR Unknown command."),
            name => say(format_args!("-ERR Unknown command: {name}")),
        }
    }

    /// Runs `act` on the message of this number, if there is one that is not deleted.
    fn with(
        &mut self,
        number: MessageNumber,
        act: impl FnOnce(&mut Self, usize) -> Answer,
    ) -> Answer {
        let number = match number {
            Ok(number) => number,
            Err(bad) => return say(format_args!("-ERR {bad}")),
        };
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Some((index, *self.deleted.get(index)?))) {
            None => say(format_args!("-ERR There's no message {number}.")),
            Some((_, true)) => say("-ERR Message is deleted."),
            Some((index, false)) => act(self, index),
        }
    }

    /// Messages that are not deleted, and their size.
    fn totals(&self) -> (usize, u64) {
        let live =
            self.maildrop.entries().iter().zip(&self.deleted).filter(|(_, deleted)| !**deleted);
        live.fold((0, 0), |(count, size), (entry, _)| (count + 1, size + entry.size))
    }

    fn list(&self) -> Answer {
        let mut text = format!("+OK {} messages:\r\n", self.totals().0);
        for (index, entry) in self.maildrop.entries().iter().enumerate() {
            if !self.deleted[index] {
                text.push_str(&format!("{} {}\r\n", index + 1, entry.size));
            }
        }
        text.push_str(".\r\n");
        Answer::Say(text)
    }

    fn uidls(&mut self) -> Result<&[String], StoreError> {
        if self.uidls.is_none() {
            self.uidls = Some(self.maildrop.uidls()?);
        }
        Ok(self.uidls.as_deref().unwrap_or_default())
    }

    fn all_uidls(&mut self) -> Result<Answer, StoreError> {
        let deleted = self.deleted.clone();
        let mut text = "+OK\r\n".to_owned();
        for (index, uidl) in self.uidls()?.iter().enumerate() {
            if !deleted[index] {
                text.push_str(&format!("{} {uidl}\r\n", index + 1));
            }
        }
        text.push_str(".\r\n");
        Ok(Answer::Say(text))
    }

    fn retrieve(&mut self, index: usize) -> Answer {
        let entry = &self.maildrop.entries()[index];
        let (uid, line) = (entry.uid, format!("+OK {} octets\r\n", entry.size));
        self.counts.retrieved += 1;
        self.seen[index] = true;
        self.last = self.last.max(u32::try_from(index + 1).unwrap_or(u32::MAX));
        Answer::Message { line, uid, lines: None }
    }

    fn top(&mut self, index: usize, lines: Result<u64, BadArgument>) -> Answer {
        match lines {
            Err(bad) => say(format_args!("-ERR {bad}")),
            Ok(lines) => {
                self.counts.top += 1;
                let uid = self.maildrop.entries()[index].uid;
                Answer::Message { line: "+OK\r\n".to_owned(), uid, lines: Some(lines) }
            }
        }
    }

    /// Counts what a message took on the wire: the answer's line and the text, without the line with
    /// the dot.
    pub fn sent(&mut self, top: bool, octets: u64) {
        if top {
            self.counts.top_bytes += octets;
        } else {
            self.counts.retrieved_bytes += octets;
        }
    }

    /// QUIT: \Seen is set, deleted messages go. Gives the line to say.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nobody may believe that the messages are gone.
    pub fn commit(&mut self) -> Result<&'static str, StoreError> {
        self.keep_seen()?;
        let marked = self.marked(&self.deleted);
        self.maildrop.delete(&marked)?;
        Ok(if marked.is_empty() {
            "+OK Logging out.\r\n"
        } else {
            "+OK Logging out, messages deleted.\r\n"
        })
    }

    /// Without a QUIT nothing is deleted (RFC 1939 section 6), but what was read was read.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn keep_seen(&mut self) -> Result<(), StoreError> {
        if !self.flag_updates {
            return Ok(());
        }
        let seen = self.marked(&self.seen);
        self.maildrop.mark_seen(&seen)
    }

    fn marked(&self, marks: &[bool]) -> Vec<Uid> {
        let entries = self.maildrop.entries().iter().zip(marks);
        entries.filter(|(_, marked)| **marked).map(|(entry, _)| entry.uid).collect()
    }
}

#[cfg(test)]
mod tests;
