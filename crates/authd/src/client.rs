//! One connection of the client protocol: a mail server or login process that wants logins checked.
//!
//! Requests run in tasks of their own; their answers are written in the order in which they come.

use crate::chain::{self, Failure};
use crate::log;
use crate::login::Login;
use crate::mechanism::{Claim, Exchange, Nonce, Progress};
use crate::registry::Place;
use crate::server::Shared;
use crate::settings::{Kind, MechanismName};
use daemon::Stream;
use protocol::dovecot_auth::server_line::write_handshake;
use protocol::dovecot_auth::{
    ClientLine, Lines, Params, ProtocolError, Request, ServerLine, VERSION, Welcome,
};
use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Requests of one connection at once, and their answers that are held back.
const OPEN: usize = 1000;
const HELD_BACK: usize = 4000;
/// How long a client may take to answer a challenge.
const SILENCE: Duration = Duration::from_secs(150);
/// How long logins may still be confirmed when this process has to finish.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client may leave its socket full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A request in its course.
enum Open {
    /// The client has to answer a challenge.
    Talking {
        exchange: Exchange,
        login: Box<Login>,
        since: Instant,
    },
    Checking,
}

/// What a task has done.
enum Event {
    Checked {
        id: u32,
        login: Box<Login>,
        claim: Claim,
        outcome: Result<(), Failure>,
    },
    /// A failure whose delay is over.
    Due(ServerLine),
}

/// Why a connection ends.
enum End {
    Gone,
    Broken(ProtocolError),
}

impl From<ProtocolError> for End {
    fn from(error: ProtocolError) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

struct Client {
    stream: Stream,
    shared: Arc<Shared>,
    kind: Kind,
    cookie: String,
    version: Option<u32>,
    /// Whether `CPID` was said; login processes also get a place for their logins.
    greeted: bool,
    place: Option<Place>,
    open: HashMap<u32, Open>,
    tasks: JoinSet<Event>,
    checks: HashMap<Id, u32>,
    out: Vec<u8>,
}

/// Serves a connection until its client goes, or breaks the protocol.
pub async fn serve(stream: Stream, shared: Arc<Shared>, kind: Kind) {
    let cookie = match shared.cookie() {
        Ok(cookie) => cookie,
        Err(error) => {
            tracing::error!(target: "mail", ident = "dovecot", "auth: Error: no random bytes: {error}");
            return;
        }
    };
    let mut client = Client {
        stream,
        kind,
        cookie,
        version: None,
        greeted: false,
        place: None,
        open: HashMap::new(),
        tasks: JoinSet::new(),
        checks: HashMap::new(),
        out: Vec::new(),
        shared,
    };
    if let Err(End::Broken(error)) = client.run().await {
        tracing::error!(target: "mail", ident = "dovecot", "auth: Error: BUG: Authentication client {error}");
    }
}

impl Client {
    async fn run(&mut self) -> Result<(), End> {
        self.greet();
        let mut lines = Lines::default();
        let mut tick = interval(Duration::from_secs(15));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        let mut finished = pin!(shared.finished());
        let mut finishing: Option<Instant> = None;
        loop {
            while let Some(line) = lines.next_line().map_err(|_| ProtocolError::LineTooLong)? {
                self.line(&line)?;
            }
            self.flush().await?;
            if let Some(since) = finishing
                && self.tasks.is_empty()
                && (!self.place.as_ref().is_some_and(Place::is_waiting) || since.elapsed() > LINGER)
            {
                // the client connects again, to the process that has taken over
                return Err(End::Gone);
            }
            tokio::select! {
                () = &mut finished, if finishing.is_none() => finishing = Some(Instant::now()),
                () = sleep(LINGER / 20), if finishing.is_some() => {}
                read = self.stream.read_buf(lines.buffer()) => {
                    if read? == 0 {
                        return Err(End::Gone);
                    }
                }
                Some(done) = self.tasks.join_next_with_id() => match done {
                    Ok((task, event)) => {
                        self.checks.remove(&task);
                        self.event(event);
                    }
                    Err(lost) => self.lost(lost.id()),
                },
                _ = tick.tick() => self.open.retain(|_, open| match open {
                    Open::Talking { since, .. } => since.elapsed() < SILENCE,
                    Open::Checking => true,
                }),
            }
        }
    }

