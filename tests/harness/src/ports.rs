//! Loopback ports that no other test uses, below the range the kernel gives to outgoing connections.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpListener;

use nix::fcntl::{Flock, FlockArg};

const FIRST: u16 = 16_000;
const LAST: u16 = 31_900;

/// A port of 127.0.0.1 that nothing listens on and that no other test on this machine is given before
/// some 15,000 others. (The originals can only be told a number, they cannot be handed a socket.)
pub fn free() -> u16 {
    let path = std::env::temp_dir().join("theoris-next-port");
    let file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut counter: Flock<File> =
        Flock::lock(file.unwrap(), FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let mut text = String::new();
    counter.read_to_string(&mut text).unwrap();
    let mut next = text.trim().parse().unwrap_or(FIRST);
    let found = loop {
        next = if (FIRST..LAST).contains(&next) { next + 1 } else { FIRST };
        if TcpListener::bind(("127.0.0.1", next)).is_ok() {
            break next;
        }
    };
    counter.rewind().unwrap();
    counter.set_len(0).unwrap();
    write!(counter, "{found}").unwrap();
    found
}
