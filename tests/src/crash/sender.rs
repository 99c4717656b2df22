//! A sender for whom everything may break at any moment, and who remembers what was promised to him.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::SystemTime;

use super::RECIPIENTS;
use super::dialogue::Dialogue;

/// What all senders together have done.
#[derive(Default)]
pub struct Ledger {
    pub accepted: Mutex<Vec<Accepted>>,
    /// Transactions that have begun and have no outcome yet.
    pub in_flight: AtomicUsize,
    pub stop: AtomicBool,
    /// Refusals that no crash excuses.
    pub wrong: Mutex<Vec<String>>,
    /// Held for writing while a daemon is down.
    pub down: RwLock<()>,
    next: AtomicUsize,
}

/// A message that got a 250.
#[derive(Debug)]
pub struct Accepted {
    pub message_id: String,
    pub queue_id: String,
    /// When its transaction began.
    pub since: SystemTime,
}

/// The port to send to, and whether one logs in there.
#[derive(Clone, Copy)]
pub struct Door {
    pub port: u16,
    pub login: bool,
}

/// user1@example.com, secret
const PLAIN: &str = "AHVzZXIxQGV4YW1wbGUuY29tAHNlY3JldA==";

impl Ledger {
    /// Sends one message after the other until it is told to stop.
    pub fn send_all(&self, door: Door) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.send(door) {
                let text = error.to_string();
                if text.starts_with('5') {
                    self.wrong.lock().unwrap().push(text);
                }
                drop(self.down.read());
            }
        }
    }

    /// One message in a connection of its own.
    pub fn send(&self, door: Door) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("<{number}@crash.example>");
        let mut client = Dialogue::connect(door.port)?;
        client.expect("", '2')?;
        client.expect("EHLO client.example\r\n", '2')?;
        if door.login {
            client.expect(&format!("AUTH PLAIN {PLAIN}\r\n"), '2')?;
        }
        let since = SystemTime::now();
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
        self.accepted.lock().unwrap().push(Accepted { message_id: id, queue_id, since });
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
