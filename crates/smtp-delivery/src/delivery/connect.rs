//! Opening connections: one address after the other, with a head start for the first of two families.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use daemon::{Stream, Wire};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::{Delivery, Site, server_of};
use crate::addresses::Candidate;
use crate::connection::Connection;
use crate::session::{Failure, Server};

/// How long the first address may be silent before one of the other family is tried beside it (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

impl Delivery<'_> {
    /// Connects to the first address of the list, or to one of the other family that answers sooner. What was tried
    /// leaves the list; failures are logged and noted.
    pub(super) async fn open(
        &mut self,
        site: &Site,
        list: &mut VecDeque<Candidate>,
    ) -> Option<(Candidate, Connection)> {
        let first = list.pop_front()?;
        let rival = list.iter().position(|other| is_rival(other, &first, site.of_host));
        let rival = rival.and_then(|at| list.remove(at).map(|other| (at, other)));
        let port = site.destination.port;
        let Some((at, rival)) = rival else {
            return match self.connect(&first, port).await {
                Ok(stream) => Some(self.opened(first, port, stream)),
                Err(error) => {
                    self.not_connected(&server_of(&first, port), &error);
                    None
                }
            };
        };
        let outcome = self.race(&first, &rival, port).await;
        self.settled(outcome, (first, at, rival), port, list)
    }

    /// The first address has a head start; whoever answers then wins.
    async fn race(&self, first: &Candidate, rival: &Candidate, port: u16) -> Race {
        let mut one = std::pin::pin!(self.connect(first, port));
        tokio::select! {
            connected = &mut one => return Race::First(connected),
            () = sleep(HEAD_START) => {}
        }
        let mut other = std::pin::pin!(self.connect(rival, port));
        tokio::select! {
            connected = &mut one => match connected {
                Err(error) => Race::FirstThenRival(error, other.await),
                connected => Race::First(connected),
            },
            connected = &mut other => match connected {
                Ok(stream) => Race::Rival(stream),
                Err(error) => Race::RivalThenFirst(error, one.await),
            },
        }
    }

    /// Who won, and what is left to be tried.
    fn settled(
        &mut self,
        outcome: Race,
        (first, at, rival): (Candidate, usize, Candidate),
        port: u16,
        list: &mut VecDeque<Candidate>,
    ) -> Option<(Candidate, Connection)> {
        let (one, two) = (server_of(&first, port), server_of(&rival, port));
        match outcome {
            Race::First(connected) => {
                list.insert(at.min(list.len()), rival);
                match connected {
                    Ok(stream) => Some(self.opened(first, port, stream)),
                    Err(error) => {
                        self.not_connected(&one, &error);
                        None
                    }
                }
            }
            Race::Rival(stream) => {
                list.push_front(first);
                Some(self.opened(rival, port, stream))
            }
            Race::FirstThenRival(error, connected) => {
                self.not_connected(&one, &error);
                match connected {
                    Ok(stream) => Some(self.opened(rival, port, stream)),
                    Err(error) => {
                        self.not_connected(&two, &error);
                        None
                    }
                }
            }
            Race::RivalThenFirst(error, connected) => {
                self.not_connected(&two, &error);
                match connected {
                    Ok(stream) => Some(self.opened(first, port, stream)),
                    Err(error) => {
                        self.not_connected(&one, &error);
                        None
                    }
                }
            }
        }
    }

    /// The same address once more.
    pub(super) async fn open_again(
        &mut self,
        site: &Site,
        candidate: &Candidate,
    ) -> Option<Connection> {
        let port = site.destination.port;
        match self.connect(candidate, port).await {
            Ok(stream) => Some(self.opened(candidate.clone(), port, stream).1),
            Err(error) => {
                self.not_connected(&server_of(candidate, port), &error);
                None
            }
        }
    }

    pub(super) async fn open_unix(&mut self, path: &str) -> Option<Connection> {
        let settings = &self.service.settings;
        let server =
            Server { host: settings.talk.myhostname.clone(), address: path.to_owned(), port: 0 };
        let full = settings.queue.root.join(path);
        match limited(settings.times.connect, UnixStream::connect(full)).await {
            Ok(stream) => Some(self.connection(server, Stream::Unix(stream))),
            Err(error) => {
                let reason = format!("connect to {}: {}", server.full(), told(&error));
                self.why = Some(Failure::ours("4.4.1", reason));
                None
            }
        }
    }

    fn opened(
        &self,
        candidate: Candidate,
        port: u16,
        stream: TcpStream,
    ) -> (Candidate, Connection) {
        let server = server_of(&candidate, port);
        let connection = self.connection(server, Stream::Tcp(stream));
        (candidate, connection)
    }

    fn connection(&self, server: Server, stream: Stream) -> Connection {
        let mut connection =
            Connection::new(Wire::new(stream), server).filtered(self.service.reply_filter());
        let time = self.service.settings.reuse.time;
        connection.keep_until = self.store.then(|| Instant::now() + time);
        connection
    }

    fn not_connected(&mut self, server: &Server, error: &io::Error) {
        let reason = format!("connect to {}: {}", server.full(), told(error));
        self.service.reporter.note(&reason);
        self.why = Some(Failure::ours("4.4.1", reason));
    }

    async fn connect(&self, candidate: &Candidate, port: u16) -> io::Result<TcpStream> {
        let settings = &self.service.settings;
        let socket = match candidate.address {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        let bind = match candidate.address {
            IpAddr::V4(_) => settings.route.bind4,
            IpAddr::V6(_) => settings.route.bind6,
        };
        if let Some(address) = bind
            && let Err(error) = socket.bind(SocketAddr::new(address, 0))
        {
            let why = told(&error);
            self.service.reporter.note(&format!("warning: bind {address}: {why}"));
            if settings.route.bind_enforce {
                return Err(io::Error::other("server configuration error"));
            }
        }
        let address = SocketAddr::new(candidate.address, port);
        let stream = limited(settings.times.connect, socket.connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Whether an address is as good as the first, and of the other family. Where the policy is that of the first one's host,
/// another host may have TLSA records, so that what is enough for the first is too little there.
fn is_rival(other: &Candidate, first: &Candidate, of_host: bool) -> bool {
    let same = other.host == first.host && other.secure == first.secure;
    other.preference == first.preference
        && other.address.is_ipv4() != first.address.is_ipv4()
        && (same || !of_host)
}

/// How two connections that were tried side by side ended.
enum Race {
    First(io::Result<TcpStream>),
    Rival(TcpStream),
    FirstThenRival(io::Error, io::Result<TcpStream>),
    RivalThenFirst(io::Error, io::Result<TcpStream>),
}

async fn limited<T>(
    limit: Duration,
    connecting: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    if limit.is_zero() {
        return connecting.await;
    }
    timeout(limit, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// strerror's text, without Rust's addition.
fn told(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return "Connection timed out".to_owned();
    }
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_one_host_is_not_used_for_another() {
        let candidate = |host: &str, address: &str, secure| Candidate {
            host: host.to_owned(),
            address: address.parse().unwrap(),
            preference: 10,
            secure,
            mx_secure: Some(true),
            canonical: None,
        };
        let first = candidate("a.example", "192.0.2.1", true);
        for (other, usual, of_host) in [
            (candidate("a.example", "2001:db8::1", true), true, true),
            (candidate("a.example", "2001:db8::1", false), true, false),
            (candidate("b.example", "2001:db8::2", true), true, false),
            (candidate("b.example", "192.0.2.2", true), false, false),
            (
                Candidate { preference: 20, ..candidate("a.example", "2001:db8::1", true) },
                false,
                false,
            ),
        ] {
            assert_eq!(is_rival(&other, &first, false), usual, "{other:?}");
            assert_eq!(is_rival(&other, &first, true), of_host, "{other:?}");
        }
    }
}
