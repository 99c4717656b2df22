//! Restrictions on addresses: who may relay where, which addresses exist, and whose they are.

use neighbours::postmaster::Class;
use protocol::postfix::rewrite::{Resolution, flags};
use routing::Maps;

use super::dsn::{RECIPIENT, SENDER, split_status};
use super::evaluate::{About, Evaluation, Outcome, Stop, is_name, without_final_dot};
use super::{Restriction, World, addresses};

impl<W: World> Evaluation<'_, W> {
    pub(super) async fn addresses(
        &mut self,
        restriction: &Restriction,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        use Restriction as R;
        let subject = self.subject;
        let sender = subject.sender.filter(|sender| !sender.is_empty());
        let relay = self.settings.codes.relay_domains;
        match (restriction, sender, subject.recipient) {
            (R::RejectNonFqdnSender, Some(sender), _) => Ok(self.fully_qualified(sender, SENDER)),
            (R::RejectNonFqdnRecipient, _, Some(recipient)) => {
                Ok(self.fully_qualified(recipient, RECIPIENT))
            }
            (R::RejectUnknownSenderDomain, Some(sender), _) => {
                self.unknown_domain(sender, SENDER).await
            }
            (R::RejectUnknownRecipientDomain, _, Some(recipient)) => {
                self.unknown_domain(recipient, RECIPIENT).await
            }
            (R::PermitMxBackup, _, Some(recipient)) => self.mx_backup(recipient).await,
            (R::RejectUnverifiedSender, Some(sender), _) => {
                Ok(self.unverified(sender, SENDER).await)
            }
            (R::RejectUnverifiedRecipient, _, Some(recipient)) if !recipient.is_empty() => {
                Ok(self.unverified(recipient, RECIPIENT).await)
            }
            (R::RejectUnlistedSender, Some(sender), _) => self.listed(sender, SENDER).await,
            (R::RejectUnlistedRecipient, _, Some(recipient)) if !recipient.is_empty() => {
                self.listed(recipient, RECIPIENT).await
            }
            (R::PermitAuthDestination, _, Some(recipient)) => {
                if self.is_authorized(recipient).await? {
                    return Ok(self.permit("permit_auth_destination", RECIPIENT, recipient, ""));
                }
                Ok(Outcome::Dunno)
            }
            (R::RejectUnauthDestination, _, Some(recipient)) => {
                self.relaying(recipient, relay, "5.7.1").await
            }
            (R::DeferUnauthDestination, _, Some(recipient)) => {
                self.relaying(recipient, relay.saturating_sub(100), "4.7.1").await
            }
            (R::RejectMultiRecipientBounce, _, _) if subject.sender == Some("") => {
                let earlier = usize::from(subject.stage.name() != "RCPT");
                if subject.recipients <= earlier {
                    return Ok(Outcome::Dunno);
                }
                let text =
                    format!("<{}>: {} rejected: Multi-recipient bounce", about.name, about.class);
                Ok(self.reject(self.settings.codes.multi_recipient_bounce, "5.5.3", &text))
            }
            (
                R::RejectAuthenticatedSenderLoginMismatch
                | R::RejectKnownSenderLoginMismatch
                | R::RejectUnauthenticatedSenderLoginMismatch,
                _,
                _,
            ) if !self.settings.sasl_enabled => {
                let word = restriction.name();
                self.warn(&format!("restriction `{word}' ignored: no SASL support"));
                Ok(Outcome::Dunno)
            }
            (R::RejectAuthenticatedSenderLoginMismatch, Some(sender), _) => {
                self.login_owns(sender, false).await
            }
            (R::RejectKnownSenderLoginMismatch, Some(sender), _) => match subject.login {
                Some(_) => self.login_owns(sender, true).await,
                None => self.needs_login(sender).await,
            },
            (R::RejectUnauthenticatedSenderLoginMismatch, Some(sender), _) => {
                self.needs_login(sender).await
            }
            _ => Ok(Outcome::Dunno),
        }
    }

    /// Where an address goes, as mail from the other side of the envelope.
    pub(super) async fn resolved(
        &mut self,
        address: &str,
        class: &str,
    ) -> Result<Resolution, Stop> {
        let from = if class == SENDER { self.subject.recipient } else { self.subject.sender };
        let resolution = match self.world.resolve(from.unwrap_or_default(), address).await {
            Ok(resolution) => resolution,
            Err(error) => return Err(self.unresolvable(&error, address)),
        };
        if resolution.flags & flags::FAIL != 0 {
            let error = super::Unresolvable(format!("lookup problem for {address}"));
            return Err(self.unresolvable(&error, address));
        }
        Ok(resolution)
    }

    async fn relaying(
        &mut self,
        recipient: &str,
        code: u16,
        status: &str,
    ) -> Result<Outcome, Stop> {
        if self.is_authorized(recipient).await? {
            return Ok(Outcome::Dunno);
        }
        Ok(self.reject(code, status, &format!("<{recipient}>: Relay access denied")))
    }

    /// We are the destination, or a relay for it.
    pub(super) async fn is_authorized(&mut self, recipient: &str) -> Result<bool, Stop> {
        let resolution = self.resolved(recipient, RECIPIENT).await?;
        if !resolution.recipient.contains('@') {
            return Ok(true);
        }
        if !self.settings.allow_untrusted_routing && resolution.flags & flags::ROUTED != 0 {
            return Ok(false);
        }
        let ours =
            flags::CLASS_LOCAL | flags::CLASS_ALIAS | flags::CLASS_VIRTUAL | flags::CLASS_RELAY;
        Ok(resolution.flags & ours != 0)
    }

    fn fully_qualified(&mut self, address: &str, class: &str) -> Outcome {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        if domain.starts_with('[') && domain.ends_with(']') {
            return Outcome::Dunno;
        }
        let domain = without_final_dot(domain);
        if is_name(domain, self.subject.smtputf8) && domain.contains('.') {
            return Outcome::Dunno;
        }
        let text = format!("<{address}>: {class} rejected: need fully-qualified address");
        self.reject(self.settings.codes.non_fqdn, "4.5.2", &text)
    }

    /// Rejects an address of ours that no table knows. Done once per address, unless only to warn.
    pub(super) async fn listed(
        &mut self,
        address: &str,
        class: &'static str,
    ) -> Result<Outcome, Stop> {
        let done = if class == SENDER {
            &mut self.transcript.sender_checked
        } else {
            &mut self.transcript.recipient_checked
        };
        if self.settings.accept_unlisted || *done {
            return Ok(Outcome::Dunno);
        }
        let warns_only = self.warns_only();
        if !warns_only {
            if class == SENDER {
                self.transcript.sender_checked = true;
            } else {
                self.transcript.recipient_checked = true;
            }
        }
        let resolution = self.resolved(address, class).await?;
        let known_as = resolution.recipient.to_lowercase();
        let settings = self.settings;
        let tables = &settings.tables;
        for maps in [
            Some(&tables.recipient_canonical),
            (class == SENDER).then_some(&tables.sender_canonical),
            Some(&tables.canonical),
            Some(&tables.virtual_alias),
        ] {
            if let Some(maps) = maps
                && self.knows(maps, &known_as, address).await?
            {
                return Ok(Outcome::Dunno);
            }
        }
        let (sender_status, recipient_status) = ("5.1.0", "5.1.1");
        let status = if class == SENDER { sender_status } else { recipient_status };
        if resolution.transport == "error" || resolution.transport == "retry" {
            return Ok(self.undeliverable(&resolution, status, address, class));
        }
        let codes = &settings.codes;
        let (maps, code, table) = match resolution.flags & flags::CLASS_MASK {
            flags::CLASS_LOCAL if !self.is_internal(&known_as) => {
                (&tables.local, codes.unknown_local, "local recipient")
            }
            flags::CLASS_VIRTUAL => {
                (&tables.virtual_mailbox, codes.unknown_virtual_mailbox, "virtual mailbox")
            }
            flags::CLASS_RELAY => (&tables.relay, codes.unknown_relay, "relay recipient"),
            _ => return Ok(Outcome::Dunno),
        };
        if maps.is_empty() || self.knows(maps, &known_as, address).await? {
            return Ok(Outcome::Dunno);
        }
        let table =
            if settings.show_table_name { format!(" in {table} table") } else { String::new() };
        let text = format!("<{address}>: {class} rejected: User unknown{table}");
        Ok(self.reject_as(Class::Bounce, code, status, &text))
    }

    /// The resolver already knows that it cannot be delivered.
    fn undeliverable(
        &mut self,
        resolution: &Resolution,
        status: &str,
        address: &str,
        class: &str,
    ) -> Outcome {
        let temporary = resolution.transport == "retry";
        let default = if temporary { status.replacen('5', "4", 1) } else { status.to_owned() };
        let (status, text) = split_status(&default, &resolution.nexthop);
        let status = self.fixed(&status, class);
        let code = match (temporary, resolution.flags & flags::CLASS_ALIAS != 0) {
            (true, _) => 450,
            (false, true) => self.settings.codes.unknown_virtual_alias,
            (false, false) => 550,
        };
        let text = format!("<{address}>: {class} rejected: {text}");
        self.reject_as(Class::Bounce, code, &status, &text)
    }

    async fn knows(&mut self, maps: &Maps, known_as: &str, address: &str) -> Result<bool, Stop> {
        match addresses::find(self.world, self.settings, maps, known_as).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(self.lookup_failed(&error, address)),
        }
    }

    /// Addresses that the mail system itself sends from and accepts, whatever the tables say.
    fn is_internal(&self, address: &str) -> bool {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        ["postmaster", "mailer-daemon", self.settings.double_bounce_sender.as_str()]
            .iter()
            .any(|name| local.eq_ignore_ascii_case(name))
    }

    async fn owners(&mut self, sender: &str) -> Result<Option<String>, Stop> {
        let resolution = self.resolved(sender, SENDER).await?;
        let known_as = resolution.recipient.to_lowercase();
        let maps = &self.settings.tables.sender_login;
        match addresses::find(self.world, self.settings, maps, &known_as).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.lookup_failed(&error, sender)),
        }
    }

    /// The sender address must belong to who has logged in.
    async fn login_owns(&mut self, sender: &str, unknown_is_free: bool) -> Result<Outcome, Stop> {
        let Some(login) = self.subject.login.filter(|_| self.has_login_maps()) else {
            return Ok(Outcome::Dunno);
        };
        let owned = match self.owners(sender).await? {
            Some(owners) => owners.split([' ', '\t', ',', '\r', '\n']).any(|owner| {
                !owner.is_empty() && owner.to_lowercase() == login.user.to_lowercase()
            }),
            None if unknown_is_free => true,
            None => false,
        };
        if owned {
            return Ok(Outcome::Dunno);
        }
        let text = format!("<{sender}>: {SENDER} rejected: not owned by user {}", login.user);
        Ok(self.reject(553, "5.7.1", &text))
    }

    /// A sender address that belongs to somebody may be used only after a login.
    async fn needs_login(&mut self, sender: &str) -> Result<Outcome, Stop> {
        if self.subject.login.is_some()
            || !self.has_login_maps()
            || self.owners(sender).await?.is_none()
        {
            return Ok(Outcome::Dunno);
        }
        Ok(self.reject(553, "5.7.1", &format!("<{sender}>: {SENDER} rejected: not logged in")))
    }

    fn has_login_maps(&self) -> bool {
        !self.settings.tables.sender_login.is_empty()
    }
}
