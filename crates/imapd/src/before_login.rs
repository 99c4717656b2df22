//! The conversation before the login (RFC 3501 sections 6.1 and 6.2), as Dovecot's imap-login has it.

use daemon::WireError;
use login::client::Stranded;
use login::{Client, Refusal, Verdict};
use neighbours::auth::{Conversation, Success};
use protocol::base64;
use protocol::imap::capability::{BeforeLogin, before_login};
use protocol::imap::{Command, Event, Framer, Limits, Line};

use crate::commands::select::{id_answer, id_logged};
use crate::greeting::Greeting;
use crate::login_settings::LoginSettings;

/// Octets of one command before the login.
const LONGEST_COMMAND: usize = 8 * 1024;
/// A SASL response of a client with a long token.
const LONGEST_RESPONSE: usize = 16 * 1024;
/// The client is sent away after so many commands that make no sense.
const MOST_MISTAKES: u32 = 3;

/// What a command leads to.
enum Next {
    Go,
    /// The client is out; why, for the log.
    Leave(String),
    Accepted {
        tag: String,
        success: Box<Success>,
    },
    StartTls,
}

/// One connection's conversation.
struct Conversing {
    client: Client,
    own: LoginSettings,
    framer: Framer,
    asked_capabilities: bool,
    after_starttls: bool,
    mistakes: u32,
}

fn framer() -> Framer {
    Framer::new(Limits { command: LONGEST_COMMAND, messages: false })
}