    fn greet(&mut self) {
        let realm = &self.shared.engine.settings.realm;
        let welcome = Welcome {
            mechanisms: realm.mechanisms.iter().map(|name| name.announcement()).collect(),
            server_pid: std::process::id(),
            connection: self.shared.connection_number(),
            cookie: self.cookie.clone(),
        };
        write_handshake(&welcome, &mut self.out);
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = timeout(WRITE_TIMEOUT, self.stream.write_all(&self.out)).await;
        written.map_err(|_| End::Gone)??;
        self.out.clear();
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        match ClientLine::parse(line, self.version.unwrap_or(0))? {
            ClientLine::Version { major, minor } => {
                if major != VERSION.0 {
                    return Err(ProtocolError::Incompatible);
                }
                self.version = Some(minor);
            }
            ClientLine::Cpid(pid) => {
                if self.greeted {
                    return Err(ProtocolError::BadCpid);
                }
                if self.kind == Kind::Login {
                    let place = self.shared.registry.enter(pid, &self.cookie);
                    self.place = Some(place.ok_or(ProtocolError::BadCpid)?);
                }
                self.greeted = true;
            }
            _ if !self.greeted || self.version.is_none() => {
                return Err(ProtocolError::BeforeHandshake);
            }
            ClientLine::Auth { id, request, bad_base64 } => self.auth(id, *request, bad_base64)?,
            ClientLine::Continue { id, data } => self.answer(id, data),
            ClientLine::Cancel { id } => drop(self.open.remove(&id)),
        }
        Ok(())
    }

