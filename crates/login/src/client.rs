//! One connection before its login: what the daemon's conversation works with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::{Line, Tls, Wire, WireError};
use neighbours::auth::{AuthError, Conversation, Failure, FailureCode, Step, Success};
use protocol::dovecot_auth::{Mechanism, Request, Secured, Ticket};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::attempts::Attempts;
use crate::facts::{Facts, Security};
use crate::front::Front;
use crate::log::{self, Words};
use crate::passage::Passage;
use crate::relay::relay;

/// A connection that has not logged in.
pub struct Client {
    pub wire: Wire,
    pub facts: Facts,
    front: Arc<Front>,
    attempts: Attempts,
    tls_failure: Option<String>,
}

/// What the auth server says to one step of a login.
#[derive(Debug)]
pub enum Verdict {
    /// The client must see this challenge; its response goes to [`Client::respond`].
    Challenge(Conversation, Vec<u8>),
    Accepted(Box<Success>),
    Refused(Refusal),
}

/// Why a login failed; the daemon words it for its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong password, unknown user, and everything else that nobody needs to know.
    Failed {
        reason: Option<String>,
    },
    Authorization {
        reason: Option<String>,
    },
    Expired {
        reason: Option<String>,
    },
    Disabled {
        reason: Option<String>,
    },
    /// The password is right, but logins are closed for this user.
    LoginDisabled {
        reason: Option<String>,
    },
    InvalidBase64,
    /// The auth server cannot tell now.
    Temporary,
    UnsupportedMechanism,
    /// A password without TLS.
    PlaintextDisabled,
}

/// Why an accepted login reached no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranded {
    /// `mail_max_userip_connections`.
    TooMany {
        limit: u32,
    },
    Internal,
}

/// What the login worker asks of the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub client_pid: u32,
    pub auth_id: u32,
    pub cookie: String,
    pub facts: Facts,
}

/// The broker's answer fits in here.
const LONGEST_ANSWER: usize = 256;
/// To confirm, to start a process, to look at a home directory on a slow disk.
const BROKER_PATIENCE: Duration = Duration::from_secs(90);

impl Client {
    pub(crate) fn new(wire: Wire, facts: Facts, front: Arc<Front>) -> Self {
        Self { wire, facts, front, attempts: Attempts::new(), tls_failure: None }
    }

    #[must_use]
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// A password may be sent now.
    #[must_use]
    pub fn may_send_passwords(&self) -> bool {
        self.facts.is_secured() || !self.front.settings.plaintext_needs_tls
    }

    /// STARTTLS is offered: there is an identity, and no TLS yet.
    #[must_use]
    pub fn offers_tls(&self) -> bool {
        self.front.tls.is_some() && self.facts.security != Security::Tls
    }

    /// The mechanisms to advertise on this connection.
    pub async fn mechanisms(&mut self) -> Vec<Mechanism> {
        let offered = self.front.auth.mechanisms().await.unwrap_or_default();
        let may = self.may_send_passwords();
        let shown = |one: &Mechanism| !one.is_private() && (may || !one.is_plaintext());
        offered.into_iter().filter(shown).collect()
    }

    /// A line, within what is left of the time for a login.
    ///
    /// # Errors
    ///
    /// As [`Wire::line`]; [`WireError::Timeout`] when the time is over.
    pub async fn line(&mut self, limit: usize) -> Result<Option<Line>, WireError> {
        let left = self.time_left();
        tokio::time::timeout(left, self.wire.line(limit)).await.unwrap_or(Err(WireError::Timeout))
    }

    /// Reads more octets, within what is left of the time for a login.
    ///
    /// # Errors
    ///
    /// As [`Wire::fill`]; [`WireError::Timeout`] when the time is over.
    pub async fn fill(&mut self) -> Result<usize, WireError> {
        let left = self.time_left();
        tokio::time::timeout(left, self.wire.fill()).await.unwrap_or(Err(WireError::Timeout))
    }

