//! Loopback ports and addresses that no other test uses; ports below the range the kernel gives to outgoing connections.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use nix::fcntl::{Flock, FlockArg};

const FIRST: u16 = 16_000;
const LAST: u16 = 31_900;

/// A port of 127.0.0.1 that nothing listens on and that no other test on this machine is given before
/// some 15,000 others. (The originals can only be told a number, they cannot be handed a socket.)
pub fn free() -> u16 {
    let mut counter = Counter::open("theoris-next-port");
    let mut next = counter.last().and_then(|last| last.try_into().ok()).unwrap_or(FIRST);
    let found = loop {
        next = if (FIRST..LAST).contains(&next) { next + 1 } else { FIRST };
        if TcpListener::bind(("127.0.0.1", next)).is_ok() {
            break next;
        }
    };
    counter.set(found.into());
    found
}

/// An address of 127.0.0.0/8 for a server that wants a port of its own choice, 25 or 53; no other test on this machine
/// is given it before some 60,000 others.
pub fn address() -> Ipv4Addr {
    let mut counter = Counter::open("theoris-next-address");
    let next = counter.last().map_or(0, |last| (last + 1) % 60_000);
    counter.set(next);
    let (high, low) = (next / 250, next % 250);
    Ipv4Addr::new(127, 77, u8::try_from(high).unwrap(), u8::try_from(low + 1).unwrap())
}

/// A number in a file that all tests share; locked while it is held.
struct Counter(Flock<File>);

impl Counter {
    fn open(name: &str) -> Self {
        let path = std::env::temp_dir().join(name);
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        Self(Flock::lock(file.unwrap(), FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap())
    }

    fn last(&mut self) -> Option<u32> {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text.trim().parse().ok()
    }

    fn set(&mut self, number: u32) {
        self.0.rewind().unwrap();
        self.0.set_len(0).unwrap();
        write!(self.0, "{number}").unwrap();
    }
}