/// Serves one client until it has logged in or gone.
pub async fn converse(client: Client) {
    let own = serde_json::from_value(client.front().settings.own.clone()).unwrap_or_default();
    let mut conversing = Conversing {
        client,
        own,
        framer: framer(),
        asked_capabilities: false,
        after_starttls: false,
        mistakes: 0,
    };
    let greeting = conversing.client.front().settings.greeting.clone();
    let capabilities = conversing.capabilities().await;
    conversing.line(&format!("* OK [CAPABILITY {capabilities}] {greeting}"));
    loop {
        match conversing.step().await {
            Ok(Next::Go) => {}
            Ok(Next::StartTls) => {
                if conversing.client.start_tls().await.is_err() {
                    conversing.client.handshake_failed();
                    return;
                }
                conversing.after_starttls = true;
                // Nothing of what came in the clear counts any more.
                conversing.framer = framer();
            }
            Ok(Next::Leave(reason)) => {
                let _ = conversing.client.wire.flush().await;
                conversing.client.disconnected(&reason);
                conversing.client.wire.close().await;
                return;
            }
            Ok(Next::Accepted { tag, success }) => {
                let greeting =
                    Greeting { tag: tag.clone(), asked: conversing.asked_capabilities }.write();
                match conversing.client.hand_over(*success, &greeting, &[]).await {
                    Ok(()) => {}
                    Err((client, stranded)) => strand(client, &tag, stranded).await,
                }
                return;
            }
            Err(WireError::Timeout) => {
                conversing.line("* BYE Disconnected for inactivity.");
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
async fn strand(mut client: Client, tag: &str, stranded: Stranded) {
    let (text, reason) = match stranded {
        Stranded::TooMany { limit } => {
            let text = format!(
                "Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})"
            );
            (format!("[LIMIT] {text}"), Some(text))
        }
        Stranded::Internal => (
            "[UNAVAILABLE] Internal error occurred. Refer to server log for more information."
                .to_owned(),
            None,
        ),
    };
    client.wire.queue(format!("{tag} NO {text}\r\n").as_bytes());
    let _ = client.wire.flush().await;
    match reason {
        Some(reason) => client.disconnected_plainly(&reason),
        None => client.disconnected("Internal login failure"),
    }
    client.wire.close().await;
}

impl Conversing {
    fn line(&mut self, text: &str) {
        self.client.wire.queue(text.as_bytes());
        self.client.wire.queue(b"\r\n");
    }

    async fn capabilities(&mut self) -> String {
        let mechanisms = self.client.mechanisms().await;
        before_login(&BeforeLogin {
            starttls: self.client.offers_tls(),
            login_disabled: !self.client.may_send_passwords(),
            mechanisms: mechanisms.iter().map(|one| one.name.as_str()).collect(),
        })
    }

    /// One event of the client.
    async fn step(&mut self) -> Result<Next, WireError> {
        loop {
            let (taken, event) = self.framer.take(self.client.wire.buffer());
            self.client.wire.consume(taken);
            match event {
                Event::More => {
                    if self.client.fill().await? == 0 {
                        return Err(WireError::Closed);
                    }
                }
                Event::Continue => {
                    self.line("+ OK");
                    self.client.wire.flush().await?;
                }
                Event::Command(text) => return self.command(&text).await,
                Event::Message { .. } | Event::LiteralTooLarge => {
                    self.line("* BYE Literal size too large");
                    return Ok(Next::Leave("Literal size too large".to_owned()));
                }
                Event::TooLong { .. } => {
                    self.line("* BYE Input buffer full, aborting");
                    return Ok(Next::Leave("Input buffer full".to_owned()));
                }
            }
        }
    }

    async fn command(&mut self, text: &[u8]) -> Result<Next, WireError> {
        let read = Line::split(text).and_then(|line| Ok((line.tag.to_owned(), line.command()?)));
        let (tag, command) = match read {
            Ok(read) => read,
            Err(mistake) => return Ok(self.mistake(mistake.tag.as_deref())),
        };
        match command {
            Command::Capability => {
                // After STARTTLS every client has to ask; that says nothing about the answer's code.
                self.asked_capabilities |= !self.after_starttls;
                let list = self.capabilities().await;
                self.line(&format!("* CAPABILITY {list}"));
                self.line(&format!(
                    "{tag} OK Pre-login capabilities listed, post-login capabilities have more."
                ));
            }
            Command::Noop => self.line(&format!("{tag} OK NOOP completed.")),
            Command::Logout => {
                self.line("* BYE Logging out");
                self.line(&format!("{tag} OK Logout completed."));
                return Ok(Next::Leave("Aborted login by logging out".to_owned()));
            }
            Command::Id(fields) => {
                let answer = id_answer(&self.own.id_send);
                self.client.wire.queue(&answer);
                self.line(&format!("{tag} OK ID completed."));
                let logged = id_logged(&fields, &self.own.id_log);
                if !self.own.id_log.is_empty() && !logged.is_empty() {
                    self.client.log(&format!("ID sent: {logged}"), None);
                }
            }
            Command::Enable(_) => {
                self.line("* ENABLED");
                self.line(&format!("{tag} OK ENABLE ignored in non-authenticated state."));
            }
            Command::StartTls => return self.start_tls(&tag).await,
            Command::Login { user, password } => {
                let verdict = self.client.password(&user, &password).await;
                return self.verdict(tag, verdict).await;
            }
            Command::Authenticate { mechanism, initial } => {
                return self.authenticate(tag, &mechanism, initial.as_deref()).await;
            }
            _ => return Ok(self.mistake(Some(&tag))),
        }
        Ok(Next::Go)
    }

    async fn start_tls(&mut self, tag: &str) -> Result<Next, WireError> {
        if !self.client.offers_tls() {
            let reason = match self.client.facts.security {
                login::Security::Tls => "TLS is already active.",
                _ => "TLS support isn't enabled.",
            };
            self.line(&format!("{tag} BAD {reason}"));
            return Ok(Next::Go);
        }
        self.line(&format!("{tag} OK Begin TLS negotiation now."));
        self.client.wire.flush().await?;
        Ok(Next::StartTls)
    }

    async fn authenticate(
        &mut self,
        tag: String,
        mechanism: &str,
        initial: Option<&str>,
    ) -> Result<Next, WireError> {
        let initial = match initial {
            None => None,
            Some("=") => Some(Vec::new()),
            Some(text) => match base64::decode(text.as_bytes()) {
                Some(response) => Some(response),
                None => {
                    let refusal = self.client.begin_with_nonsense(mechanism);
                    self.refuse(&tag, &refusal);
                    return Ok(Next::Go);
                }
            },
        };
        let verdict = self.client.begin(mechanism, initial).await;
        if matches!(verdict, Verdict::Refused(Refusal::PlaintextDisabled)) {
            // Dovecot words this one differently for AUTHENTICATE.
            self.line(&format!("{tag} NO [PRIVACYREQUIRED] Plaintext authentication disabled."));
            return Ok(Next::Go);
        }
        self.verdict(tag, verdict).await
    }

    /// Goes through the challenges to the end of a login attempt.
    async fn verdict(&mut self, tag: String, verdict: Verdict) -> Result<Next, WireError> {
        let mut verdict = verdict;
        loop {
            verdict = match verdict {
                Verdict::Accepted(success) => return Ok(Next::Accepted { tag, success }),
                Verdict::Refused(refusal) => {
                    self.refuse(&tag, &refusal);
                    return Ok(Next::Go);
                }
                Verdict::Challenge(conversation, challenge) => {
                    match self.challenged(&tag, conversation, &challenge).await? {
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
        tag: &str,
        conversation: Conversation,
        challenge: &[u8],
    ) -> Result<Result<Verdict, Next>, WireError> {
        self.line(&format!("+ {}", base64::encode(challenge)));
        let answered = self.client.line(LONGEST_RESPONSE).await;
        let line = match answered {
            Ok(Some(line)) => line,
            Ok(None) => return Err(WireError::Closed),
            Err(WireError::Timeout) => {
                self.line("* BYE Disconnected for inactivity during authentication.");
                return Ok(Err(Next::Leave("Inactivity during authentication".to_owned())));
            }
            Err(error) => return Err(error),
        };
        if &line.bytes[..] == b"*" {
            self.line(&format!("{tag} BAD Authentication aborted by client."));
            return Ok(Err(Next::Go));
        }
        let Some(response) = base64::decode(&line.bytes) else {
            self.client.authenticate_failed("Invalid base64 in response");
            self.line(&format!("{tag} BAD Invalid base64 data in continued response"));
            return Ok(Err(Next::Go));
        };
        Ok(Ok(self.client.respond(conversation, &response).await))
    }

    fn refuse(&mut self, tag: &str, refusal: &Refusal) {
        if *refusal == Refusal::PlaintextDisabled {
            self.line(
                "* BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client \
                 did it anyway. If anyone was listening, the password was exposed.",
            );
        }
        let text = refused_text(refusal);
        self.line(&format!("{tag} {text}"));
    }

    fn mistake(&mut self, tag: Option<&str>) -> Next {
        self.mistakes += 1;
        if self.mistakes >= MOST_MISTAKES {
            self.line("* BYE Too many invalid IMAP commands.");
            return Next::Leave("Too many invalid commands".to_owned());
        }
        let tag = tag.unwrap_or("*");
        self.line(&format!("{tag} BAD Error in IMAP command received by server."));
        Next::Go
    }
}

/// The tagged answer to a failed login, without its tag.
fn refused_text(refusal: &Refusal) -> String {
    let with = |code: &str, reason: &Option<String>, text: &str| {
        let reason = reason.as_deref().map(login::log::printable);
        format!("NO [{code}] {}", reason.as_deref().unwrap_or(text))
    };
    match refusal {
        Refusal::Failed { reason } => {
            with("AUTHENTICATIONFAILED", reason, "Authentication failed.")
        }
        Refusal::Authorization { reason } => {
            with("AUTHORIZATIONFAILED", reason, "Authorization failed")
        }
        Refusal::Expired { reason } => with("EXPIRED", reason, "Password expired"),
        Refusal::Disabled { reason } => with("CONTACTADMIN", reason, "Account is disabled."),
        Refusal::LoginDisabled { reason } => {
            with("CONTACTADMIN", reason, "Login disabled for this user")
        }
        Refusal::InvalidBase64 => "BAD Invalid base64 data in initial response".to_owned(),
        Refusal::Temporary => "NO [UNAVAILABLE] Temporary authentication failure.".to_owned(),
        Refusal::UnsupportedMechanism => {
            "NO [ALERT] Unsupported authentication mechanism.".to_owned()
        }
        Refusal::PlaintextDisabled => {
            "NO [PRIVACYREQUIRED] Plaintext authentication disallowed on \
             non-secure (SSL/TLS) connections."
                .to_owned()
        }
    }
}
