//! AUTH: the client's words go to the auth server and back (RFC 4954).

use config::postfix::Pattern;
use daemon::LineEnd;
use neighbours::auth::{AuthError, Step as AuthStep};
use protocol::dovecot_auth::{Mechanism, Request, Secured};
use protocol::smtp::{decode_initial, decode_response, encode_challenge};
use routing::{Key, TableName, Tables};

use super::{Conversation, End, Step};
use crate::anvil::Event;
use crate::client::Login;
use crate::settings::Sasl;
use crate::text::{cut, printable};

/// Why an attempt came to nothing.
enum Failure {
    /// 535, with what the auth server lets the client know.
    Refused { reason: String, user: Option<String> },
    /// 454: it could not be tried.
    Temporary(&'static str),
    /// The client said `*`, or too much: it has been answered.
    Answered,
}

impl Conversation {
    /// The mechanisms for this connection as it is now, with or without TLS.
    pub(super) async fn offer_auth(&mut self) -> Step {
        let service = self.service().clone();
        self.session.offers.auth = None;
        let Some(sasl) =
            service.sasl.as_ref().filter(|_| self.session.tls || !service.tls.auth_only)
        else {
            return Ok(());
        };
        let offered = match self.context.mechanisms().await {
            Ok(mechanisms) => mechanisms,
            Err(error) => {
                self.log(&format!(
                    "warning: SASL: Connect to Dovecot auth socket '{}' failed: {error}",
                    sasl.shown
                ));
                self.log("fatal: no SASL authentication mechanisms");
                let text = format!("4.3.0 {} Server local error", self.host());
                self.say(421, text).await?;
                return Err(End::Closed);
            }
        };
        let options = if self.session.tls { &sasl.tls_options } else { &sasl.plain_options };
        let mut names = Vec::new();
        for mechanism in offered {
            if allowed(&mechanism, options) && self.passes_filter(sasl, &mechanism.name).await {
                names.push(mechanism.name);
            }
        }
        let client = &self.session.client;
        let hidden =
            sasl.exceptions.holds(&*self.context.tables, &client.name, client.address).await;
        self.session.offers.auth_hidden = hidden.unwrap_or(true);
        if names.is_empty() {
            self.log("fatal: no SASL authentication mechanisms");
            let text = format!("4.3.0 {} Server local error", self.host());
            self.say(421, text).await?;
            return Err(End::Closed);
        }
        self.session.offers.auth = Some(names);
        Ok(())
    }

    async fn passes_filter(&self, sasl: &Sasl, name: &str) -> bool {
        for item in &sasl.mechanism_filter {
            let hit = match &item.pattern {
                Pattern::Text(text) => text.eq_ignore_ascii_case(name),
                Pattern::Table(table) => {
                    let table = TableName::new(table.to_string());
                    let found = self.context.tables.lookup(&table, name, Key::Whole).await;
                    found.is_ok_and(|found| found.is_some())
                }
                Pattern::Network(_) | Pattern::File(_) => false,
            };
            if hit {
                return !item.negated;
            }
        }
        sasl.mechanism_filter.is_empty()
    }

    pub(super) async fn authenticate(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
    ) -> Result<bool, End> {
        let limit = self.service().rates.auth_rate;
        if let Some(rate) = self.too_many(Event::Auth, limit) {
            let (client, service) = (self.client(), self.service().name.clone());
            self.log(&format!(
                "warning: AUTH command rate limit exceeded: {rate} from {client} for service {service}"
            ));
            let address = self.session.client.address_text();
            self.say(450, format!("4.7.1 Error: too many AUTH commands from {address}")).await?;
            return Ok(true);
        }
        let failure = match self.exchange(mechanism, initial).await? {
            Ok(user) => {
                self.say(235, "2.7.0 Authentication successful").await?;
                self.session.login =
                    Some(Login { method: printable(mechanism, '?'), user: printable(&user, '?') });
                return Ok(false);
            }
            Err(Failure::Answered) => return Ok(true),
            Err(failure) => failure,
        };
        let (reason, user) = match &failure {
            Failure::Refused { reason, user } => (reason.as_str(), user.as_deref()),
            Failure::Temporary(reason) => (*reason, None),
            Failure::Answered => ("", None),
        };
        self.log(&format!(
            "warning: {}: SASL {} authentication failed: {reason}, sasl_username={}",
            self.client(),
            cut(&printable(mechanism, '?'), 100),
            cut(&printable(user.unwrap_or("(unavailable)"), '?'), 100),
        ));
        let (code, text) = match failure {
            Failure::Temporary(_) => {
                (454, format!("4.7.0 Temporary authentication failure: {reason}"))
            }
            _ => (535, format!("5.7.8 Error: authentication failed: {reason}")),
        };
        self.say(code, text).await?;
        Ok(true)
    }

