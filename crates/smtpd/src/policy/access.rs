//! Access tables: which keys they are asked, and what their answers do.

use routing::{Key, LookupError, Maps, TableName};

use super::action::{Action, is_header};
use super::evaluate::{About, CLIENT, Evaluation, HELO, Outcome, REVERSE_CLIENT, SASL_USER, Stop};
use super::subject::Stage;
use super::{AccessOf, World, addresses, dsn, restriction};
use crate::text::printable;
use protocol::postfix::rewrite::flags;

impl<W: World> Evaluation<'_, W> {
    /// Asks one table about one thing.
    pub(super) async fn access(
        &mut self,
        of: AccessOf,
        table: &TableName,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        let subject = self.subject;
        let client = subject.client;
        match of {
            AccessOf::Client => {
                let found = self.client_entry(table, &client.name).await;
                let name = client.name_and_address();
                self.decide(table, found, About { name: &name, class: CLIENT, ..about }).await
            }
            AccessOf::ReverseClient => {
                let found = self.client_entry(table, &client.reverse_name).await;
                let name = client.reverse_name.as_str();
                let outcome = self
                    .decide(table, found, About { name, class: REVERSE_CLIENT, ..about })
                    .await?;
                self.forbid_permit(of.word(), &outcome, name)?;
                Ok(outcome)
            }
            AccessOf::Helo => match subject.helo {
                Some(helo) => {
                    let found = self.domain_entry(table, helo).await;
                    self.decide(table, found, About { name: helo, class: HELO, ..about }).await
                }
                None => Ok(Outcome::Dunno),
            },
            AccessOf::Sender => match subject.sender {
                Some("") => {
                    let found = self.one(table, &self.settings.null_sender_key).await;
                    self.decide(table, found, About { name: "", class: dsn::SENDER, ..about }).await
                }
                Some(sender) => self.mail_access(table, sender, dsn::SENDER, about).await,
                None => Ok(Outcome::Dunno),
            },
            AccessOf::Recipient => match subject.recipient {
                Some(recipient) => self.mail_access(table, recipient, dsn::RECIPIENT, about).await,
                None => Ok(Outcome::Dunno),
            },
            AccessOf::Etrn => match subject.etrn {
                Some(domain) => {
                    let found = self.domain_entry(table, domain).await;
                    let class = super::evaluate::ETRN;
                    self.decide(table, found, About { name: domain, class, ..about }).await
                }
                None => Ok(Outcome::Dunno),
            },
            AccessOf::Sasl => match subject.login.filter(|login| !login.user.is_empty()) {
                Some(login) if self.settings.sasl_enabled => {
                    let found = self.one(table, &login.user).await;
                    let name = printable(&login.user, '_');
                    self.decide(table, found, About { name: &name, class: SASL_USER, ..about })
                        .await
                }
                _ => Ok(Outcome::Dunno),
            },
        }
    }

    async fn one(&self, table: &TableName, key: &str) -> Result<Option<String>, LookupError> {
        maps(table).find(self.world.tables(), key, Key::Whole).await
    }

    pub(super) async fn domain_entry(
        &self,
        table: &TableName,
        domain: &str,
    ) -> Result<Option<String>, LookupError> {
        let (maps, mut part) = (maps(table), Key::Whole);
        for key in addresses::domain_keys(domain, self.settings.access_parents) {
            if let Some(found) = maps.find(self.world.tables(), key, part).await? {
                return Ok(Some(found));
            }
            if protocol::smtp::is_host_address(domain) {
                break; // the octets of an address are no domains
            }
            part = Key::Part;
        }
        Ok(None)
    }

    /// The name and its parents, then the address and its networks, cut at the right.
    async fn client_entry(
        &self,
        table: &TableName,
        name: &str,
    ) -> Result<Option<String>, LookupError> {
        if let Some(found) = self.domain_entry(table, name).await? {
            return Ok(Some(found));
        }
        self.address_entry(table, &self.subject.client.address_text()).await
    }

    /// The address and its networks, cut at the right.
    pub(super) async fn address_entry(
        &self,
        table: &TableName,
        address: &str,
    ) -> Result<Option<String>, LookupError> {
        let (maps, mut part) = (maps(table), Key::Whole);
        let delimiter = if address.contains(':') { ':' } else { '.' };
        let mut key = address;
        loop {
            if let Some(found) = maps.find(self.world.tables(), key, part).await? {
                return Ok(Some(found));
            }
            part = Key::Part;
            match key.rsplit_once(delimiter) {
                Some((front, _)) => key = front,
                None => return Ok(None),
            }
        }
    }

    async fn mail_access(
        &mut self,
        table: &TableName,
        address: &str,
        class: &'static str,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        let resolution = self.resolved(address, class).await?;
        if !resolution.recipient.contains('@') {
            self.warn(&format!(
                "check_mail_access: no @domain in address: {}",
                resolution.recipient
            ));
            return Ok(Outcome::Dunno);
        }
        let lower = resolution.recipient.to_lowercase();
        let found = addresses::find_access(self.world, self.settings, &maps(table), &lower).await;
        let outcome = self.decide(table, found, About { name: address, class, ..about }).await?;
        let suspicious = !self.settings.allow_untrusted_routing
            && resolution.flags & flags::ROUTED != 0
            && class == dsn::RECIPIENT;
        Ok(if suspicious && outcome == Outcome::Permit { Outcome::Dunno } else { outcome })
    }

    pub(super) async fn decide(
        &mut self,
        table: &TableName,
        found: Result<Option<String>, LookupError>,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        match found {
            Ok(None) => Ok(Outcome::Dunno),
            Ok(Some(value)) => self.act(table, &value, about).await,
            Err(error) => {
                self.warn(&error.to_string());
                self.act(table, "451 4.3.5 Server configuration error", about).await
            }
        }
    }

    pub(super) async fn act(
        &mut self,
        table: &TableName,
        value: &str,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        let (name, class) = (about.name, about.class);
        let codes = self.settings.codes;
        let refused = |text: &str, default: &str| {
            let text = if text.is_empty() { default } else { text };
            format!("<{name}>: {class} rejected: {text}")
        };
        match Action::parse(value) {
            Action::Dunno => {}
            Action::Permit(word) => {
                let word = if word.is_empty() { value } else { word };
                return Ok(self.permit(word, class, name, &format!("from {table}")));
            }
            Action::Reject(text) => {
                let (status, text) = dsn::split_status("5.7.1", text);
                let status = self.fixed(&status, class);
                return Ok(self.reject(
                    codes.access_map_reject,
                    &status,
                    &refused(text, "Access denied"),
                ));
            }
            Action::Defer(text) => {
                let (status, text) = dsn::split_status("4.7.1", text);
                let status = self.fixed(&status, class);
                return Ok(self.reject(
                    codes.access_map_defer,
                    &status,
                    &refused(text, "Access denied"),
                ));
            }
            Action::Code(code, text) => {
                let default = if code < 500 { "4.7.1" } else { "5.7.1" };
                let (status, text) = dsn::split_status(default, text);
                let status = self.fixed(&status, class);
                return Ok(self.reject(code, &status, &refused(text, "Access denied")));
            }
            Action::DeferIfPermit(text) => {
                let (status, text) = dsn::split_status("4.7.1", text);
                let status = self.fixed(&status, class);
                let text = refused(text, "Service unavailable");
                return Ok(self.defer_if_permit(codes.access_map_defer, &status, text));
            }
            Action::DeferIfReject(text) => {
                let (status, text) = dsn::split_status("4.7.1", text);
                let status = self.fixed(&status, class);
                let text = refused(text, "Service unavailable");
                self.defer_if_reject(codes.access_map_defer, &status, text);
            }
            Action::HangUp(text) => {
                self.log(self.subject.line("hangup", text));
                return Err(Stop::HangUp);
            }
            Action::Info(text) => self.log(self.subject.line("info", text)),
            Action::Warn(text) => self.log(self.subject.line("warn", text)),
            Action::Restrictions(list) => return self.nested(table, list, about).await,
            wish => return Ok(self.wish(table, value, &wish, about)),
        }
        Ok(Outcome::Dunno)
    }

    /// What cleanup will do with the message if it is accepted.
    fn wish(
        &mut self,
        table: &TableName,
        value: &str,
        wish: &Action<'_>,
        about: About<'_>,
    ) -> Outcome {
        let (name, class) = (about.name, about.class);
        let word = value.split([' ', '\t']).next().unwrap_or_default();
        let verb = word.to_ascii_uppercase();
        if self.subject.etrn.is_some() {
            self.warn(&format!(
                "access table {table}: action {verb} is unavailable in smtpd_etrn_restrictions"
            ));
            return Outcome::Dunno;
        }
        if self.subject.sender.is_none() {
            self.warn(&format!(
                "access table {table}: with smtpd_delay_reject=no, action {verb} is always skipped in \
                 Client host or Helo command restrictions"
            ));
            return Outcome::Dunno;
        }
        let or = |text: &str| match text {
            "" => format!("<{name}>: {class} triggers {verb} action"),
            text => format!("<{name}>: {class} {text}"),
        };
        let wants = |this: &mut Self, what: &str| {
            this.warn(&format!("access table {table} entry \"{name}\" {what}"));
        };
        match wish {
            Action::Filter("") => wants(self, "has FILTER entry without value"),
            Action::Filter(next) if !next.contains(':') => {
                wants(self, "requires transport:destination");
            }
            Action::Filter(next) => {
                let text = format!("<{name}>: {class} triggers FILTER {next}");
                self.log(self.subject.line("filter", &text));
                self.transcript.wishes.filter = Some((*next).to_owned());
            }
            Action::Redirect(to) | Action::Bcc(to) if !to.contains('@') => {
                wants(self, "requires user@domain target");
            }
            Action::Redirect(to) => {
                let text = format!("<{name}>: {class} triggers REDIRECT {to}");
                self.log(self.subject.line("redirect", &text));
                self.transcript.wishes.redirect = Some((*to).to_owned());
            }
            Action::Bcc(to) => {
                let text = format!("<{name}>: {class} triggers BCC {to}");
                self.log(self.subject.line("bcc", &text));
                self.transcript.wishes.bcc.push((*to).to_owned());
            }
            Action::Hold(_) if self.transcript.wishes.hold => {}
            Action::Hold(text) => {
                self.log(self.subject.line("hold", &or(text)));
                self.transcript.wishes.hold = true;
            }
            Action::Discard(text) => {
                self.log(self.subject.line("discard", &or(text)));
                self.transcript.wishes.discard = true;
                return self.permit(word, class, name, &format!("from {table}"));
            }
            Action::Prepend(_) if self.subject.stage == Stage::EndOfMessage => {
                self.warn(&format!(
                    "access table {table}: action PREPEND must be used before smtpd_end_of_data_restrictions"
                ));
            }
            Action::Prepend(header) if !is_header(header) => wants(self, "requires header: text"),
            Action::Prepend(header) => {
                self.transcript.wishes.prepend.push(printable(header, ' '));
            }
            _ => {}
        }
        Outcome::Dunno
    }

    async fn nested(
        &mut self,
        table: &TableName,
        list: &str,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        if list.contains(':') {
            self.warn(&format!("access table {table} has entry with lookup table: {list}"));
            self.warn("do not specify lookup tables inside SMTPD access maps");
            self.warn("define a restriction class and specify its name instead.");
            return Err(self.server_error());
        }
        let words = restriction::words(list);
        if words.is_empty() {
            self.warn(&format!("access table {table} entry {list} has empty value"));
            return Ok(Outcome::Permit);
        }
        let parsed = restriction::parse(&words, false, &self.settings.classes);
        if let Some((at, _)) = parsed.unusable.first() {
            let word = words.get(*at).copied().unwrap_or_default();
            self.warn(&format!("unknown smtpd restriction: \"{word}\""));
            return Err(self.server_error());
        }
        Box::pin(self.list(&parsed.restrictions, about)).await
    }

    pub(super) fn forbid_permit(
        &mut self,
        word: &str,
        outcome: &Outcome,
        target: &str,
    ) -> Result<(), Stop> {
        if *outcome != Outcome::Permit || self.transcript.wishes.discard {
            return Ok(());
        }
        self.warn(&format!("restriction {word} returns OK for {target}"));
        self.warn("this is not allowed for security reasons");
        self.warn("use DUNNO instead of OK if you want to make an exception");
        Err(self.server_error())
    }
}

fn maps(table: &TableName) -> Maps {
    [table.clone()].into_iter().collect()
}
