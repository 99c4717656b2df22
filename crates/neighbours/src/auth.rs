//! The client of an auth server: smtpd and the login workers ask it whether a login is good.
//!
//! Logins that begin at about the same time share a connection; a later one makes a new one. So who listens now is asked,
//! and not a server that a reload or a restart has left behind: Dovecot's auth without its master still reads what it is
//! asked, and tries for seconds to reach its workers, one login after the other.
//!
//! ```text
//! let auth = AuthClient::new("/var/spool/postfix/private/auth");
//! let mut step = auth.start(request).await?;
//! loop {
//!     step = match step {
//!         Step::Continue(conversation, challenge) => conversation.answer(ask(challenge)).await?,
//!         Step::Success(success) => break welcome(success),
//!         Step::Failure(failure) => break refuse(failure),
//!     }
//! }
//! ```

use crate::mux::{Lost, Mux};
use bytes::Bytes;
use protocol::dovecot_auth::server_line::BrokenServer;
use protocol::dovecot_auth::{
    ClientLine, Handshake, Lines, Mechanism, Params, Request, ServerLine, Ticket, VERSION, Welcome,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// Who begins a login uses a connection that is no older.
const FRESH: Duration = Duration::from_millis(200);
/// Between two attempts to reach a server that is away.
const PAUSE: Duration = Duration::from_millis(50);
/// No process of Linux has a number with more bits.
const PID_BITS: u32 = 22;

/// A client of the auth server at one socket. Clones share the connection.
#[derive(Clone)]
pub struct AuthClient(Arc<Inner>);

struct Inner {
    path: PathBuf,
    limits: Limits,
    connection: Mutex<Option<Connection>>,
}

/// How long the server may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To accept the connection and to say its handshake; who waits for another's attempt waits no longer.
    pub connect: Duration,
    /// To answer an `AUTH` or a `CONT`; a failure is delayed by the server on purpose.
    pub reply: Duration,
    /// To come back: who begins a login waits so long for a server that does not listen, as at its restart.
    pub away: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            reply: Duration::from_secs(60),
            away: Duration::from_secs(10),
        }
    }
}

#[derive(Clone)]
struct Connection {
    welcome: Arc<Welcome>,
    client: Arc<ClientNumber>,
    made: Instant,
    mux: Mux<ServerLine>,
}

/// A server that listens now: a login may begin.
#[derive(Debug)]
pub struct Ready {
    client: AuthClient,
    connection: Connection,
}

/// Why the auth server could not be asked. The client gets a temporary failure.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Handshake { path: PathBuf, source: BrokenServer },
    #[error("the auth server closed the connection")]
    Closed,
    #[error("the auth server did not answer in time")]
    TimedOut,
    #[error("the auth server sent a login without a user name")]
    NoUser,
}

impl From<Lost> for AuthError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Closed,
            Lost::TimedOut => Self::TimedOut,
        }
    }
}

/// What the server says to a question.
#[derive(Debug)]
pub enum Step {
    /// The client must see this challenge; its answer goes to [`Conversation::answer`].
    Continue(Conversation, Vec<u8>),
    Success(Success),
    Failure(Failure),
}

/// A login that the auth server accepts.
#[derive(Clone, Debug)]
pub struct Success {
    /// The name as the passdb gives it back; what log lines and look-ups use.
    pub user: String,
    /// The rest: `original_user`, `nologin`, `reason`, `proxy`, `host`, …
    pub params: Params,
    /// Names this login to [`crate::userdb::Userdb::confirm`], as long as this lives.
    pub ticket: Ticket,
    /// The server forgets a login that waits when the connection ends.
    _connection: Connection,
}

impl Success {
    /// The password is right, but the user may not log in here: the server of the user must refuse.
    #[must_use]
    pub fn nologin(&self) -> bool {
        self.params.has("nologin") || self.params.has("proxy")
    }
}

/// A login that the auth server refuses.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Empty if the name never became known.
    pub user: String,
    pub code: Option<FailureCode>,
    /// Meant for the remote user.
    pub reason: Option<String>,
    pub params: Params,
}