    /// Every attempt at a login gives the client time for another one.
    fn time_left(&self) -> Duration {
        let patience = self.front.settings.patience;
        let since = self.attempts.first.unwrap_or(self.attempts.connected);
        (patience * (1 + self.attempts.count.min(10))).saturating_sub(since.elapsed())
    }

    /// Becomes TLS; what the client sent before is forgotten.
    ///
    /// # Errors
    ///
    /// [`WireError`]; the connection is then of no more use.
    pub async fn start_tls(&mut self) -> Result<(), WireError> {
        let Some(tls) = self.front.tls.clone() else { return Err(WireError::Closed) };
        self.handshake(&tls).await
    }

    pub(crate) async fn handshake(&mut self, tls: &Tls) -> Result<(), WireError> {
        match self.wire.start_tls(tls).await {
            Ok(_) => {
                self.facts.security = Security::Tls;
                let facts = self.wire.tls();
                self.facts.server_name = facts.and_then(|facts| facts.server_name.clone());
                Ok(())
            }
            Err(error) => {
                self.tls_failure = Some(match &error {
                    WireError::Closed => "Connection closed".to_owned(),
                    WireError::Handshake(cause) if is_end(cause) => "Connection closed".to_owned(),
                    WireError::Handshake(cause) => {
                        format!("SSL_accept() failed: {}", log::printable(&cause.to_string()))
                    }
                    other => other.to_string(),
                });
                Err(error)
            }
        }
    }

    /// The client's initial response is no base64: an attempt that no auth server needs to see.
    pub fn begin_with_nonsense(&mut self, mechanism: &str) -> Refusal {
        self.attempts.count += 1;
        self.attempts.first.get_or_insert_with(Instant::now);
        self.attempts.method = log::printable(&mechanism.to_ascii_uppercase());
        self.attempts.last = Some(Refusal::InvalidBase64);
        if self.front.settings.verbose {
            let mechanism = self.attempts.method.to_ascii_lowercase();
            let (remote, session) = (self.facts.remote.ip(), &self.facts.session);
            tracing::info!(target: "mail", ident = "dovecot",
                "auth: {mechanism}(?,{remote},<{session}>): Invalid base64 data in initial response");
        }
        Refusal::InvalidBase64
    }

    /// Begins a login. `initial` is the SASL initial response, if the client sent one.
    pub async fn begin(&mut self, mechanism: &str, initial: Option<Vec<u8>>) -> Verdict {
        self.attempts.count += 1;
        self.attempts.first.get_or_insert_with(Instant::now);
        self.attempts.method = log::printable(&mechanism.to_ascii_uppercase());
        let auth = match self.front.auth.ready().await {
            Ok(auth) => auth,
            Err(error) => return self.cannot_ask(&error),
        };
        let is_asked = |one: &&Mechanism| one.name.eq_ignore_ascii_case(mechanism);
        let Some(known) = auth.mechanisms().iter().find(is_asked) else {
            self.authenticate_failed("Unsupported authentication mechanism.");
            return self.refused(Refusal::UnsupportedMechanism);
        };
        if known.is_plaintext() && !self.may_send_passwords() {
            self.attempts.tried_in_the_clear = true;
            self.authenticate_failed("Plaintext authentication disabled.");
            return self.refused(Refusal::PlaintextDisabled);
        }
        let request = Request {
            mechanism: known.name.clone(),
            service: self.front.settings.service.clone(),
            local_address: Some(self.facts.local.ip()),
            remote_address: Some(self.facts.remote.ip()),
            local_port: Some(self.facts.local.port()),
            remote_port: Some(self.facts.remote.port()),
            secured: match self.facts.security {
                Security::None => Secured::No,
                Security::Trusted => Secured::Trusted,
                Security::Tls => Secured::Tls,
            },
            session: Some(self.facts.session.clone()),
            local_name: self.facts.server_name.clone(),
            initial_response: initial,
            ..Request::default()
        };
        let step = auth.start(&request).await;
        self.verdict(step)
    }

