//! Scripted SMTP and LMTP servers: the hosts that mail is sent to, as good and as bad as a test wants them.
//!
//! A server plays a small table of what it answers to what; without rules it is an ordinary ESMTP server.
//!
//! ```text
//! RCPT TO:<bad     550 5.1.1 no such user      a reply, by the beginning of the command
//! EHLO             250 mx|PIPELINING|SIZE 100  several lines
//! banner           421 busy + close            greeting; the connection ends behind it
//! .                close                       the end of the content
//! tls MAIL         530 no                      only under TLS
//! 2 banner         554 enough                  only on the second connection
//! first RCPT TO:<l 450 4.2.1 later             only the first time that a client says this very line
//! AUTH LOGIN       334 VXNlcm5hbWU6 ; 334 UGFzc3dvcmQ6 ; 235 ok    a line is read before each further reply
//! DATA             silent                      no answer, until the client goes
//! EHLO             raw 250-x\r\n250 \xff\r\n   these octets
//! EHLO             endless 250-x               one line for ever; `flood N LINE`: N times, then `250 end`
//! end b@           452 full                    LMTP: behind the content, for this recipient
//! AUTH SCRAM       scram PASSWORD              SCRAM-SHA-256; with `forged` behind it, its own proof is wrong
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::smtp::encode_challenge;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::Identity;
use crate::log::PATIENCE;
use crate::scram::Login;

/// What a server answers; rules that come first win.
#[derive(Clone, Default)]
pub struct Script {
    /// Its name in greeting and EHLO.
    pub name: String,
    rules: Vec<(String, String)>,
    /// Lines for which a rule with `first` has been played.
    played: Arc<Mutex<BTreeSet<String>>>,
    tls: Option<Arc<ServerConfig>>,
    wrapped: bool,
}

impl Script {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub fn on(mut self, stage: &str, action: &str) -> Self {
        self.rules.push((stage.to_owned(), action.to_owned()));
        self
    }

    /// TLS begins before the greeting.
    #[must_use]
    pub fn wrapped(mut self) -> Self {
        self.wrapped = true;
        self
    }

    /// Offers STARTTLS with this certificate.
    #[must_use]
    pub fn tls(self, identity: &Identity) -> Self {
        self.tls_asking(identity, None)
    }

    /// The same, and asks the client for one of this authority; what it shows stands behind `(TLS` in its commands.
    #[must_use]
    pub fn tls_asking(mut self, identity: &Identity, authority: Option<&Path>) -> Self {
        let chain = CertificateDer::pem_file_iter(&identity.chain).unwrap();
        let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match authority {
            None => config.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.allow_unauthenticated().build().unwrap();
                config.with_client_cert_verifier(verifier)
            }
        };
        let config = config.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
        self.tls = Some(Arc::new(config));
        self
    }

    fn find(&self, connection: usize, under_tls: bool, line: &str) -> Option<&str> {
        let fits = |(stage, _): &&(String, String)| {
            let mut stage = stage.as_str();
            if let Some((number, rest)) = stage.split_once(' ')
                && let Ok(number) = number.parse::<usize>()
            {
                if number != connection {
                    return false;
                }
                stage = rest;
            }
            if let Some(rest) = stage.strip_prefix("tls ") {
                if !under_tls {
                    return false;
                }
                stage = rest;
            }
            let first = stage.strip_prefix("first ");
            let stage = first.unwrap_or(stage);
            line.get(..stage.len()).is_some_and(|start| start.eq_ignore_ascii_case(stage))
                && (first.is_none() || self.played.lock().unwrap().insert(line.to_owned()))
        };
        self.rules.iter().find(fits).map(|(_, action)| action.as_str())
    }

    fn action(&self, connection: usize, under_tls: bool, line: &str) -> String {
        if let Some(action) = self.find(connection, under_tls, line) {
            return action.to_owned();
        }
        let name = &self.name;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "BANNER" => format!("220 {name} ESMTP"),
            "EHLO" | "LHLO" => {
                let tls = if self.tls.is_some() && !under_tls { "|STARTTLS" } else { "" };
                format!(
                    "250 {name}|PIPELINING|SIZE 10240000{tls}|ENHANCEDSTATUSCODES|8BITMIME|DSN|SMTPUTF8|CHUNKING"
                )
            }
            "HELO" => format!("250 {name}"),
            "MAIL" => "250 2.1.0 Ok".to_owned(),
            "RCPT" => "250 2.1.5 Ok".to_owned(),
            "DATA" => "354 End data with <CR><LF>.<CR><LF>".to_owned(),
            "." => "250 2.0.0 Ok: queued".to_owned(),
            "RSET" | "NOOP" => "250 2.0.0 Ok".to_owned(),
            "STARTTLS" if self.tls.is_some() => "220 2.0.0 Ready to start TLS + tls".to_owned(),
            "QUIT" => "221 2.0.0 Bye + close".to_owned(),
            "END" => self.action(connection, under_tls, "."),
            _ => "502 5.5.2 Error: command not recognized".to_owned(),
        }
    }
}

