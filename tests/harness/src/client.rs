//! A bare client for line protocols: sends lines, reads replies, shows both when a test stops.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::log::PATIENCE;

/// One connection, with everything said on it so far.
pub struct Client {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    pub transcript: String,
}

impl Client {
    #[track_caller]
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = stream.try_clone().unwrap();
        Self {
            reader: BufReader::new(Box::new(reader)),
            writer: Box::new(stream),
            transcript: String::new(),
        }
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        let stream =
            UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = stream.try_clone().unwrap();
        Self {
            reader: BufReader::new(Box::new(reader)),
            writer: Box::new(stream),
            transcript: String::new(),
        }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.transcript.push_str(&format!("C: {}\n", bytes.escape_ascii()));
        self.writer.write_all(bytes).unwrap();
        self.writer.flush().unwrap();
    }

    /// Sends a line with CRLF.
    pub fn send(&mut self, line: &str) {
        self.raw(format!("{line}\r\n").as_bytes());
    }

    /// Reads a line without its ending; empty at the end of the connection.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        if let Err(error) = self.reader.read_until(b'\n', &mut line) {
            panic!("no line: {error}; so far:\n{}", self.transcript);
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        self.transcript.push_str(&format!("S: {text}\n"));
        text
    }

    /// Reads exactly `length` bytes.
    #[track_caller]
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if let Err(error) = self.reader.read_exact(&mut bytes) {
            panic!("no {length} bytes: {error}; so far:\n{}", self.transcript);
        }
        bytes
    }

    /// Reads a whole SMTP reply, its lines joined by newlines.
    #[track_caller]
    pub fn reply(&mut self) -> String {
        let mut reply = self.line();
        while reply.lines().last().is_some_and(|line| line.as_bytes().get(3) == Some(&b'-')) {
            reply = format!("{reply}\n{}", self.line());
        }
        reply
    }

    /// Sends a line and reads an SMTP reply.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.reply()
    }

    /// Sends a line and stops the test unless the reply starts with `wanted`.
    #[track_caller]
    pub fn expect(&mut self, line: &str, wanted: &str) -> String {
        let reply = self.ask(line);
        assert!(reply.starts_with(wanted), "wanted {wanted:?}:\n{}", self.transcript);
        reply
    }

    /// Sends an IMAP command with its tag and reads up to its tagged response.
    #[track_caller]
    pub fn imap(&mut self, tag: &str, command: &str) -> Vec<String> {
        self.send(&format!("{tag} {command}"));
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let last = line.starts_with(&format!("{tag} ")) || line.is_empty();
            lines.push(line);
            if last {
                return lines;
            }
        }
    }
}