    /// A login with name and password, which the protocol has commands for.
    pub async fn password(&mut self, user: &[u8], password: &[u8]) -> Verdict {
        if !self.may_send_passwords() {
            return Verdict::Refused(self.password_in_the_clear(user));
        }
        self.attempts.user = String::from_utf8_lossy(user).into_owned();
        self.begin("PLAIN", Some(protocol::dovecot_auth::sasl::plain(user, password))).await
    }

    /// A name or password where none may be sent.
    pub fn password_in_the_clear(&mut self, user: &[u8]) -> Refusal {
        if self.front.settings.verbose {
            self.log("Login failed: Plaintext authentication disabled", None);
        }
        self.attempts.count += 1;
        if self.attempts.user.is_empty() {
            self.attempts.user = String::from_utf8_lossy(user).into_owned();
        }
        Refusal::PlaintextDisabled
    }

    /// Passes on what the client answered to a challenge.
    pub async fn respond(&mut self, conversation: Conversation, response: &[u8]) -> Verdict {
        let step = conversation.answer(response).await;
        self.verdict(step)
    }

    /// A SASL conversation ended before the auth server could judge it; with `auth_verbose` that has a line.
    pub fn authenticate_failed(&self, reason: &str) {
        if self.front.settings.verbose {
            let method = &self.attempts.method;
            self.log(&format!("Authenticate {method} failed: {reason}"), None);
        }
    }

    fn verdict(&mut self, step: Result<Step, AuthError>) -> Verdict {
        self.attempts.unfinished = false;
        match step {
            Ok(Step::Continue(conversation, challenge)) => {
                self.attempts.unfinished = true;
                Verdict::Challenge(conversation, challenge)
            }
            Ok(Step::Success(success)) => {
                self.attempts.user.clone_from(&success.user);
                if success.nologin() {
                    let reason = success.params.get("reason").map(str::to_owned);
                    return self.refused(Refusal::LoginDisabled { reason });
                }
                self.attempts.accepted += 1;
                Verdict::Accepted(Box::new(success))
            }
            Ok(Step::Failure(failure)) => {
                if !failure.user.is_empty() {
                    self.attempts.user.clone_from(&failure.user);
                }
                self.refused(Refusal::from(failure))
            }
            Err(error) => self.cannot_ask(&error),
        }
    }

    fn cannot_ask(&mut self, error: &AuthError) -> Verdict {
        let service = &self.front.settings.service;
        tracing::error!(target: "mail", ident = "dovecot", "{service}-login: Error: auth: {error}");
        self.refused(Refusal::Temporary)
    }

    fn refused(&mut self, refusal: Refusal) -> Verdict {
        self.attempts.last = Some(refusal.clone());
        Verdict::Refused(refusal)
    }

    /// Gives the connection to the mailbox worker of the user and, with TLS, relays it until its
    /// end. `extra` reaches the daemon's session; `input` is what the conversation has read and not
    /// used, in front of what the wire still holds.
    ///
    /// # Errors
    ///
    /// The client and why its login reached no mailbox.
    pub async fn hand_over(
        mut self,
        success: Success,
        extra: &[u8],
        input: &[u8],
    ) -> Result<(), (Self, Stranded)> {
        if self.wire.flush().await.is_err() {
            self.gone(None);
            return Ok(());
        }
        let wire = std::mem::replace(&mut self.wire, Wire::from_io(tokio::io::empty()));
        let Ok((stream, read_ahead)) = wire.into_parts() else {
            return Err((self, Stranded::Internal));
        };
        let input = [input, &read_ahead].concat();
        let passage = match Passage::of(stream) {
            Ok(passage) => passage,
            Err(stream) => {
                self.wire = Wire::new(stream);
                return Err((self, Stranded::Internal));
            }
        };
        let (passage, descriptor) = passage;
        let answer = self.ask_broker(&success.ticket, extra, &input, descriptor).await;
        drop(success); // with the auth server's connection, which a relay shall not keep
        match answer {
            Ok(mail_pid) => {
                self.log("Login", Some(mail_pid));
                if let Passage::Relay { client, worker } = passage {
                    relay(client, worker).await;
                }
                Ok(())
            }
            Err(stranded) => {
                self.wire = Wire::new(passage.into_client());
                Err((self, stranded))
            }
        }
    }

