//! Ports bound in the moment in which an original closes them: clients wait in the queue until ours has started.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::process::Address;

/// Between two attempts: the gap is hardly longer.
const ATTEMPT: Duration = Duration::from_micros(500);
const BACKLOG: i32 = 4096;

/// Listening sockets, and how long nobody listened at most.
#[derive(Debug)]
pub struct Caught {
    pub sockets: Vec<OwnedFd>,
    pub gap: Duration,
}

/// Attempts under way.
#[derive(Debug)]
pub struct Catch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Caught>>,
}

impl Catch {
    /// Begins to try for the ports among these addresses.
    pub fn begin(at: &[Address]) -> Self {
        let port = |at: &Address| if let Address::Tcp(at) = at { Some(*at) } else { None };
        let ports: Vec<SocketAddr> = at.iter().filter_map(port).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || all(&ports, &stopped));
        Self { stop, thread }
    }

    /// Waits until all are bound; nothing when that takes longer, or an address cannot be bound at all.
    pub fn within(self, limit: Duration) -> Option<Caught> {
        let begin = Instant::now();
        while !self.thread.is_finished() && begin.elapsed() < limit {
            std::thread::sleep(ATTEMPT);
        }
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten()
    }
}

fn all(ports: &[SocketAddr], stop: &AtomicBool) -> Option<Caught> {
    let begin = Instant::now();
    let mut taken_at = vec![begin; ports.len()];
    let mut sockets: Vec<Option<OwnedFd>> = ports.iter().map(|_| None).collect();
    let mut gap = Duration::ZERO;
    while sockets.iter().any(Option::is_none) {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        for ((at, socket), last) in ports.iter().zip(&mut sockets).zip(&mut taken_at) {
            if socket.is_some() {
                continue;
            }
            let now = Instant::now();
            match bound(*at) {
                Ok(new) => {
                    *socket = Some(new);
                    gap = gap.max(last.elapsed());
                }
                Err(Errno::ADDRINUSE) => *last = now, // somebody listened then
                Err(_) => return None,
            }
        }
        std::thread::sleep(ATTEMPT);
    }
    Some(Caught { sockets: sockets.into_iter().flatten().collect(), gap })
}

/// It can be shared from its birth, so that the original can bind beside it on the way back.
fn bound(at: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_port_is_caught_when_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert!(Catch::begin(&[Address::Tcp(at)]).within(Duration::from_millis(5)).is_none());
        let catch = Catch::begin(&[Address::Tcp(at)]);
        std::thread::park_timeout(Duration::from_millis(5));
        drop(listener);
        let caught = catch.within(Duration::from_secs(5)).unwrap();
        assert_eq!(caught.sockets.len(), 1);
        assert!(TcpStream::connect(at).is_ok());
    }
}