    async fn exchange(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
    ) -> Result<Result<String, Failure>, End> {
        let refused = |reason: &str| Failure::Refused { reason: reason.to_owned(), user: None };
        let known = self.session.offers.auth.iter().flatten();
        if !known.into_iter().any(|name| name.eq_ignore_ascii_case(mechanism)) {
            return Ok(Err(refused("Invalid authentication mechanism")));
        }
        let initial = match initial.map(decode_initial) {
            None => None,
            Some(Some(response)) => Some(response),
            Some(None) => return Ok(Err(refused("Invalid base64 data in initial response"))),
        };
        let (Some(sasl), Some(auth)) = (self.service().sasl.clone(), self.context.auth.clone())
        else {
            return Ok(Err(Failure::Temporary("Can't connect to authentication server")));
        };
        let client = &self.session.client;
        let request = Request {
            mechanism: mechanism.to_ascii_uppercase(),
            service: sasl.service.clone(),
            local_address: client.server_address,
            remote_address: client.address,
            secured: if self.session.tls { Secured::Trusted } else { Secured::No },
            nologin: true,
            initial_response: initial,
            ..Request::default()
        };
        let mut step = auth.start(&request).await;
        loop {
            let (conversation, challenge) = match step {
                Ok(AuthStep::Continue(conversation, challenge)) => (conversation, challenge),
                Ok(AuthStep::Success(success)) => return Ok(Ok(success.user)),
                Ok(AuthStep::Failure(failure)) => {
                    let reason =
                        failure.reason.unwrap_or_else(|| "(reason unavailable)".to_owned());
                    let user = Some(failure.user).filter(|user| !user.is_empty());
                    return Ok(Err(Failure::Refused { reason: printable(&reason, '?'), user }));
                }
                Err(error) => return Ok(Err(self.unanswered(&error, &sasl))),
            };
            self.say(334, encode_challenge(&challenge)).await?;
            match self.response(mechanism, sasl.response_limit).await? {
                Ok(response) => step = conversation.answer(&response).await,
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }

    fn unanswered(&self, error: &AuthError, sasl: &Sasl) -> Failure {
        match error {
            AuthError::NoUser => {
                Failure::Refused { reason: "Authentication backend error".to_owned(), user: None }
            }
            AuthError::Connect { .. } | AuthError::Handshake { .. } => {
                self.log(&format!(
                    "warning: SASL: Connect to Dovecot auth socket '{}' failed: {error}",
                    sasl.shown
                ));
                Failure::Temporary("Can't connect to authentication server")
            }
            AuthError::Closed | AuthError::TimedOut => {
                Failure::Temporary("Connection lost to authentication server")
            }
        }
    }

    /// One line of the client's, decoded.
    async fn response(
        &mut self,
        mechanism: &str,
        limit: usize,
    ) -> Result<Result<Vec<u8>, Failure>, End> {
        let line = self.wire.line(limit).await?.ok_or(End::Lost)?;
        self.keep_heard_secret();
        let text = String::from_utf8_lossy(&line.bytes).into_owned();
        let text = text.trim_end_matches('\r');
        if line.end == LineEnd::TooLong {
            self.log(&format!(
                "warning: {}: request longer than {limit}: {}...",
                self.client(),
                cut(&printable(text, '?'), 30)
            ));
            self.say(500, "5.5.6 SASL response limit exceeded").await?;
            return Ok(Err(Failure::Answered));
        }
        if text == "*" {
            self.log(&format!(
                "warning: {}: SASL {} authentication aborted",
                self.client(),
                cut(&printable(mechanism, '?'), 100)
            ));
            self.say(501, "5.7.0 Authentication aborted").await?;
            return Ok(Err(Failure::Answered));
        }
        Ok(decode_response(text).ok_or_else(|| Failure::Refused {
            reason: "Invalid base64 data in continued response".to_owned(),
            user: None,
        }))
    }
}

/// Does the mechanism satisfy `smtpd_sasl_security_options`?
fn allowed(mechanism: &Mechanism, options: &[String]) -> bool {
    let has = |flag: &str| mechanism.flags.iter().any(|known| known == flag);
    !has("private")
        && options.iter().all(|option| match option.to_ascii_lowercase().as_str() {
            "noplaintext" => !has("plaintext"),
            "noanonymous" => !has("anonymous"),
            "nodictionary" => !has("dictionary"),
            "noactive" => !has("active"),
            "forward_secrecy" => has("forward-secrecy"),
            "mutual_auth" => has("mutual-auth"),
            _ => true,
        })
}