    fn auth(&mut self, id: u32, request: Request, bad_base64: bool) -> Result<(), ProtocolError> {
        if self.open.contains_key(&id) {
            return Err(ProtocolError::DuplicateId);
        }
        let realm = self.shared.engine.settings.realm(&request.service);
        let name = MechanismName::parse(&request.mechanism)
            .filter(|name| realm.mechanisms.contains(name))
            .ok_or(ProtocolError::UnknownMechanism)?;
        if bad_base64 {
            self.refuse(id, "Invalid base64 data in initial response", Some("invalid_base64"));
            return Ok(());
        }
        if self.open.len() >= OPEN || self.tasks.len() >= HELD_BACK {
            self.refuse(id, "Too many authentication requests", Some("temp_fail"));
            return Ok(());
        }
        if realm.require_client_cert && !request.valid_client_cert {
            let login = Login::new(request);
            let mechanism = login.request.mechanism.to_ascii_lowercase();
            let why = "Client didn't present valid SSL certificate";
            log::info(realm.log.verbose, &login, &mechanism, why);
            self.fail_later(id, &login, Failure::Password);
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nonce = Nonce {
            digits: self.shared.random_number(),
            unix_time: now.as_secs(),
            hostname: &self.shared.engine.settings.hostname,
        };
        let step = Exchange::start(name, request.initial_response.as_deref(), &nonce);
        self.go_on(id, Box::new(Login::new(request)), step);
        Ok(())
    }

    fn answer(&mut self, id: u32, data: Option<Vec<u8>>) {
        match (self.open.remove(&id), data) {
            (None, _) => self.refuse(id, "Authentication request timed out", None),
            (Some(Open::Checking), _) => self.refuse(id, "Unexpected continuation", None),
            (Some(Open::Talking { .. }), None) => {
                self.refuse(
                    id,
                    "Invalid base64 data in continued response",
                    Some("invalid_base64"),
                );
            }
            (Some(Open::Talking { exchange, login, .. }), Some(data)) => {
                self.go_on(id, login, exchange.step(&data));
            }
        }
    }

    fn refuse(&mut self, id: u32, reason: &str, code: Option<&str>) {
        let mut params = Params::new();
        if let Some(code) = code {
            params.set("code", code);
        }
        params.set("reason", reason);
        ServerLine::Fail { id, params }.write(&mut self.out);
    }

    fn go_on(
        &mut self,
        id: u32,
        login: Box<Login>,
        (next, progress): (Option<Exchange>, Progress),
    ) {
        match (next, progress) {
            (Some(exchange), Progress::Challenge(data)) => {
                ServerLine::Continue { id, data }.write(&mut self.out);
                self.open.insert(id, Open::Talking { exchange, login, since: Instant::now() });
            }
            (_, Progress::Claim(claim)) => {
                self.open.insert(id, Open::Checking);
                let shared = Arc::clone(&self.shared);
                let task = self.tasks.spawn(check(shared, id, login, claim));
                self.checks.insert(task.id(), id);
            }
            (_, Progress::Invalid(why)) => {
                let mechanism = login.request.mechanism.to_ascii_lowercase();
                let realm = self.shared.engine.settings.realm(&login.request.service);
                log::info(realm.log.verbose, &login, &mechanism, why);
                self.fail_later(id, &login, Failure::Password);
            }
            (None, Progress::Challenge(_)) => {} // no mechanism asks without waiting for an answer
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Due(line) => line.write(&mut self.out),
            Event::Checked { id, login, claim, outcome } => {
                if self.open.remove(&id).is_none() {
                    return; // cancelled
                }
                match outcome {
                    Ok(()) => self.succeed(id, *login, &claim),
                    Err(failure) => self.fail_later(id, &login, failure),
                }
            }
        }
    }

    /// A check that panicked: its client must not wait for ever.
    fn lost(&mut self, task: Id) {
        if let Some(id) = self.checks.remove(&task)
            && self.open.remove(&id).is_some()
        {
            self.refuse(id, "Internal failure", Some("temp_fail"));
        }
    }

    fn succeed(&mut self, id: u32, login: Login, claim: &Claim) {
        let mut params = Params::new();
        params.set("user", &login.user);
        for (name, value) in login.fields.iter() {
            // flags are true whatever they say, and show without a value
            let flag = matches!(name, "nologin" | "proxy" | "proxy_maybe" | "anonymous");
            params.push(name, value.filter(|_| !flag).map(str::to_owned));
        }
        if let (Kind::Login, true, Claim::Password { password, .. }) =
            (self.kind, login.fields.has("proxy"), claim)
            && !params.has("pass")
        {
            params.set("pass", String::from_utf8_lossy(password));
        }
        origin(&login, &mut params);
        let stays = !login.fields.has("nologin") && !login.fields.has("proxy");
        ServerLine::Ok { id, params }.write(&mut self.out);
        if let Some(place) = &self.place
            && stays
        {
            place.keep(id, login);
        }
    }

    /// Answers a failure after `auth_failure_delay`, on a half second's beat: how long the look-up
    /// took tells nothing.
    fn fail_later(&mut self, id: u32, login: &Login, failure: Failure) {
        let mut params = Params::new();
        // a name that was refused as such is told twice, as Dovecot does
        let refused = login.user.is_empty() && login.named;
        if refused {
            params.set("user", &login.typed);
            params.set("original_user", &login.typed);
        } else if login.named {
            params.set("user", &login.user);
        }
        if login.steer.no_delay || login.fields.has("nodelay") {
            params.set_flag("nodelay");
        }
        let (code, reason) = match failure {
            Failure::Password => (None, None),
            Failure::Expired => (Some("pass_expired"), Some("Password expired")),
            Failure::Disabled => (Some("user_disabled"), None),
            Failure::Authorization => (Some("authz_fail"), None),
            Failure::Temporary => (Some("temp_fail"), None),
        };
        if let Some(code) = code {
            params.set("code", code);
        }
        if let Some(reason) = login.fields.get("reason").or(reason) {
            params.set("reason", reason);
        }
        origin(login, &mut params);
        let delay = self.shared.engine.settings.failure_delay;
        let line = ServerLine::Fail { id, params };
        if delay.is_zero() || login.steer.no_delay || self.tasks.len() >= HELD_BACK {
            line.write(&mut self.out);
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let beat = 500 - u64::from(now.subsec_millis()) % 500;
        self.tasks.spawn(async move {
            sleep(delay + Duration::from_millis(beat)).await;
            Event::Due(line)
        });
    }
}

/// Which name was typed, where another one came of it, and who the master user is.
fn origin(login: &Login, params: &mut Params) {
    let shown = params.get("user").unwrap_or_default();
    if login.named && login.typed != shown {
        params.set("original_user", &login.typed);
    }
    if let Some(master) = &login.master {
        params.set("auth_user", master);
    }
}

/// Checks one claim, after the penalty of its address.
async fn check(shared: Arc<Shared>, id: u32, mut login: Box<Login>, claim: Claim) -> Event {
    let engine = &shared.engine;
    let realm = engine.settings.realm(&login.request.service);
    let address = login.request.remote_address;
    let counted = engine.settings.penalty && !login.request.no_penalty;
    if counted {
        sleep(shared.penalties.wait(address)).await;
    }
    let authorization = match &claim {
        Claim::Password { authorization, .. } => authorization.as_deref(),
        Claim::CramMd5 { .. } => None,
    };
    let outcome = match login.set_user(realm, claim.user(), authorization) {
        Ok(()) => chain::authenticate(engine, realm, &mut login, &claim).await,
        Err(bad) => {
            let mechanism = login.request.mechanism.to_ascii_lowercase();
            login.user = String::new();
            log::info(
                realm.log.verbose,
                &login,
                &mechanism,
                &crate::login::clean(&bad.to_string()),
            );
            Err(Failure::Password)
        }
    };
    if counted {
        match (&outcome, &claim) {
            (Ok(()), _) => shared.penalties.succeeded(address),
            (Err(Failure::Temporary), _) => {}
            (Err(_), Claim::Password { user, password, .. }) => {
                shared.penalties.failed(address, user, password);
            }
            (Err(_), Claim::CramMd5 { user, response, .. }) => {
                shared.penalties.failed(address, user, response.as_bytes());
            }
        }
    }
    Event::Checked { id, login, claim, outcome }
}
