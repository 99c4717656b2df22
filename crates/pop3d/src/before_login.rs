//! The conversation before the login (RFC 1939 section 4, RFC 5034), as Dovecot's pop3-login has it.

use daemon::{LineEnd, WireError};
use login::client::Stranded;
use login::{Client, Refusal, Security, Verdict};
use neighbours::auth::{Conversation, Success};
use protocol::base64;
use protocol::pop3::Login;

/// Octets of a command line.
const LONGEST_COMMAND: usize = 8 * 1024;
/// A SASL response of a client with a long token.
const LONGEST_RESPONSE: usize = 16 * 1024;
/// The client is sent away after more commands than this that make no sense.
const MOST_MISTAKES: u32 = 3;

/// What a command leads to.
enum Next {
    Go,
    /// The client is out; why, for the log.
    Leave(String),
    Accepted(Box<Success>),
    StartTls,
}

struct Conversing {
    client: Client,
    /// What USER said.
    user: Option<Vec<u8>>,
    mistakes: u32,
}

/// Serves one client until it has logged in or gone.
pub async fn converse(client: Client) {
    let mut conversing = Conversing { client, user: None, mistakes: 0 };
    let greeting = conversing.client.front().settings.greeting.clone();
    conversing.say(&format!("+OK {greeting}"));
    loop {
        match conversing.step().await {
            Ok(Next::Go) => {}
            Ok(Next::StartTls) => {
                if conversing.client.start_tls().await.is_err() {
                    conversing.client.handshake_failed();
                    return;
                }
                // nothing that was said in the clear counts any more
                conversing.user = None;
            }
            Ok(Next::Leave(reason)) => {
                let _ = conversing.client.wire.flush().await;
                conversing.client.disconnected(&reason);
                conversing.client.wire.close().await;
                return;
            }
            Ok(Next::Accepted(success)) => {
                if let Err((client, stranded)) =
                    conversing.client.hand_over(*success, &[], &[]).await
                {
                    strand(client, stranded).await;
                }
                return;
            }
            Err(WireError::Timeout) => {
                conversing.say("-ERR Disconnected for inactivity.");
                let _ = conversing.client.wire.flush().await;
                conversing.client.disconnected("Inactivity");
                return;
            }
            Err(error) => {
                conversing.client.gone(Some(&error));
                return;
            }
        }
    }
}

/// The login was good, but there is no mailbox for it.
async fn strand(mut client: Client, stranded: Stranded) {
    let (answer, reason) = match stranded {
        Stranded::TooMany { limit } => {
            let text = format!(
                "Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})"
            );
            (format!("-ERR [IN-USE] {text}"), Some(text))
        }
        Stranded::Internal => (
            "-ERR [SYS/TEMP] Internal error occurred. Refer to server log for more information."
                .to_owned(),
            None,
        ),
    };
    client.wire.queue(format!("{answer}\r\n").as_bytes());
    let _ = client.wire.flush().await;
    match reason {
        Some(reason) => client.disconnected_plainly(&reason),
        None => client.disconnected("Internal login failure"),
    }
    client.wire.close().await;
}

impl Conversing {
    fn say(&mut self, text: &str) {
        self.client.wire.queue(text.as_bytes());
        self.client.wire.queue(b"\r\n");
    }

    async fn step(&mut self) -> Result<Next, WireError> {
        let buffered = self.client.wire.buffered_line(LONGEST_COMMAND)?;
        let line = match buffered {
            Some(line) => line,
            None => {
                // the answers to all that was pipelined go out at once
                self.client.wire.flush().await?;
                let Some(line) = self.client.line(LONGEST_COMMAND).await? else {
                    return Err(WireError::Closed);
                };
                line
            }
        };
        if line.end == LineEnd::TooLong {
            self.say("-ERR Input line too long.");
            return Ok(Next::Leave("Input line too long".to_owned()));
        }
        match Login::parse(&line.bytes) {
            Login::Capa => self.capabilities().await,
            Login::Quit => {
                self.say("+OK Logging out");
                return Ok(Next::Leave("Aborted login by logging out".to_owned()));
            }
            Login::Stls => return self.start_tls().await,
            Login::User(name) => self.user(name),
            Login::Pass(password) => return self.pass(password).await,
            Login::Apop => self.say("-ERR APOP not enabled."),
            Login::Auth { mechanism: None, .. } => {
                self.say("+OK");
                for mechanism in self.client.mechanisms().await {
                    self.say(&mechanism.name);
                }
                self.say(".");
            }
            Login::Auth { mechanism: Some(name), initial } => {
                return self.auth(name, initial).await;
            }
            Login::Unknown => {
                self.mistakes += 1;
                if self.mistakes > MOST_MISTAKES {
                    self.say("-ERR Too many invalid bad commands.");
                    return Ok(Next::Leave("Disconnected: Too many bad commands".to_owned()));
                }
                self.say("-ERR Unknown command.");
            }
        }
        Ok(Next::Go)
    }

