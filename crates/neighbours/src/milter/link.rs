//! The socket to one filter.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use daemon::Stream;
use protocol::milter::{BadFrame, Event, Frame, LONGEST_FRAME};
use rustix::net::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Unanswered events are kept back up to here.
const BATCH: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    input: BytesMut,
    output: Vec<u8>,
}

/// Why nothing more can be read or written.
#[derive(Debug)]
pub(super) enum LinkError {
    Io(io::Error),
    Timeout,
    Closed,
    Frame(BadFrame),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => out.write_str(&reason(error)),
            Self::Timeout => out.write_str("Connection timed out"),
            Self::Closed => out.write_str("Application error"),
            Self::Frame(error) => error.fmt(out),
        }
    }
}

/// As the system says it, without Rust's `(os error N)`.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

impl Link {
    pub async fn connect(name: &str, limit: Duration) -> io::Result<Self> {
        let connect = async {
            match name.split_once(':') {
                Some(("inet", endpoint)) => tcp(endpoint).await.map(Stream::Tcp),
                Some((_, path)) => UnixStream::connect(path).await.map(Stream::Unix),
                None => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        let timed_out = || io::Error::from_raw_os_error(nix_timed_out());
        let stream = timeout(limit, connect).await.map_err(|_| timed_out())??;
        Ok(Self::new(stream))
    }

    pub fn new(stream: Stream) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new() }
    }

    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Ends the conversation for whoever else holds this socket, too.
    pub fn shut_down(self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => rustix::net::shutdown(stream, Shutdown::Both),
            Stream::Unix(stream) => rustix::net::shutdown(stream, Shutdown::Both),
            _ => Ok(()),
        };
    }

    /// Keeps an event back until an answer is needed.
    pub fn put(&mut self, event: &Event) {
        event.encode(&mut self.output);
    }

    /// Whether so much is kept back that it should go.
    pub fn is_full(&self) -> bool {
        self.output.len() >= BATCH
    }

    pub async fn flush(&mut self, limit: Duration) -> Result<(), LinkError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        match timeout(limit, write).await {
            Ok(Ok(())) => {
                self.output.clear();
                Ok(())
            }
            Ok(Err(error)) => Err(LinkError::Io(error)),
            Err(_) => Err(LinkError::Timeout),
        }
    }

    /// The next frame; `limit` is for each read.
    pub async fn frame(&mut self, limit: Duration) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) =
                Frame::take(&mut self.input, LONGEST_FRAME).map_err(LinkError::Frame)?
            {
                return Ok(frame);
            }
            self.input.reserve(4096);
            match timeout(limit, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return Err(LinkError::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(LinkError::Io(error)),
                Err(_) => return Err(LinkError::Timeout),
            }
        }
    }
}

const fn nix_timed_out() -> i32 {
    rustix::io::Errno::TIMEDOUT.raw_os_error()
}

/// `host:port`, where the host may be `[address]`.
async fn tcp(endpoint: &str) -> io::Result<TcpStream> {
    let bad = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| bad("missing service name"))?;
    let port: u16 = port.parse().map_err(|_| bad("unknown service"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<SocketAddr> = if let Ok(address) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(address, port)]
    } else if host.eq_ignore_ascii_case("localhost") {
        // Known without asking anybody.
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        vec![SocketAddr::new(v4, port), SocketAddr::new(v6, port)]
    } else {
        tokio::net::lookup_host((host, port)).await?.collect()
    };
    let mut last = bad("host not found");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
