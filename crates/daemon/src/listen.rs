//! Listening sockets: bound by the supervisor or inherited from a service manager, and accepted
//! from in the workers.
//!
//! A unix socket is bound at a temporary name with its mode and owner and then renamed over its
//! path, so a client never meets a missing or half-made socket, and a stale one is replaced.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, UnixListener};

use crate::descriptors;
use crate::plan::{At, Owner};
use crate::stream::{Connection, Peer, Stream};

/// Connections that may wait; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Binds and listens.
///
/// # Errors
///
/// If the address is taken, or the path holds something that is no socket.
pub fn bind(at: &At) -> io::Result<OwnedFd> {
    match at {
        At::Tcp(address) => bind_tcp(*address),
        At::Unix { path, mode, owner } => bind_unix(path, *mode, *owner),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?; // as the originals: 0.0.0.0 is bound beside [::]
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32, owner: Owner) -> io::Result<OwnedFd> {
    let occupied = fs::symlink_metadata(path);
    if occupied.is_ok_and(|facts| !facts.file_type().is_socket() && !facts.file_type().is_fifo()) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is no socket"));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::File::open(parent.unwrap_or(Path::new(".")))?;
    // Through the open directory: sun_path holds 107 bytes, and queue directories may be long.
    let temporary = format!(
        "/proc/self/fd/{}/.theoris-{}-{}",
        directory.as_raw_fd(),
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    rustix::net::bind(&socket, &SocketAddrUnix::new(temporary.as_str())?)?;
    let placed = fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
        .and_then(|()| match owner {
            Owner { uid: None, gid: None } => Ok(()),
            Owner { uid, gid } => chown(&temporary, uid, gid),
        })
        .and_then(|()| Ok(rustix::net::listen(&socket, BACKLOG)?))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = placed {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(socket)
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The sockets that a service manager passed (`LISTEN_FDS`, `LISTEN_FDNAMES`), by name. Ask once,
/// before any thread exists: it takes the variables out of the environment.
pub(crate) fn inherited() -> (Vec<(String, OwnedFd)>, Vec<String>) {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = listenfd::ListenFd::from_env();
    let (mut sockets, mut refused) = (Vec::new(), Vec::new());
    for index in 0..passed.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown".to_owned());
        let socket = match passed.take_tcp_listener(index) {
            Ok(Some(socket)) => Ok(OwnedFd::from(socket)),
            _ => match passed.take_unix_listener(index) {
                Ok(Some(socket)) => Ok(OwnedFd::from(socket)),
                _ => Err(format!("inherited descriptor {name} is no listening stream socket")),
            },
        };
        match socket {
            Ok(socket) => sockets.push((name, socket)),
            Err(problem) => refused.push(problem),
        }
    }
    (sockets, refused)
}

/// The name of sockets that `theoris adopt` took from an original: they are used for the addresses that they have.
pub(crate) const TAKEN: &str = "taken-over";

/// The sockets that `theoris adopt` offers at `path` while it starts this daemon; none at any other time. Only root, or
/// who runs this daemon, is believed.
pub(crate) fn taken_over(path: &Path) -> io::Result<Vec<(String, OwnedFd)>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let offers = sockopt::socket_peercred(&socket)?.uid;
    if !offers.is_root() && offers != rustix::process::geteuid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "offered by somebody else"));
    }
    descriptors::wait(&socket, Duration::from_secs(2))?;
    let taken = descriptors::receive(&socket)?.descriptors;
    Ok(taken.into_iter().map(|socket| (TAKEN.to_owned(), socket)).collect())
}

/// What stands at a path: another socket has another number.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let facts = fs::symlink_metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}

/// Where a listening socket really is: the port that the system chose, or the path.
pub fn address(socket: &OwnedFd) -> String {
    let Ok(address) = rustix::net::getsockname(socket) else { return "unknown".to_owned() };
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return address.to_string();
    }
    SocketAddrUnix::try_from(address)
        .ok()
        .and_then(|unix| Some(unix.path()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "unix".to_owned())
}

/// What a worker accepts from: all sockets that share a name.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    sockets: Vec<Socket>,
    /// Where the next look begins, so that a busy socket does not starve the others.
    turn: AtomicUsize,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// # Errors
    ///
    /// If one of the descriptors is no listening stream socket.
    pub fn new(name: &str, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let sockets = descriptors.into_iter().map(Socket::new).collect::<io::Result<_>>()?;
        Ok(Self { name: name.into(), sockets, turn: AtomicUsize::new(0) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The TCP addresses it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let tcp = |socket: &Socket| match socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        };
        self.sockets.iter().filter_map(tcp).collect()
    }

    /// Waits for a connection. Safe to drop while it waits.
    ///
    /// # Errors
    ///
    /// As accept(2): of the connection, or for want of descriptors. The caller goes on.
    pub async fn accept(&self) -> io::Result<Connection> {
        let (stream, peer) = poll_fn(|context| {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for index in 0..self.sockets.len() {
                let index = first.wrapping_add(index) % self.sockets.len();
                let accepted = match self.sockets.get(index) {
                    Some(Socket::Tcp(listener)) => listener.poll_accept(context).map_ok(tcp),
                    Some(Socket::Unix(listener)) => {
                        listener.poll_accept(context).map_ok(|(stream, _)| unix(stream))
                    }
                    None => Poll::Pending,
                };
                if accepted.is_ready() {
                    return accepted;
                }
            }
            Poll::Pending
        })
        .await?;
        Ok(Connection { stream, listener: Arc::clone(&self.name), peer })
    }
}

fn tcp((stream, peer): (tokio::net::TcpStream, SocketAddr)) -> (Stream, Peer) {
    let _ = stream.set_nodelay(true); // one write per reply: waiting for more only delays it
    (Stream::Tcp(stream), Peer::Tcp(peer))
}

fn unix(stream: tokio::net::UnixStream) -> (Stream, Peer) {
    let stream = Stream::Unix(stream);
    let nobody = Peer::Unix { uid: u32::MAX, gid: u32::MAX, pid: None };
    let peer = stream.peer().unwrap_or(nobody);
    (stream, peer)
}

impl Socket {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        match rustix::net::getsockname(&descriptor)?.address_family() {
            AddressFamily::UNIX => {
                let listener = std::os::unix::net::UnixListener::from(descriptor);
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?))
            }
            _ => {
                let listener = std::net::TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpListener::from_std(listener)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener as Blocking, UnixStream};

    #[test]
    fn a_unix_socket_replaces_a_stale_one_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(100)); // longer than sun_path with its directory
        let at = At::Unix { path: path.clone(), mode: 0o620, owner: Owner::default() };
        drop(bind(&at).unwrap());
        let again = bind(&at).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o620);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary name is left");
        let open = fs::File::open(directory.path()).unwrap();
        let short = format!("/proc/self/fd/{}/{}", open.as_raw_fd(), "x".repeat(60));
        std::os::unix::fs::symlink(&path, &short).unwrap();
        let _client = UnixStream::connect(short).unwrap();
        assert!(Blocking::from(again).accept().is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        fs::write(&path, "mail").unwrap();
        let at = At::Unix { path: path.clone(), mode: 0o600, owner: Owner::default() };
        assert_eq!(bind(&at).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path).unwrap(), b"mail");
    }
}