/// Why a login is refused, where it is not for its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCode {
    Temporary,
    Authorization,
    Disabled,
    Expired,
    InvalidBase64,
    Unknown,
}

/// A login in the middle of its mechanism. Dropped, it is cancelled.
#[derive(Debug)]
pub struct Conversation {
    client: AuthClient,
    connection: Connection,
    id: u32,
    open: bool,
}

impl AuthClient {
    /// A client of the socket at `path`; connects when first asked.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_limits(path, Limits::default())
    }

    #[must_use]
    pub fn with_limits(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self(Arc::new(Inner { path: path.into(), limits, connection: Mutex::new(None) }))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The mechanisms that the server offers, in its order, private ones included.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the server cannot be reached.
    pub async fn mechanisms(&self) -> Result<Vec<Mechanism>, AuthError> {
        Ok(self.connection(Duration::MAX).await?.welcome.mechanisms.clone())
    }

    /// Waits for a server that a login may begin at.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the server cannot be reached within its time.
    pub async fn ready(&self) -> Result<Ready, AuthError> {
        let begun = Instant::now();
        loop {
            match self.connection(FRESH).await {
                Ok(connection) => return Ok(Ready { client: self.clone(), connection }),
                Err(error) if error.is_away() && begun.elapsed() < self.0.limits.away => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins a login.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the server cannot be reached or does not answer.
    pub async fn start(&self, request: &Request) -> Result<Step, AuthError> {
        self.ready().await?.start(request).await
    }

    fn step(&self, connection: Connection, id: u32, line: ServerLine) -> Result<Step, AuthError> {
        match line {
            ServerLine::Continue { data, .. } => {
                let client = self.clone();
                Ok(Step::Continue(Conversation { client, connection, id, open: true }, data))
            }
            ServerLine::Ok { params, .. } => {
                let user = params.get("user").unwrap_or_default().to_owned();
                if user.is_empty() {
                    return Err(AuthError::NoUser);
                }
                let cookie = connection.welcome.cookie.clone();
                let ticket = Ticket { client_pid: connection.client.0, auth_id: id, cookie };
                Ok(Step::Success(Success { user, params, ticket, _connection: connection }))
            }
            ServerLine::Fail { params, .. } => Ok(Step::Failure(Failure::from(params))),
            _ => Err(AuthError::Closed), // the parser lets nothing else through
        }
    }

    /// The connection, unless it is older than `age`; otherwise a new one.
    async fn connection(&self, age: Duration) -> Result<Connection, AuthError> {
        let connection = self.shared_connection(age);
        tokio::time::timeout(self.0.limits.connect, connection).await.unwrap_or_else(|_| {
            let source = io::ErrorKind::TimedOut.into();
            Err(AuthError::Connect { path: self.0.path.clone(), source })
        })
    }

    async fn shared_connection(&self, age: Duration) -> Result<Connection, AuthError> {
        let mut current = self.0.connection.lock().await;
        let serves = |one: &&Connection| !one.mux.is_closed() && one.made.elapsed() <= age;
        if let Some(connection) = current.as_ref().filter(serves) {
            return Ok(connection.clone());
        }
        let path = || self.0.path.clone();
        let connection = open(&self.0.path).await.map_err(|error| match error {
            OpenError::Io(source) => AuthError::Connect { path: path(), source },
            OpenError::Broken(source) => AuthError::Handshake { path: path(), source },
        })?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Makes the next question open a new connection; sessions on the old one keep it.
    async fn discard(&self, lost: &Connection) {
        let mut current = self.0.connection.lock().await;
        if current.as_ref().is_some_and(|one| Arc::ptr_eq(&one.welcome, &lost.welcome)) {
            *current = None;
        }
    }
}

impl std::fmt::Debug for AuthClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AuthClient").field(&self.0.path).finish()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.welcome.connection).finish()
    }
}

impl AuthError {
    /// Nobody listens, or who did ends, or too many wait already to be accepted.
    fn is_away(&self) -> bool {
        use io::ErrorKind::{
            BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof, WouldBlock,
        };
        let Self::Connect { source, .. } = self else { return false };
        matches!(
            source.kind(),
            NotFound
                | ConnectionRefused
                | ConnectionReset
                | BrokenPipe
                | UnexpectedEof
                | WouldBlock
        )
    }
}

impl Ready {
    /// The mechanisms that the server offers, in its order, private ones included.
    #[must_use]
    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.connection.welcome.mechanisms
    }

    /// Begins a login. A connection that turns out to have died is replaced once.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the server does not answer.
    pub async fn start(self, request: &Request) -> Result<Step, AuthError> {
        let Self { client, mut connection } = self;
        let mut replaced = false;
        loop {
            let request = request.clone();
            let write = move |id, out: &mut Vec<u8>| request.write(id, out);
            match connection.mux.ask(Box::new(write), client.0.limits.reply).await {
                Ok((id, line)) => return client.step(connection, id, line),
                Err(lost) => {
                    client.discard(&connection).await;
                    if lost != Lost::Closed || replaced {
                        return Err(lost.into());
                    }
                }
            }
            (connection, replaced) = (client.ready().await?.connection, true);
        }
    }
}

impl Conversation {
    /// Sends the client's response.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the server has gone or does not answer.
    pub async fn answer(mut self, response: &[u8]) -> Result<Step, AuthError> {
        let data = Some(response.to_vec());
        let write = move |id, out: &mut Vec<u8>| ClientLine::Continue { id, data }.write(out);
        let limit = self.client.0.limits.reply;
        match self.connection.mux.again(self.id, Box::new(write), limit).await {
            Ok(line) => {
                self.open = false;
                self.client.step(self.connection.clone(), self.id, line)
            }
            Err(lost) => {
                self.client.discard(&self.connection).await;
                Err(lost.into())
            }
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if self.open {
            let cancel = |id, out: &mut Vec<u8>| ClientLine::Cancel { id }.write(out);
            self.connection.mux.forget(self.id, Box::new(cancel));
        }
    }
}

impl From<Params> for Failure {
    fn from(params: Params) -> Self {
        let code = params.get("code").map(|code| match code {
            "temp_fail" => FailureCode::Temporary,
            "authz_fail" => FailureCode::Authorization,
            "user_disabled" => FailureCode::Disabled,
            "pass_expired" => FailureCode::Expired,
            "invalid_base64" => FailureCode::InvalidBase64,
            _ => FailureCode::Unknown,
        });
        Self {
            user: params.get("user").unwrap_or_default().to_owned(),
            reason: params.get("reason").map(str::to_owned),
            code,
            params,
        }
    }
}

enum OpenError {
    Io(io::Error),
    Broken(BrokenServer),
}

/// What a connection calls itself. Servers tell their clients apart by it, and have logins confirmed by it: a process with
/// several connections needs several, which are no other process's. It is free again when the connection is let go.
#[derive(Debug)]
struct ClientNumber(u32);

impl ClientNumber {
    /// # Errors
    ///
    /// When as many logins as there are numbers wait to be confirmed.
    fn take() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut taken = taken();
        let free = (0..=u32::MAX >> PID_BITS)
            .map(|_| process::id() | (NEXT.fetch_add(1, Ordering::Relaxed) << PID_BITS))
            .find(|number| taken.insert(*number));
        free.map(Self).ok_or_else(|| io::Error::other("too many logins wait to be confirmed"))
    }
}

impl Drop for ClientNumber {
    fn drop(&mut self) {
        taken().remove(&self.0);
    }
}

/// The numbers that this process goes by.
fn taken() -> MutexGuard<'static, BTreeSet<u32>> {
    static TAKEN: std::sync::Mutex<BTreeSet<u32>> = std::sync::Mutex::new(BTreeSet::new());
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects and shakes hands. Our half goes first: Dovecot 2.4 waits for it, 2.3 does not mind.
async fn open(path: &Path) -> Result<Connection, OpenError> {
    let mut stream = UnixStream::connect(path).await.map_err(OpenError::Io)?;
    let mut hello = Vec::new();
    let (major, minor) = VERSION;
    ClientLine::Version { major, minor }.write(&mut hello);
    let client = ClientNumber::take().map_err(OpenError::Io)?;
    ClientLine::Cpid(client.0).write(&mut hello);
    stream.write_all(&hello).await.map_err(OpenError::Io)?;
    let mut lines = Lines::default();
    let mut handshake = Handshake::default();
    loop {
        let broken = BrokenServer("handshake");
        while let Some(line) = lines.next_line().map_err(|_| OpenError::Broken(broken))? {
            let line = ServerLine::parse(&line).map_err(OpenError::Broken)?;
            if let Some(welcome) = handshake.line(line).map_err(OpenError::Broken)? {
                let mux = Mux::start(stream, lines, parse);
                let (welcome, made) = (Arc::new(welcome), Instant::now());
                return Ok(Connection { welcome, client: Arc::new(client), made, mux });
            }
        }
        if stream.read_buf(lines.buffer()).await.map_err(OpenError::Io)? == 0 {
            return Err(OpenError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn parse(line: &Bytes) -> Result<Option<(u32, ServerLine)>, ()> {
    let line = ServerLine::parse(line).map_err(drop)?;
    Ok(match line {
        ServerLine::Ok { id, .. }
        | ServerLine::Fail { id, .. }
        | ServerLine::Continue { id, .. } => Some((id, line)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    const HELLO: &str =
        "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t9\nCUID\t1\nCOOKIE\tc00c1e\nDONE\n";

    fn request() -> Request {
        Request { mechanism: "PLAIN".into(), service: "smtp".into(), ..Request::default() }
    }

    #[tokio::test]
    async fn a_login_in_two_steps() {
        let script = Script::new(HELLO);
        let auth = AuthClient::new(script.path());
        let server = script.serve(&[
            ("AUTH\t1\tPLAIN\tservice=smtp", "CONT\t1\t\n"),
            ("CONT\t1\tAGEAYg==", "OK\t1\tuser=a\t\toriginal_user=A\n"),
        ]);
        assert!(auth.mechanisms().await.unwrap()[0].is_plaintext());
        let Step::Continue(conversation, challenge) = auth.start(&request()).await.unwrap() else {
            unreachable!()
        };
        assert_eq!(challenge, b"");
        let Step::Success(success) = conversation.answer(b"\0a\0b").await.unwrap() else {
            unreachable!()
        };
        assert_eq!(success.user, "a");
        assert_eq!(success.ticket.cookie, "c00c1e");
        assert_eq!(success.ticket.auth_id, 1);
        drop((auth, success));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn answers_may_come_in_any_order() {
        let script = Script::new(HELLO);
        let auth = AuthClient::new(script.path());
        let server = script.serve(&[
            ("AUTH\t1\tPLAIN\tservice=smtp", ""),
            (
                "AUTH\t2\tPLAIN\tservice=smtp",
                "OK\t2\tuser=two\nFAIL\t1\tuser=one\tcode=temp_fail\n",
            ),
        ]);
        let request = request();
        let (one, two) = tokio::join!(auth.start(&request), auth.start(&request));
        assert!(matches!(one, Ok(Step::Failure(f)) if f.code == Some(FailureCode::Temporary)));
        assert!(matches!(two, Ok(Step::Success(s)) if s.user == "two"));
        drop(auth);
        server.await.unwrap();
    }

    /// The server of the first connection is still there, and would answer.
    #[tokio::test]
    async fn a_login_asks_who_listens_now() {
        let script = Script::new(HELLO);
        let auth = AuthClient::new(script.path());
        let first = script.serve(&[]);
        auth.mechanisms().await.unwrap();
        tokio::time::sleep(FRESH).await;
        let second = script.serve(&[("AUTH\t1\tPLAIN\tservice=smtp", "OK\t1\tuser=a\n")]);
        assert!(matches!(auth.start(&request()).await, Ok(Step::Success(_))));
        drop(auth);
        first.await.unwrap();
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_restarted_is_asked_again() {
        let script = Script::new(HELLO);
        let auth = AuthClient::new(script.path());
        let first = script.serve(&[]); // says hello, then closes at the first line
        auth.mechanisms().await.unwrap();
        let login = tokio::spawn({
            let auth = auth.clone();
            async move { auth.start(&request()).await }
        });
        first.await.unwrap();
        let second = script.serve(&[("AUTH\t1\tPLAIN\tservice=smtp", "OK\t1\tuser=a\n")]);
        assert!(matches!(login.await.unwrap(), Ok(Step::Success(_))));
        drop(auth);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_login_that_waits_to_be_confirmed_keeps_its_connection() {
        let script = Script::new(HELLO);
        let auth = AuthClient::new(script.path());
        let login = ("AUTH\t1\tPLAIN\tservice=smtp", "OK\t1\tuser=a\n");
        let first = script.serve(&[login]);
        let Ok(Step::Success(one)) = auth.start(&request()).await else { unreachable!() };
        tokio::time::sleep(FRESH).await;
        let second = script.serve(&[login]);
        let Ok(Step::Success(two)) = auth.start(&request()).await else { unreachable!() };
        assert_ne!(one.ticket.client_pid, two.ticket.client_pid);
        second.abort();
        assert!(!first.is_finished());
        drop(one);
        first.await.unwrap();
    }

    /// However many connections are made meanwhile.
    #[test]
    fn no_two_connections_have_one_number() {
        let first = ClientNumber::take().unwrap();
        for _ in 0..3000 {
            assert_ne!(ClientNumber::take().unwrap().0, first.0);
        }
        assert_eq!(first.0 & ((1 << PID_BITS) - 1), process::id());
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let auth = AuthClient::new(&path);
        let login = tokio::spawn(async move { auth.start(&request()).await });
        tokio::time::sleep(3 * PAUSE).await;
        let script = Script::at(path, HELLO);
        let server = script.serve(&[("AUTH\t1\tPLAIN\tservice=smtp", "OK\t1\tuser=a\n")]);
        assert!(matches!(login.await.unwrap(), Ok(Step::Success(_))));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_with_a_full_queue_is_waited_for() {
        let script = Script::new(HELLO);
        script.queue_at_most(0); // one waits nevertheless
        let mut first = UnixStream::connect(script.path()).await.unwrap();
        let auth = AuthClient::new(script.path());
        let login = tokio::spawn(async move { auth.start(&request()).await });
        tokio::time::sleep(3 * PAUSE).await;
        assert!(!login.is_finished(), "{:?}", login.await);
        let emptied = script.serve(&[]);
        first.read_u8().await.unwrap();
        let server = script.serve(&[("AUTH\t1\tPLAIN\tservice=smtp", "OK\t1\tuser=a\n")]);
        assert!(matches!(login.await.unwrap(), Ok(Step::Success(_))));
        server.await.unwrap();
        drop(first);
        emptied.await.unwrap();
    }

    /// Not one after the other.
    #[tokio::test]
    async fn all_logins_give_up_on_a_silent_server_in_time() {
        let script = Script::new("");
        let limits = Limits { connect: Duration::from_millis(200), ..Limits::default() };
        let auth = AuthClient::with_limits(script.path(), limits);
        let server = script.serve(&[]);
        let begun = Instant::now();
        let logins: Vec<_> = (0..20)
            .map(|_| {
                let auth = auth.clone();
                tokio::spawn(async move { auth.start(&request()).await.map(drop) })
            })
            .collect();
        for login in logins {
            let error = login.await.unwrap().unwrap_err();
            assert!(error.to_string().ends_with("timed out"), "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named() {
        let limits = Limits { away: Duration::ZERO, ..Limits::default() };
        let auth = AuthClient::with_limits("/nonexistent/auth", limits);
        let error = auth.start(&request()).await.unwrap_err();
        assert!(error.to_string().starts_with("connect to /nonexistent/auth: "), "{error}");
    }
}