    async fn capabilities(&mut self) {
        let mechanisms = self.client.mechanisms().await;
        for line in ["+OK", "CAPA", "TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE"] {
            self.say(line);
        }
        if self.client.offers_tls() {
            self.say("STLS");
        }
        if self.client.may_send_passwords() {
            self.say("USER");
        }
        let mut sasl = "SASL".to_owned();
        for mechanism in mechanisms {
            sasl.push(' ');
            sasl.push_str(&mechanism.name);
        }
        self.say(&sasl);
        self.say(".");
    }

    async fn start_tls(&mut self) -> Result<Next, WireError> {
        if !self.client.offers_tls() {
            self.say(match self.client.facts.security {
                Security::Tls => "-ERR TLS is already active.",
                _ => "-ERR TLS support isn't enabled.",
            });
            return Ok(Next::Go);
        }
        self.say("+OK Begin TLS negotiation now.");
        self.client.wire.flush().await?;
        Ok(Next::StartTls)
    }

    fn user(&mut self, name: &[u8]) {
        if !self.client.may_send_passwords() {
            let refusal = self.client.password_in_the_clear(name);
            self.say(&refused(&refusal));
            return;
        }
        self.user = Some(name.to_vec());
        self.say("+OK");
    }

    async fn pass(&mut self, password: &[u8]) -> Result<Next, WireError> {
        let Some(user) = self.user.take() else {
            // a client that did not look at the answer to USER sees it here
            if self.client.may_send_passwords() {
                self.say("-ERR No username given.");
            } else {
                let verdict = self.client.password(b"", password).await;
                return self.verdict(verdict).await;
            }
            return Ok(Next::Go);
        };
        self.client.wire.flush().await?;
        let verdict = self.client.password(&user, password).await;
        self.verdict(verdict).await
    }

    async fn auth(&mut self, name: &str, initial: Option<&str>) -> Result<Next, WireError> {
        let initial = match initial {
            None => None,
            Some("=") => Some(Vec::new()),
            Some(text) => match base64::decode(text.as_bytes()) {
                Some(response) => Some(response),
                None => {
                    let refusal = self.client.begin_with_nonsense(name);
                    self.say(&refused(&refusal));
                    return Ok(Next::Go);
                }
            },
        };
        self.client.wire.flush().await?;
        let verdict = self.client.begin(name, initial).await;
        if matches!(verdict, Verdict::Refused(Refusal::PlaintextDisabled)) {
            self.say("-ERR [AUTH] Plaintext authentication disabled.");
            return Ok(Next::Go);
        }
        self.verdict(verdict).await
    }

    /// Goes through the challenges to the end of a login attempt.
    async fn verdict(&mut self, mut verdict: Verdict) -> Result<Next, WireError> {
        loop {
            verdict = match verdict {
                Verdict::Accepted(success) => return Ok(Next::Accepted(success)),
                Verdict::Refused(refusal) => {
                    self.say(&refused(&refusal));
                    return Ok(Next::Go);
                }
                Verdict::Challenge(conversation, challenge) => {
                    match self.challenged(conversation, &challenge).await? {
                        Ok(verdict) => verdict,
                        Err(next) => return Ok(next),
                    }
                }
            }
        }
    }

    /// One challenge and its response; `Err` when the client breaks the login off.
    async fn challenged(
        &mut self,
        conversation: Conversation,
        challenge: &[u8],
    ) -> Result<Result<Verdict, Next>, WireError> {
        self.say(&format!("+ {}", base64::encode(challenge)));
        self.client.wire.flush().await?;
        let line = match self.client.line(LONGEST_RESPONSE).await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(WireError::Closed),
            Err(WireError::Timeout) => {
                self.say("-ERR Disconnected for inactivity during authentication.");
                return Ok(Err(Next::Leave("Inactivity during authentication".to_owned())));
            }
            Err(error) => return Err(error),
        };
        if &line.bytes[..] == b"*" {
            self.say("-ERR Authentication aborted by client.");
            return Ok(Err(Next::Go));
        }
        let Some(response) = base64::decode(&line.bytes) else {
            self.client.authenticate_failed("Invalid base64 in response");
            self.say("-ERR [AUTH] Invalid base64 in response");
            return Ok(Err(Next::Go));
        };
        Ok(Ok(self.client.respond(conversation, &response).await))
    }
}

/// The answer to a failed login.
fn refused(refusal: &Refusal) -> String {
    let with = |reason: &Option<String>, text: &str| {
        let reason = reason.as_deref().map(login::log::printable);
        format!("-ERR [AUTH] {}", reason.as_deref().unwrap_or(text))
    };
    match refusal {
        Refusal::Failed { reason } => with(reason, "Authentication failed."),
        Refusal::Authorization { reason } => with(reason, "Authorization failed"),
        Refusal::Expired { reason } => with(reason, "Password expired"),
        Refusal::Disabled { reason } => with(reason, "Account is disabled."),
        Refusal::LoginDisabled { reason } => with(reason, "Login disabled for this user"),
        Refusal::InvalidBase64 => "-ERR [AUTH] Invalid base64 data in initial response".to_owned(),
        Refusal::Temporary => "-ERR [SYS/TEMP] Temporary authentication failure.".to_owned(),
        Refusal::UnsupportedMechanism => {
            "-ERR [AUTH] Unsupported authentication mechanism.".to_owned()
        }
        Refusal::PlaintextDisabled => {
            "-ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections."
                .to_owned()
        }
    }
}
