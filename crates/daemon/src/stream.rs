//! One connection, whatever it runs over: TCP, a unix socket, TLS over either, or a test's pipe.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// Anything a test can put in the place of a socket.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Stream>>),
    Other(Box<dyn Io>),
}

impl Stream {
    /// A connected socket that another process handed over.
    ///
    /// # Errors
    ///
    /// If it is no TCP or unix stream socket.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "not a stream socket");
        if sockopt::socket_type(&descriptor)? != SocketType::STREAM {
            return Err(bad());
        }
        match getsockname(&descriptor)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                let stream = std::net::TcpStream::from(descriptor);
                stream.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpStream::from_std(stream)?))
            }
            AddressFamily::UNIX => {
                let stream = std::os::unix::net::UnixStream::from(descriptor);
                stream.set_nonblocking(true)?;
                Ok(Self::Unix(UnixStream::from_std(stream)?))
            }
            _ => Err(bad()),
        }
    }

    /// The bare socket, to hand it to another process.
    ///
    /// # Errors
    ///
    /// For TLS and for streams of tests, whose state cannot move.
    pub fn into_descriptor(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => Ok(stream.into_std()?.into()),
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
            Self::Tls(_) | Self::Other(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS state cannot be handed over"))
            }
        }
    }

    /// Whether the kernel holds bytes that nobody has read; `false` for streams of tests.
    pub fn has_arrived(&self) -> bool {
        let held = match self {
            Self::Tcp(stream) => rustix::io::ioctl_fionread(stream),
            Self::Unix(stream) => rustix::io::ioctl_fionread(stream),
            Self::Tls(stream) => return stream.get_ref().0.has_arrived(),
            Self::Other(_) => return false,
        };
        held.is_ok_and(|count| count > 0)
    }

    /// Who is at the other end; `None` for streams of tests and broken connections.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(Peer::Tcp),
            Self::Unix(stream) => stream.peer_cred().ok().map(|peer| Peer::Unix {
                uid: peer.uid(),
                gid: peer.gid(),
                pid: peer.pid(),
            }),
            Self::Tls(stream) => stream.get_ref().0.peer(),
            Self::Other(_) => None,
        }
    }

    /// The address at our end; `None` without TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.local(),
            Self::Unix(_) | Self::Other(_) => None,
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// What the kernel says of the process that connected.
    Unix {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
    },
}

impl Peer {
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

/// A connection that a listener has accepted.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    /// Name of the listener in the plan.
    pub listener: Arc<str>,
    pub peer: Peer,
}

impl fmt::Debug for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp(_) => "Stream::Tcp",
            Self::Unix(_) => "Stream::Unix",
            Self::Tls(_) => "Stream::Tls",
            Self::Other(_) => "Stream::Other",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
            Self::Other(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Self::Other(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Self::Other(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
