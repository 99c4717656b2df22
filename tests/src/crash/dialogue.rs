//! A conversation over TCP in which everything may break at any moment: every end is an error, never a panic.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// SMTP: sends, and returns the last line of a reply that begins with `class`; anything else is an error.
    pub fn expect(&mut self, text: &str, class: char) -> io::Result<String> {
        self.send(text)?;
        loop {
            let line = self.line()?;
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            return if line.starts_with(class) { Ok(line) } else { Err(io::Error::other(line)) };
        }
    }

    /// IMAP: the untagged lines of a command that succeeds; NO and BAD are errors.
    pub fn imap(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.send(&format!("a {command}\r\n"))?;
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            match line.strip_prefix("a ") {
                Some(outcome) if outcome.starts_with("OK") => return Ok(lines),
                Some(_) => return Err(io::Error::other(line)),
                None => lines.push(line),
            }
        }
    }

    /// POP3: the status line of a command that succeeds.
    pub fn pop3(&mut self, command: &str) -> io::Result<String> {
        self.send(&format!("{command}\r\n"))?;
        let line = self.line()?;
        if line.starts_with("+OK") { Ok(line) } else { Err(io::Error::other(line)) }
    }

    /// POP3: the lines of a command that answers with several.
    pub fn pop3_lines(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.pop3(command)?;
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line == "." => return Ok(lines),
                line => lines.push(line),
            }
        }
    }
}