/// What one client said on one connection.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// Commands as they came, `(TLS)` where it began.
    pub commands: Vec<String>,
    /// The contents of messages that were received whole, still with doubled dots.
    pub contents: Vec<String>,
    /// The client has gone, or nobody listens to it any more.
    pub over: bool,
}

/// A running server. It takes no new connections once it is dropped.
pub struct Remote {
    at: At,
    conversations: Arc<Mutex<Vec<Conversation>>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Remote {
    #[track_caller]
    pub fn start(address: SocketAddr, script: Script) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().unwrap();
        Self::run(At::Tcp(address), Listener::Tcp(listener), script)
    }

    #[track_caller]
    pub fn unix(path: &Path, script: Script) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        Self::run(At::Unix(path.to_owned()), Listener::Unix(listener), script)
    }

    fn run(at: At, listener: Listener, script: Script) -> Self {
        let conversations: Arc<Mutex<Vec<Conversation>>> = Arc::default();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (shared, stopped) = (conversations.clone(), stop.clone());
        let script = Arc::new(script);
        let thread = std::thread::spawn(move || {
            loop {
                let Ok(socket) = listener.accept() else { return };
                if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let number = {
                    let mut conversations = shared.lock().unwrap();
                    conversations.push(Conversation::default());
                    conversations.len()
                };
                let session = Session {
                    script: script.clone(),
                    conversations: shared.clone(),
                    number,
                    wire: Some(Wire::Plain(BufReader::new(socket))),
                    recipients: Vec::new(),
                    lmtp: false,
                };
                // A client that goes away ends its thread, however rudely.
                let conversations = shared.clone();
                std::thread::spawn(move || {
                    session.serve();
                    conversations.lock().unwrap()[number - 1].over = true;
                });
            }
        });
        Self { at, conversations, stop, thread: Some(thread) }
    }

    /// Where it listens; a Unix server has none.
    pub fn address(&self) -> Option<SocketAddr> {
        if let At::Tcp(address) = self.at { Some(address) } else { None }
    }

    pub fn conversations(&self) -> Vec<Conversation> {
        self.conversations.lock().unwrap().clone()
    }

    /// The same, as soon as every client has gone: its last words are read after mail has been accepted.
    pub fn whole_conversations(&self) -> Vec<Conversation> {
        crate::log::settled(|| {
            let conversations = self.conversations();
            (conversations.iter().all(|one| one.over), conversations)
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        match &self.at {
            At::Tcp(address) => drop(TcpStream::connect(address)),
            At::Unix(path) => drop(UnixStream::connect(path)),
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Listener {
    fn accept(&self) -> std::io::Result<Socket> {
        let socket = match self {
            Self::Tcp(listener) => {
                let stream = listener.accept()?.0;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Self::Unix(listener) => Socket::Unix(listener.accept()?.0),
        };
        socket.patience(PATIENCE)?;
        Ok(socket)
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn patience(&self, time: Duration) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Self::Unix(stream) => stream.set_read_timeout(Some(time)),
        }
    }

    fn end_writing(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Wire {
    Plain(BufReader<Socket>),
    Tls(Box<BufReader<StreamOwned<ServerConnection, Socket>>>),
}

impl Wire {
    fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let read = match self {
            Self::Plain(stream) => stream.read_until(b'\n', &mut line),
            Self::Tls(stream) => stream.read_until(b'\n', &mut line),
        };
        read.ok().filter(|length| *length > 0).map(|_| line)
    }

    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Plain(stream) => stream.get_mut().write_all(bytes).ok(),
            Self::Tls(stream) => {
                let stream = stream.get_mut();
                stream.write_all(bytes).and_then(|()| stream.flush()).ok()
            }
        }
    }

    /// Reads on until the client goes, so that nothing it has not read yet is lost to a reset.
    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            let read = match self {
                Self::Plain(stream) => stream.get_mut().read(&mut buffer),
                Self::Tls(stream) => stream.get_mut().sock.read(&mut buffer),
            };
            match read {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    fn close(mut self) {
        match &mut self {
            Self::Plain(stream) => stream.get_mut().end_writing(),
            Self::Tls(stream) => {
                let stream = stream.get_mut();
                stream.conn.send_close_notify();
                let _ = stream.flush();
                stream.sock.end_writing();
            }
        }
        self.drain();
    }
}

/// One connection being served.
struct Session {
    script: Arc<Script>,
    conversations: Arc<Mutex<Vec<Conversation>>>,
    number: usize,
    wire: Option<Wire>,
    recipients: Vec<String>,
    lmtp: bool,
}

impl Session {
    fn serve(mut self) -> Option<()> {
        if self.script.wrapped {
            self.start_tls()?;
        }
        self.answer("banner")?;
        loop {
            let line = self.command()?;
            self.note(|conversation| conversation.commands.push(line.clone()));
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            self.lmtp |= verb == "LHLO";
            let reply = self.answer(&line)?;
            match (verb.as_str(), reply.bytes().next()) {
                ("RCPT", Some(b'2')) => {
                    let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                    self.recipients.push(address.to_owned());
                }
                ("MAIL" | "RSET", _) => self.recipients.clear(),
                ("DATA", Some(b'3')) => self.content()?,
                _ => {}
            }
        }
    }

    fn command(&mut self) -> Option<String> {
        let line = self.wire.as_mut()?.line()?;
        Some(shown(&line))
    }

    fn note(&self, change: impl FnOnce(&mut Conversation)) {
        change(&mut self.conversations.lock().unwrap()[self.number - 1]);
    }

    fn content(&mut self) -> Option<()> {
        let mut content = String::new();
        loop {
            let line = self.wire.as_mut()?.line()?;
            if line == b".\r\n" {
                break;
            }
            content.push_str(&shown(&line));
            content.push('\n');
        }
        self.note(|conversation| conversation.contents.push(content));
        if !self.lmtp {
            self.answer(".")?;
        } else {
            for recipient in std::mem::take(&mut self.recipients) {
                self.answer(&format!("end {recipient}"))?;
            }
        }
        Some(())
    }

    /// Plays the action for this line; gives the last reply. `None`: the connection is over.
    fn answer(&mut self, line: &str) -> Option<String> {
        let under_tls = matches!(self.wire, Some(Wire::Tls(_)));
        let action = self.script.action(self.number, under_tls, line);
        let mut last = String::new();
        for (index, step) in action.split(" ; ").enumerate() {
            if index > 0 {
                let line = self.command()?;
                self.note(|conversation| conversation.commands.push(line));
            }
            last = match step.strip_prefix("scram ") {
                Some(words) => self.scram(words, line)?,
                None => self.step(step)?,
            };
        }
        Some(last)
    }

    fn step(&mut self, step: &str) -> Option<String> {
        let (reply, then) = step.split_once(" + ").unwrap_or((step, ""));
        let wire = self.wire.as_mut()?;
        let (word, rest) = reply.split_once(' ').unwrap_or((reply, ""));
        match word {
            "close" => {
                self.wire.take()?.close();
                return None;
            }
            "silent" => {
                wire.drain();
                return None;
            }
            "raw" => wire.send(&unescaped(rest))?,
            "endless" => loop {
                wire.send(format!("{rest}\r\n").repeat(50).as_bytes())?;
            },
            "flood" => {
                let (count, line) = rest.split_once(' ').unwrap_or((rest, "250-flood"));
                wire.send(format!("{line}\r\n").repeat(count.parse().unwrap()).as_bytes())?;
                wire.send(b"250 end\r\n")?;
            }
            _ => wire.send(multiline(reply).as_bytes())?,
        }
        match then {
            "close" => {
                self.wire.take()?.close();
                return None;
            }
            "tls" => self.start_tls()?,
            _ => {}
        }
        Some(reply.to_owned())
    }

    /// `PASSWORD`, or `PASSWORD forged`, after `AUTH SCRAM-SHA-256 INITIAL`.
    fn scram(&mut self, words: &str, line: &str) -> Option<String> {
        let (password, forged) =
            words.split_once(' ').map_or((words, false), |(word, _)| (word, true));
        let initial = line.split(' ').nth(2).unwrap_or_default();
        let Some((login, challenge)) = Login::begin(password, initial) else {
            return self.step("501 5.5.2 no SCRAM");
        };
        self.step(&format!("334 {challenge}"))?;
        let answer = self.command()?;
        self.note(|conversation| conversation.commands.push("(proof)".to_owned()));
        let Some(proof) = login.end(&answer) else { return self.step("535 5.7.8 wrong proof") };
        let proof = if forged { encode_challenge(b"v=Zm9yZ2VkIQ==") } else { proof };
        self.step(&format!("334 {proof}"))?;
        let last = self.command()?;
        self.note(|conversation| conversation.commands.push(last));
        self.step("235 2.7.0 welcome")
    }

    /// Throws away what was read ahead.
    fn start_tls(&mut self) -> Option<()> {
        let Some(Wire::Plain(stream)) = self.wire.take() else { return None };
        let mut socket = stream.into_inner();
        let mut connection = ServerConnection::new(self.script.tls.clone()?).ok()?;
        if let Err(error) = connection.complete_io(&mut socket) {
            self.note(|conversation| {
                let mut text = String::from("(TLS failed");
                if std::env::var_os("THEORIS_SHOW_LOG").is_some() {
                    let _ = write!(text, ": {error}");
                }
                conversation.commands.push(text + ")");
            });
            return None;
        }
        let shown = connection.peer_certificates().is_some_and(|shown| !shown.is_empty());
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let mut text = "(TLS".to_owned();
        text.push_str(if shown { ", with a certificate" } else { "" });
        text.push_str(if resumed { ", resumed)" } else { ")" });
        self.note(|conversation| conversation.commands.push(text));
        self.wire = Some(Wire::Tls(Box::new(BufReader::new(StreamOwned::new(connection, socket)))));
        Some(())
    }
}

/// `250 a|b` as lines.
fn multiline(reply: &str) -> String {
    let (code, text) = (reply.get(..3).unwrap_or(reply), reply.get(4..).unwrap_or_default());
    let lines: Vec<&str> = text.split('|').collect();
    let mut whole = String::new();
    for (index, line) in lines.iter().enumerate() {
        let dash = if index + 1 == lines.len() { ' ' } else { '-' };
        let _ = write!(whole, "{code}{dash}{line}\r\n");
    }
    whole
}

/// A line without its CRLF; octets that are not printable are escaped, and so is a bare line feed.
fn shown(line: &[u8]) -> String {
    let (line, end) = match line.strip_suffix(b"\r\n") {
        Some(line) => (line, ""),
        None => (line.strip_suffix(b"\n").unwrap_or(line), "\\n"),
    };
    match std::str::from_utf8(line) {
        Ok(text) if !text.contains(char::is_control) => format!("{text}{end}"),
        _ => format!("{}{end}", line.escape_ascii()),
    }
}

/// `\r`, `\n`, `\0`, `\xNN` and `\\`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'0') => bytes.push(0),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    bytes
}

/// A port on which nobody ever answers a SYN: a listener whose queue is full.
pub struct Unanswering {
    _listener: std::os::fd::OwnedFd,
    _waiting: Vec<TcpStream>,
}

impl Unanswering {
    #[track_caller]
    pub fn start(address: SocketAddr) -> Self {
        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, socket,
        };
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let listener = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &SockaddrStorage::from(address)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        // There is room for the first, however long it takes.
        let mut waiting = vec![TcpStream::connect(address).unwrap()];
        let patience = Duration::from_millis(100);
        let connect = |_| TcpStream::connect_timeout(&address, patience).ok();
        waiting.extend((0..3).map_while(connect));
        Self { _listener: listener, _waiting: waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    fn play(script: Script, lines: &[&str]) -> (String, Vec<Conversation>) {
        let server = Remote::start("127.0.0.1:0".parse().unwrap(), script);
        let mut client = Client::tcp(server.address().unwrap().port());
        client.reply();
        for line in lines {
            client.ask(line);
        }
        (client.transcript, server.conversations())
    }

    #[test]
    fn an_ordinary_server_takes_mail_and_tells_what_it_got() {
        let (transcript, conversations) = play(
            Script::new("mx").on("RCPT TO:<bad", "550 5.1.1 no"),
            &[
                "EHLO c",
                "MAIL FROM:<>",
                "RCPT TO:<bad@x>",
                "RCPT TO:<a@x>",
                "DATA",
                "hi\r\n..\r\n.",
                "QUIT",
            ],
        );
        assert!(
            transcript.contains("S: 550 5.1.1 no\n") && transcript.ends_with("S: 221 2.0.0 Bye\n")
        );
        assert_eq!(conversations[0].contents, ["hi\n..\n"]);
        assert_eq!(conversations[0].commands.len(), 6);
    }

    #[test]
    fn steps_wait_for_a_line() {
        let script = Script::new("mx").on("AUTH", "334 a ; 334 b ; 235 ok");
        let (transcript, conversations) = play(script, &["AUTH LOGIN", "u", "p"]);
        assert!(transcript.ends_with("S: 334 b\nC: p\\r\\n\nS: 235 ok\n"), "{transcript}");
        assert_eq!(conversations[0].commands, ["AUTH LOGIN", "u", "p"]);
    }
}
