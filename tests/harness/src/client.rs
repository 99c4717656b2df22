//! A bare client for line protocols, with TLS: sends lines, reads replies, shows both when a test stops.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

pub use rustls::ClientConfig as Trust;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::log::PATIENCE;

/// One connection, with everything said on it so far.
pub struct Client {
    stream: BufReader<Transport>,
    pub transcript: String,
}

enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Trusts the certificates of this PEM file and nothing else. Make it once: it is not cheap.
#[track_caller]
pub fn trust(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    Arc::new(versions.with_root_certificates(roots).with_no_client_auth())
}

impl Client {
    fn over(stream: Transport) -> Self {
        Self { stream: BufReader::new(stream), transcript: String::new() }
    }

    fn connect(address: Ipv4Addr, port: u16) -> TcpStream {
        let stream = TcpStream::connect((address, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    #[track_caller]
    pub fn tcp(port: u16) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, port)
    }

    /// As [`Client::tcp`], where perhaps nobody listens.
    ///
    /// # Errors
    ///
    /// As connect(2).
    pub fn try_tcp(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::over(Transport::Tcp(stream)))
    }

    /// To another address of this machine than 127.0.0.1.
    #[track_caller]
    pub fn at(address: Ipv4Addr, port: u16) -> Self {
        Self::over(Transport::Tcp(Self::connect(address, port)))
    }

    /// To 127.0.0.1, from another address of the loopback.
    #[track_caller]
    pub fn from(source: Ipv4Addr, port: u16) -> Self {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect};
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        let address = |ip: Ipv4Addr, port| SockaddrIn::from(std::net::SocketAddrV4::new(ip, port));
        bind(socket.as_raw_fd(), &address(source, 0)).unwrap();
        connect(socket.as_raw_fd(), &address(Ipv4Addr::LOCALHOST, port)).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(Transport::Tcp(stream))
    }

    /// Waits no longer than this for an answer in the clear.
    pub fn within(self, limit: std::time::Duration) -> Self {
        if let Transport::Tcp(stream) = self.stream.get_ref() {
            stream.set_read_timeout(Some(limit)).unwrap();
        }
        self
    }

    /// Ends a connection in the clear with a reset instead of an end.
    pub fn reset(self) {
        if let Transport::Tcp(stream) = self.stream.get_ref() {
            let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &at_once)
                .unwrap();
        }
    }

    /// Goes without a word, and waits until the server has noticed and ended its side of a connection in the clear.
    #[track_caller]
    pub fn go(mut self) {
        if let Transport::Tcp(stream) = self.stream.get_ref() {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        while self.next_line().is_some() {}
    }

    /// TLS from the first byte, to the host name `host`.
    #[track_caller]
    pub fn tls(port: u16, host: &str, trust: &Arc<ClientConfig>) -> Self {
        Self::tls_at(Ipv4Addr::LOCALHOST, port, host, trust)
    }

    #[track_caller]
    pub fn tls_at(address: Ipv4Addr, port: u16, host: &str, trust: &Arc<ClientConfig>) -> Self {
        Self::over(Transport::Tls(Box::new(handshake(Self::connect(address, port), host, trust))))
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        let stream =
            UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(Transport::Unix(stream))
    }

    /// TLS from here on, after STARTTLS or STLS was answered.
    #[track_caller]
    pub fn start_tls(self, host: &str, trust: &Arc<ClientConfig>) -> Self {
        let Transport::Tcp(stream) = self.stream.into_inner() else {
            panic!("TLS needs a plain TCP connection")
        };
        let transcript = format!("{}-- TLS\n", self.transcript);
        let stream = BufReader::new(Transport::Tls(Box::new(handshake(stream, host, trust))));
        Self { stream, transcript }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.transcript.push_str(&format!("C: {}\n", bytes.escape_ascii()));
        let stream = self.stream.get_mut();
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            Err(error) if is_gone(&error) => {} // what it said before is still to be read
            result => result.unwrap(),
        }
    }

    /// Sends a line with CRLF.
    pub fn send(&mut self, line: &str) {
        self.raw(format!("{line}\r\n").as_bytes());
    }

    /// Reads a line without its ending; empty at the end of the connection.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.next_line().unwrap_or_default()
    }

    /// Reads a line without its ending; nothing at the end of the connection.
    #[track_caller]
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        if let Err(error) = self.stream.read_until(b'\n', &mut line)
            && !is_gone(&error)
        {
            panic!("no line: {error}; so far:\n{}", self.transcript);
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        self.transcript.push_str(&format!("S: {text}\n"));
        (!line.is_empty()).then_some(text)
    }

    /// Reads exactly `length` bytes.
    #[track_caller]
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if let Err(error) = self.stream.read_exact(&mut bytes) {
            panic!("no {length} bytes: {error}; so far:\n{}", self.transcript);
        }
        bytes
    }

    /// Reads a whole SMTP reply, its lines joined by newlines.
    #[track_caller]
    pub fn reply(&mut self) -> String {
        let mut reply = self.line();
        while reply.lines().last().is_some_and(|line| line.as_bytes().get(3) == Some(&b'-')) {
            let Some(line) = self.next_line() else { break };
            reply = format!("{reply}\n{line}");
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
            let Some(line) = self.next_line() else { return lines };
            let last = line.starts_with(&format!("{tag} "));
            lines.push(line);
            if last {
                return lines;
            }
        }
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

#[track_caller]
fn handshake(
    mut stream: TcpStream,
    host: &str,
    trust: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(trust), name).unwrap();
    connection.complete_io(&mut stream).unwrap_or_else(|error| panic!("TLS to {host}: {error}"));
    StreamOwned::new(connection, stream)
}
