//! A sender for whom everything may break at any moment, and who remembers what was promised to him.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::RECIPIENTS;

/// What all senders together have done.
#[derive(Default)]
pub struct Ledger {
    /// Message-IDs that got a 250, with the queue id.
    pub accepted: Mutex<Vec<(String, String)>>,
    /// Transactions that have begun and have no outcome yet.
    pub in_flight: AtomicUsize,
    pub stop: AtomicBool,
    next: AtomicUsize,
}

impl Ledger {
    /// Sends one message after the other until it is told to stop.
    pub fn send_all(&self, port: u16) {
        while !self.stop.load(Ordering::Relaxed) {
            if self.send(port).is_err() {
                std::thread::sleep(Duration::from_millis(2)); // the daemon is just being started
            }
        }
    }

    /// One message in a connection of its own.
    pub fn send(&self, port: u16) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("<{number}@crash.example>");
        let mut client = Dialogue::connect(port)?;
        client.expect("", '2')?;
        client.expect("EHLO client.example\r\n", '2')?;
        client.expect("MAIL FROM:<sender@elsewhere.example>\r\n", '2')?;
        let _in_flight = InFlight::begin(&self.in_flight);
        for recipient in RECIPIENTS {
            client.expect(&format!("RCPT TO:<{recipient}>\r\n"), '2')?;
        }
        client.expect("DATA\r\n", '3')?;
        let body = "The planks were replaced one by one.\r\n".repeat(20);
        let reply = client
            .expect(&format!("Subject: {number}\r\nMessage-ID: {id}\r\n\r\n{body}.\r\n"), '2')?;
        let queue_id = reply.rsplit(' ').next().unwrap_or_default().to_owned();
        self.accepted.lock().unwrap().push((id, queue_id));
        let _ = client.expect("QUIT\r\n", '2');
        Ok(())
    }
}

struct InFlight<'ledger>(&'ledger AtomicUsize);

impl<'ledger> InFlight<'ledger> {
    fn begin(count: &'ledger AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends, and returns the last line of a reply that begins with `class`; anything else is an error.
    fn expect(&mut self, text: &str, class: char) -> io::Result<String> {
        self.0.get_mut().write_all(text.as_bytes())?;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            let line = line.trim_end().to_owned();
            return if line.starts_with(class) { Ok(line) } else { Err(io::Error::other(line)) };
        }
    }
}