    async fn ask_broker(
        &mut self,
        ticket: &Ticket,
        extra: &[u8],
        input: &[u8],
        descriptor: std::os::fd::OwnedFd,
    ) -> Result<u32, Stranded> {
        let claim = Claim {
            client_pid: ticket.client_pid,
            auth_id: ticket.auth_id,
            cookie: ticket.cookie.clone(),
            facts: self.facts.clone(),
        };
        let ask = async {
            let request = crate::packet::join(&claim, extra, input).ok()?;
            let answer = self.front.broker.ask(&request, vec![descriptor]).await.ok()?;
            let mut text = String::new();
            let limit = u64::try_from(LONGEST_ANSWER).unwrap_or(u64::MAX);
            answer.take(limit).read_to_string(&mut text).await.ok()?;
            Some(text)
        };
        let text =
            tokio::time::timeout(BROKER_PATIENCE, ask).await.ok().flatten().unwrap_or_default();
        match text.trim_end().split_once(' ') {
            Some(("OK", pid)) => pid.parse().map_err(|_| Stranded::Internal),
            Some(("LIMIT", limit)) => {
                Err(limit.parse().map_or(Stranded::Internal, |limit| Stranded::TooMany { limit }))
            }
            _ => Err(Stranded::Internal),
        }
    }

    /// Logs that no TLS could be agreed on.
    pub fn handshake_failed(&self) {
        match self.tls_failure.as_deref() {
            None | Some("Connection closed") => self.disconnected("Connection closed"),
            Some(failure) => self.disconnected(&format!("Connection closed: {failure}")),
        }
    }

    /// Logs that the client closed the connection, or what else ended it.
    pub fn gone(&mut self, error: Option<&WireError>) {
        let mut reason = "Connection closed".to_owned();
        if let Some(WireError::Io(cause)) = error
            && !matches!(cause.kind(), std::io::ErrorKind::UnexpectedEof)
        {
            let cause = cause.to_string();
            let cause = cause.split(" (os error").next().unwrap_or_default();
            reason = format!("Connection closed: {}", log::printable(cause));
        }
        if self.facts.security == Security::Tls {
            let failure = reason.strip_prefix("Connection closed: ").unwrap_or(&reason);
            self.tls_failure = Some(failure.to_owned());
        }
        self.disconnected(&reason);
    }

    /// Logs that the client has gone, and why: `Disconnected: reason (auth failed, 2 attempts …)`.
    pub fn disconnected(&self, reason: &str) {
        let history = self.attempts.history();
        self.log(&format!("Disconnected: {reason} ({history})"), None);
    }

    /// As [`Self::disconnected`], for ends that tell all themselves.
    pub fn disconnected_plainly(&self, reason: &str) {
        self.log(&format!("Disconnected: {reason}"), None);
    }

    /// Logs a line about this client in the form of `login_log_format`.
    pub fn log(&self, message: &str, mail_pid: Option<u32>) {
        let settings = &self.front.settings;
        let words = Words {
            service: &settings.service,
            user: &self.attempts.user,
            method: &self.attempts.method,
            facts: &self.facts,
            mail_pid,
            tls_failure: self.tls_failure.as_deref(),
        };
        let line = log::line(&settings.log_format, &settings.log_elements, message, &words);
        let service = &settings.service;
        tracing::info!(
            target: "mail",
            ident = "dovecot",
            session = %self.facts.session,
            user = %log::printable(&self.attempts.user),
            remote = %self.facts.remote.ip(),
            "{service}-login: {line}"
        );
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let reason = failure.reason;
        match failure.code {
            Some(FailureCode::Temporary) => Self::Temporary,
            Some(FailureCode::Authorization) => Self::Authorization { reason },
            Some(FailureCode::Disabled) => Self::Disabled { reason },
            Some(FailureCode::Expired) => Self::Expired { reason },
            Some(FailureCode::InvalidBase64) => Self::InvalidBase64,
            Some(FailureCode::Unknown) | None => Self::Failed { reason },
        }
    }
}

fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
