//! The filters of this session: what they hear at each stage, and what their word does.

use std::collections::BTreeMap;

use mail_types::quote_822;
use neighbours::milter::{Chain, Client, Response};
use neighbours::postmaster::Class;
use protocol::smtp::{Reply, Verb, tokens};
use routing::Key;

use super::{Conversation, End, Where};
use crate::client::UNKNOWN;
use crate::policy::World;

/// Values of macros, by their names without braces.
type Values = BTreeMap<&'static str, String>;

/// The event of a stage, with what it says.
enum Tell<'a> {
    Connect,
    Helo(&'a str),
    Mail,
    Rcpt { rejected: bool },
    Data,
    Unknown(&'a str),
}

impl Conversation {
    /// Chooses the filters for this client. `smtpd_milter_maps` replaces `smtpd_milters`.
    pub(super) async fn choose_milters(&mut self) {
        let service = self.service().clone();
        let settings = &service.milters;
        let address = self.session.client.address_text();
        let found = settings.maps.find(&*self.context.tables, &address, Key::Whole).await;
        let chosen = match found {
            _ if settings.off => None,
            Ok(None) => Some(settings.filters.clone()),
            Ok(Some(names)) => match settings.texts.settings(&names) {
                Ok(filters) => Some(filters),
                Err(problem) => {
                    self.log(&format!("warning: smtpd_milter_maps: {address}: {problem}"));
                    Some(settings.filters.clone())
                }
            },
            Err(error) => {
                self.log(&format!("warning: {error}"));
                Some(settings.filters.clone())
            }
        };
        let chosen = chosen.filter(|chosen| !chosen.filters.is_empty());
        self.milters =
            chosen.map(|chosen| Chain::new(&chosen, &service.ident, &service.queue.directory));
        self.session.has_milters = self.milters.is_some();
    }

    /// A new client. The greeting for one that the filters refuse.
    pub(super) async fn tell_connect(&mut self) -> Option<Reply> {
        let reply = self.tell(Tell::Connect).await?;
        let host = self.host().to_owned();
        match reply.code() {
            421 => Some(Reply::new(421, format!("{host} Service unavailable - try again later"))),
            500.. => Some(Reply::new(554, format!("{host} ESMTP not accepting connections"))),
            _ => None,
        }
    }

    /// HELO or EHLO. Only a 421 is an answer to it; of any other the client hears later.
    pub(super) async fn tell_helo(&mut self, name: &str) -> Option<Reply> {
        let earlier = self.session.helo.replace(name.to_owned());
        let reply = self.tell(Tell::Helo(name)).await;
        self.session.helo = earlier;
        reply
    }

    pub(super) async fn tell_mail(&mut self) -> Option<Reply> {
        if self.milters.is_some() && !self.transcript.wishes.discard {
            self.needs_abort = true;
        }
        self.tell(Tell::Mail).await
    }

    /// A recipient. `refusal`: we refuse it ourselves, and filters can only take note of that.
    pub(super) async fn tell_rcpt(
        &mut self,
        address: &str,
        refusal: Option<&Reply>,
    ) -> Option<Reply> {
        self.milters.as_ref()?;
        self.current_recipient = Some(address.to_owned());
        self.milter_refusal = refusal.map(ToString::to_string);
        let reply = self.tell(Tell::Rcpt { rejected: refusal.is_some() }).await;
        self.current_recipient = None;
        self.milter_refusal = None;
        reply
    }

    pub(super) async fn tell_data(&mut self) -> Option<Reply> {
        self.tell(Tell::Data).await
    }

    pub(super) async fn tell_unknown(&mut self, command: &str) -> Option<Reply> {
        self.tell(Tell::Unknown(command)).await
    }

    /// For commands that filters do not hear of: what they have said of this client for good.
    pub(super) async fn standing_refusal(&mut self) -> Result<bool, End> {
        let standing = self.milters.as_ref().and_then(Chain::standing);
        let reply = standing.as_ref().and_then(Response::text).and_then(Reply::from_rejection);
        match reply {
            Some(reply) => {
                self.reply(reply).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The transaction is over.
    pub(super) fn end_milter_transaction(&mut self) {
        if std::mem::take(&mut self.needs_abort) {
            self.abort_milters();
        }
    }

    /// The client's name is forgotten.
    pub(super) fn forget_helo(&mut self) {
        if self.session.helo.is_some() {
            self.abort_milters();
        }
    }

    fn abort_milters(&mut self) {
        if let Some(chain) = &mut self.milters {
            chain.abort();
        }
    }

    /// The client is gone, or another one speaks for it.
    pub(super) async fn quit_milters(&mut self) {
        self.forget_helo();
        self.end_milter_transaction();
        if let Some(mut chain) = self.milters.take() {
            chain.quit().await;
        }
    }

    async fn tell(&mut self, event: Tell<'_>) -> Option<Reply> {
        let always = matches!(event, Tell::Connect | Tell::Unknown(_));
        if self.transcript.wishes.discard && !always {
            return None;
        }
        let mut chain = self.milters.take()?;
        let values = self.values(&event).await;
        let values = |name: &str| values.get(name).cloned();
        let words = std::mem::take(&mut self.milter_words);
        let (address, parameters) =
            words.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let response = match event {
            Tell::Connect => {
                let client = &self.session.client;
                let client = Client {
                    name: client.name.clone(),
                    address: client.address,
                    port: client.port.unwrap_or(0),
                };
                chain.connect(&client, &values).await
            }
            Tell::Helo(name) => chain.helo(name, &values).await,
            Tell::Mail => chain.mail(address, parameters, &values).await,
            Tell::Rcpt { rejected } => chain.rcpt(address, parameters, rejected, &values).await,
            Tell::Data => chain.data(&values).await,
            Tell::Unknown(command) => chain.unknown(command, &values).await,
        };
        self.milters = Some(chain);
        // A recipient that we have refused stays refused, and nobody else's word on it counts.
        let ignored = matches!(event, Tell::Rcpt { rejected: true });
        response.filter(|_| !ignored).and_then(|response| self.obey(response))
    }

    /// What a filter's word is to the client, with its line in the log.
    fn obey(&mut self, response: Response) -> Option<Reply> {
        let (action, text, reply) = match response {
            Response::Hold => {
                self.transcript.wishes.hold = true;
                ("milter-hold", "milter triggers HOLD action".to_owned(), None)
            }
            Response::Discard => {
                self.transcript.wishes.discard = true;
                ("milter-discard", "milter triggers DISCARD action".to_owned(), None)
            }
            Response::Shutdown => {
                let text = "421 4.7.0 Server closing connection".to_owned();
                let reply = Reply::from_rejection(&text);
                ("milter-reject", text, reply)
            }
            Response::Reply(text) => {
                let reply = Reply::from_rejection(&text);
                ("milter-reject", text, reply)
            }
        };
        if reply.is_some() {
            self.history.wrong.add(Class::Policy);
        }
        let mut subject = self.subject();
        subject.recipient = self.current_recipient.as_deref().or(subject.recipient);
        let line = subject.line(action, &text.replace("\r\n", " "));
        self.log(&line);
        reply
    }

    /// The words of MAIL or RCPT behind `FROM:` or `TO:`: the address as the client writes it, and its parameters.
    pub(super) fn keep_words(&mut self, verb: Verb, line: &str) {
        self.milter_words.clear();
        if self.milters.is_none() || !matches!(verb, Verb::Mail | Verb::Rcpt) {
            return;
        }
        self.milter_words.extend(tokens(line).into_iter().map(|token| token.text).skip(2));
    }

    /// Every macro that has a value now.
    async fn values(&self, event: &Tell<'_>) -> Values {
        let settings = &self.service().milters;
        let client = &self.session.client;
        let forged = match client.name.eq_ignore_ascii_case(&client.reverse_name) {
            true => "",
            false => " (may be forged)",
        };
        let address = client.address_text();
        let port = |port: Option<u16>| port.map_or_else(|| "0".to_owned(), |port| port.to_string());
        let resolve = match (client.name.as_str(), client.reverse_name.as_str()) {
            (UNKNOWN, UNKNOWN) => "FAIL",
            (UNKNOWN, _) => "FORGED",
            _ => "OK",
        };
        let connections = self.counted.as_ref().map_or(0, |counted| counted.concurrent);
        let mut values = Values::from([
            ("daemon_name", settings.daemon_name.clone()),
            ("v", settings.version.clone()),
            ("j", self.host().to_owned()),
            ("_", format!("{} [{address}]{forged}", client.reverse_name)),
            ("client_port", port(client.port)),
            ("client_name", client.name.clone()),
            ("client_ptr", client.reverse_name.clone()),
            ("client_resolve", resolve.to_owned()),
            ("client_connections", connections.to_string()),
            ("daemon_addr", client.server_address_text()),
            ("daemon_port", port(client.server_port)),
            ("client_addr", client.literal()),
        ]);
        if let Some(tls) = self.wire.tls() {
            values.insert("tls_version", tls.version.to_owned());
            values.insert("cipher", tls.cipher.clone());
            values.insert("cipher_bits", tls.bits.to_string());
        }
        if let Some(login) = &self.session.login {
            values.insert("auth_type", login.method.clone());
            values.insert("auth_authen", login.user.clone());
        }
        if let Some(submission) = &self.incoming.submission {
            values.insert("i", submission.queue_id().to_string());
        }
        if !matches!(event, Tell::Connect | Tell::Helo(_)) {
            self.transaction_values(&mut values).await;
        }
        values
    }

    async fn transaction_values(&self, values: &mut Values) {
        let Some(transaction) = self.session.transaction() else { return };
        let mail = &transaction.mail;
        values.extend(mail.auth.clone().map(|author| ("auth_author", author)));
        let sender = self.addressed(&mail.address).await;
        for (name, value) in ["mail_addr", "mail_host", "mail_mailer"].into_iter().zip(sender) {
            values.insert(name, value);
        }
        let first = transaction.first_recipient.as_ref();
        let Some(recipient) = self.current_recipient.as_ref().or(first) else { return };
        let named = match &self.milter_refusal {
            // `554 5.7.1 <a@b>: Relay access denied`
            Some(refusal) => {
                let mut words = refusal.splitn(4, ' ').skip(1).map(str::to_owned);
                let (host, _) = (words.next().unwrap_or_default(), words.next());
                [words.next().unwrap_or_default(), host, "error".to_owned()]
            }
            None => self.addressed(recipient).await,
        };
        for (name, value) in ["rcpt_addr", "rcpt_host", "rcpt_mailer"].into_iter().zip(named) {
            values.insert(name, value);
        }
    }

    /// Address, next hop and transport, as mail for it would be sent.
    async fn addressed(&self, address: &str) -> [String; 3] {
        match self.world.resolve("", address).await {
            Ok(resolution) if !address.is_empty() => {
                [quote_822(&resolution.recipient), resolution.nexthop, resolution.transport]
            }
            Ok(resolution) => [String::new(), resolution.nexthop, resolution.transport],
            Err(_) => [address.to_owned(), String::new(), String::new()],
        }
    }

    /// Hands the filters to cleanup, which shows them the content.
    pub(super) async fn hand_over_milters(&mut self) {
        let (Some(chain), Some(submission)) = (&mut self.milters, &mut self.incoming.submission)
        else {
            return;
        };
        if self.transcript.wishes.discard {
            return;
        }
        if let Err(error) = submission.hand_over(chain).await {
            self.broken(&error);
        }
    }

    /// Commands whose answer can be what filters have said before.
    pub(super) fn is_at_their_mercy(&self) -> bool {
        matches!(self.place, Where::Command(Verb::Vrfy | Verb::Etrn | Verb::StartTls | Verb::Auth))
    }
}
