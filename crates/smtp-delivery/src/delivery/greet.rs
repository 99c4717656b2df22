//! Everything before the message, driven: greeting, EHLO, TLS, login.

use routing::Key;

use super::Delivery;
use super::Site;
use crate::connection::{Broken, Connection};
use crate::policy;
use crate::session::Failure;
use crate::session::features::Discard;
use crate::session::hello::{Hello, Needs, Next};
use crate::session::login::{Credentials, Login};

/// Stands for what would let somebody log in.
const HIDDEN: &str = "(hidden)";

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    Ready,
    /// Reported, or left for another server.
    Failed,
    /// TLS broke where it is a favour.
    RetryPlain,
}

impl Delivery<'_> {
    pub(super) async fn greet(
        &mut self,
        site: &Site,
        connection: &mut Connection,
        policy: &policy::Destination,
    ) -> Greeting {
        let service = self.service;
        let settings = &service.settings;
        let Some(discard) = self.discard(&connection.server.address).await else {
            let doing = "performing the EHLO handshake";
            self.lost(connection, policy, Broken::Local, doing).await;
            return Greeting::Failed;
        };
        let server = connection.server.clone();
        let nexthop = self.request.nexthop.clone();
        let mut hello = Hello::new(Needs {
            talk: &settings.talk,
            server: &server,
            lmtp: settings.lmtp,
            discard,
            smtputf8: crate::commands::needs_smtputf8(&self.request),
            loop_detection: !settings.lmtp && server.port == super::SMTP,
            best: connection.best,
            nexthop: &nexthop,
            level: policy.level,
            wrapped: settings.tls.wrapped && policy.level >= policy::Level::Encrypt,
        });
        let mut next = hello.begin();
        loop {
            for note in hello.notes.drain(..).chain(connection.notes.drain(..)) {
                service.reporter.note(&note);
            }
            match next {
                Next::Say(_) | Next::Read => {
                    if let Next::Say(line) = &next {
                        connection.say(line);
                    }
                    let limit = match hello.is_starting_tls() {
                        true => settings.times.starttls,
                        false => settings.times.helo,
                    };
                    next = match connection.reply(limit).await {
                        Ok(reply) => hello.reply(&reply),
                        Err(broken) => {
                            let plain = self.lost(connection, policy, broken, hello.doing()).await;
                            return if plain { Greeting::RetryPlain } else { Greeting::Failed };
                        }
                    };
                }
                Next::StartTls => match self.start_tls(site, connection, policy).await {
                    Greeting::Ready => next = hello.secured(),
                    other => return other,
                },
                Next::Login => {
                    connection.features = hello.features.clone();
                    return self.login(site, connection, policy).await;
                }
                Next::Ready => {
                    connection.features = hello.features.clone();
                    return Greeting::Ready;
                }
                Next::Fail(failure) => {
                    let throttle = failure.status != "5.6.7";
                    self.fail_rest(Some(connection), failure, throttle).await;
                    return Greeting::Failed;
                }
            }
        }
    }

    /// The extensions that this server is not to be believed; nothing if the table cannot say.
    async fn discard(&self, address: &str) -> Option<Discard> {
        let talk = &self.service.settings.talk;
        match talk.discard_maps.find(&self.service.tables, address, Key::Whole).await {
            Ok(Some(words)) => Some(Discard::parse(&words)),
            Ok(None) => Some(Discard::parse(&talk.discard)),
            Err(error) => {
                self.service.reporter.warn(&self.request, &error.to_string());
                None
            }
        }
    }

    async fn start_tls(
        &mut self,
        site: &Site,
        connection: &mut Connection,
        policy: &policy::Destination,
    ) -> Greeting {
        let settings = &self.service.settings;
        if !policy.reuse {
            connection.keep_until = None;
        }
        let wish = self.service.wish(policy, &connection.server);
        let limit = settings.times.starttls;
        let prints_are_good = self.judge_prints(connection, policy);
        let shaken = match &policy.hopeless {
            Some(why) => {
                let server = connection.server.full();
                self.service.reporter.note(&format!("warning: {server}: {why}"));
                connection.forbidden = true;
                false
            }
            None => connection.start_tls(&wish, policy, limit).await.is_ok(),
        };
        if !shaken {
            let plain = self.may_fall_back(connection, policy).await;
            if plain {
                self.final_server = false;
            }
            let failure = Failure::ours("4.7.5", "Cannot start TLS: handshake failure");
            let throttle = policy.level != policy::Level::May;
            self.fail_rest(Some(connection), failure, throttle).await;
            return if plain { Greeting::RetryPlain } else { Greeting::Failed };
        }
        let shown = connection.shown.clone().unwrap_or_default();
        let (nexthop, host) = (&site.destination.host, &connection.server.host);
        connection.matched = settings.tls.is_matched(policy, &shown, nexthop, host);
        let by_print = policy.level == policy::Level::Fingerprint || policy.level.is_dane();
        if policy.level.must_match() && !connection.matched && (by_print || shown.trusted) {
            let server = connection.server.full();
            // As OpenSSL numbers it.
            let why = match by_print {
                true if policy.tlsa.iter().any(|tlsa| crate::dane::is_anchored(tlsa, &shown)) => {
                    "num=62:hostname mismatch"
                }
                true if !prints_are_good => "num=1:unspecified certificate verification error",
                true => "num=65:no matching DANE TLSA records",
                false => "num=62:hostname mismatch",
            };
            connection
                .notes
                .push(format!("server certificate verification failed for {server}: {why}"));
        }
        for note in connection.notes.drain(..) {
            self.service.reporter.note(&note);
        }
        if settings.tls.log
            && let Some(line) = connection.tls_summary()
        {
            self.service.reporter.note(&line);
        }
        if policy.level.must_match() && !connection.matched {
            let failure = Failure::ours("4.7.5", "Server certificate not verified");
            self.fail_rest(Some(connection), failure, true).await;
            return Greeting::Failed;
        }
        Greeting::Ready
    }

    /// Tells of fingerprints that fit no certificate; whether any may fit one.
    fn judge_prints(&self, connection: &Connection, policy: &policy::Destination) -> bool {
        if policy.level != policy::Level::Fingerprint {
            return true;
        }
        let server = connection.server.full();
        let unusable = policy::unusable(&policy.matches, &self.service.settings.tls.digest);
        for print in &unusable {
            // As a TLSA record, in which form OpenSSL takes them.
            for selector in [1, 0] {
                let text = format!("warning: {server}: unusable TLSA RR: 3 {selector} 255 {print}");
                self.service.reporter.note(&text);
            }
        }
        let any = unusable.len() < policy.matches.len();
        if !any {
            let text = format!("warning: {server}: all fingerprints unusable");
            self.service.reporter.note(&text);
        }
        any
    }

    /// Logs in where we know a password, else we stay strangers.
    async fn login(
        &mut self,
        site: &Site,
        connection: &mut Connection,
        policy: &policy::Destination,
    ) -> Greeting {
        let service = self.service;
        let Some(sasl) = &service.settings.sasl else { return Greeting::Ready };
        let found = service
            .credentials(&self.request.sender, &connection.server.host, &site.destination.text)
            .await;
        let credentials = match found {
            Ok(Some(credentials)) => credentials,
            Ok(None) => {
                connection.features.auth = false;
                return Greeting::Ready;
            }
            Err(error) => {
                service.reporter.warn(&self.request, &error.to_string());
                let doing = "performing the EHLO handshake";
                self.lost(connection, policy, Broken::Local, doing).await;
                return Greeting::Failed;
            }
        };
        let options = match (&connection.shown, connection.matched) {
            (None, _) => &sasl.options,
            (Some(_), false) => &sasl.tls_options,
            (Some(_), true) => &sasl.verified_options,
        };
        match self.authenticate(connection, options, credentials).await {
            Ok(()) => {
                connection.authenticated = true;
                Greeting::Ready
            }
            Err(Refusal::Failed(failure)) => {
                self.fail_rest(Some(connection), failure, true).await;
                Greeting::Failed
            }
            Err(Refusal::Broken(broken)) => {
                let doing = "performing the EHLO handshake";
                let plain = self.lost(connection, policy, broken, doing).await;
                if plain { Greeting::RetryPlain } else { Greeting::Failed }
            }
        }
    }

    async fn authenticate(
        &self,
        connection: &mut Connection,
        options: &[String],
        credentials: Credentials,
    ) -> Result<(), Refusal> {
        let server = connection.server.clone();
        let short = server.short();
        let failed = |text: &str| {
            let reason = format!(
                "SASL authentication failed; cannot authenticate to server {short}: {text}"
            );
            let mut failure = Failure::ours("4.7.0", reason);
            failure.diagnostic = Some(("x-sasl", text.to_owned()));
            Refusal::Failed(failure)
        };
        if connection.features.mechanisms.is_empty() {
            let reason = format!(
                "SASL authentication failed: server {short} offered no compatible authentication mechanisms for this type of connection security"
            );
            return Err(Refusal::Failed(Failure::ours("4.7.0", reason)));
        }
        let mut login =
            Login::new(&connection.features.mechanisms, options, credentials).map_err(|error| {
                let text = "warning: SASL authentication failure: No worthy mechs found";
                self.service.reporter.note(text);
                failed(&error.to_string())
            })?;
        let nonce = self.service.nonce();
        let name = login.mechanism.name();
        let mut deferred = login.initial(&nonce);
        if !deferred.is_empty() && name.len() + deferred.len() + 8 <= 512 {
            let shown = format!("AUTH {name} {HIDDEN}");
            connection.say_secret(&format!("AUTH {name} {deferred}"), &shown);
            deferred.clear();
        } else {
            connection.say(&format!("AUTH {name}"));
        }
        let limit = self.service.settings.times.helo;
        let mut steps = 0;
        let reply = loop {
            let reply = connection.reply(limit).await.map_err(Refusal::Broken)?;
            if reply.class() != 3 {
                break reply;
            }
            steps += 1;
            if steps > 100 {
                let reason = format!(
                    "SASL authentication failed; authentication protocol loop with server {short}"
                );
                return Err(Refusal::Failed(Failure::ours("4.3.0", reason)));
            }
            let challenge = reply.lines().next().unwrap_or_default().to_owned();
            if !deferred.is_empty() {
                connection.say_secret(&std::mem::take(&mut deferred), HIDDEN);
                continue;
            }
            let answer = login.answer(&challenge).map_err(|error| failed(&error.to_string()))?;
            connection.say_secret(&answer, HIDDEN);
        };
        if reply.class() == 2 {
            return Ok(());
        }
        let soft = self.service.settings.sasl.as_ref().is_some_and(|sasl| sasl.soft_bounce);
        let program = if self.service.settings.lmtp { "lmtp" } else { "smtp" };
        let reason =
            format!("SASL authentication failed; server {short} said: {}", reply.one_line());
        let mut failure = Failure::ours(&reply.status, reason);
        if soft {
            failure = failure.softened();
        }
        failure.mta = Some(server.host.clone());
        failure.diagnostic = Some((program, reply.one_line()));
        Err(Refusal::Failed(failure))
    }

    /// Whether there is a password for this server.
    pub(super) async fn has_credentials(&self, connection: &Connection) -> bool {
        let (sender, host) = (&self.request.sender, &connection.server.host);
        let found = self.service.credentials(sender, host, &self.request.nexthop).await;
        !matches!(found, Ok(None))
    }
}

/// Why a login came to nothing.
enum Refusal {
    Failed(Failure),
    Broken(Broken),
}
