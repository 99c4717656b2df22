//! Recipients: rewritten, mapped, expanded, each written once.

use mail_types::{Notify, quote_822, unquote_822};
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus};
use protocol::postfix::record::RecordType;
use protocol::postfix::{Dsn, Recipient};
use routing::expand::{ExpandError, Role};
use routing::rewrite::Context;

use super::bounce;
use super::message::Message;

impl Message {
    /// A recipient of the client, in internal form.
    pub(super) async fn recipient(&mut self, address: String) {
        self.begin_recipients();
        let pending = std::mem::take(&mut self.envelope.pending);
        let named = if address.is_empty() {
            self.service.settings.routing.empty_address_recipient.clone()
        } else {
            address.clone()
        };
        let recipient =
            self.mapped(Role::Recipient, "envelope_recipient", self.rewritten(&named)).await;
        let original = pending.original.unwrap_or(address);
        let dsn_original = if pending.dsn_original.is_empty() {
            let kind = if recipient.is_ascii() { "rfc822" } else { "utf-8" };
            format!("{kind};{recipient}")
        } else {
            pending.dsn_original
        };
        let recipient = Recipient {
            original,
            address: recipient,
            offset: 0,
            dsn_original,
            notify: pending.notify,
        };
        self.envelope.last_recipient = Some(recipient.address.clone());
        self.tell_recipient(&recipient.address).await;
        self.size.qmgr_flags |= i64::from(recipient.notify) << 1;
        let address = recipient.address.clone();
        self.expand(recipient).await;
        if self.flags.contains(CleanupFlags::BCC_OK) {
            let maps = self.service.settings.bcc.recipient.clone();
            let found = self.service.routing.find_address(&maps, &address).await;
            if let Some(bcc) = self.answered("recipient_bcc_maps", found).flatten() {
                self.copy_to(&bcc.answer).await;
            }
        }
    }

    /// A recipient of our own, who hears nothing of the delivery.
    pub(super) async fn copy_to(&mut self, address: &str) {
        self.add_recipient(address, Notify::NEVER.bits(), String::new()).await;
    }

    /// A recipient that the client did not name.
    pub(super) async fn add_recipient(&mut self, address: &str, notify: u32, dsn_original: String) {
        let address =
            self.mapped(Role::Recipient, "envelope_recipient", self.rewritten(address)).await;
        let original = address.clone();
        let recipient =
            Recipient { original, address, notify, dsn_original, ..Recipient::default() };
        self.expand(recipient).await;
    }

    /// Virtual aliases. Other addresses for one: the sender who asked for success hears that the
    /// alias was expanded, and no more (RFC 3461 section 5.2.7.3).
    async fn expand(&mut self, mut recipient: Recipient) {
        let settings = &self.service.settings.routing.maps;
        if !self.flags.contains(CleanupFlags::MAP_OK) || settings.virtual_alias.is_empty() {
            self.write_recipient(recipient);
            return;
        }
        let found = self.service.routing.virtual_aliases(&recipient.address).await;
        let unreasonable =
            found.as_ref().is_err_and(|error| !matches!(error, ExpandError::Lookup(_)));
        if found.is_err() && self.reason.is_empty() {
            "4.6.0 Alias expansion error".clone_into(&mut self.reason);
        }
        if let (true, Err(error)) = (unreasonable, &found) {
            self.warn(&format!("{error} -- message not accepted, try again later"));
            self.status.add(CleanupStatus::DEFER);
            return;
        }
        let Some(addresses) = self.answered("virtual_alias_maps", found) else { return };
        let success = Notify::SUCCESS.bits();
        let same = matches!(addresses.as_slice(), [only] if *only == recipient.address);
        if !same && recipient.notify & success != 0 {
            let dsn = Dsn::local("2.0.0", "expanded", "alias expanded");
            if !bounce::trace(self, &recipient, dsn).await {
                self.status.add(CleanupStatus::WRITE);
                return;
            }
            recipient.notify = match recipient.notify & !success {
                0 => Notify::NEVER.bits(),
                rest => rest,
            };
        }
        for address in addresses {
            self.write_recipient(Recipient { address, ..recipient.clone() });
        }
    }

    fn write_recipient(&mut self, recipient: Recipient) {
        let Recipient { original, address, dsn_original, notify, .. } = &recipient;
        let key = if self.service.settings.original_recipient {
            format!("{dsn_original}\n{notify}\n{original}\n{address}").to_lowercase()
        } else {
            address.to_lowercase()
        };
        let seen = &mut self.envelope.seen;
        if seen.contains(&key) {
            return;
        }
        if seen.len() < self.service.settings.limits.duplicates {
            seen.insert(key);
        }
        if *notify != 0 {
            self.put_attribute("notify_flags", &notify.to_string());
        }
        if !dsn_original.is_empty() {
            self.put_attribute("dsn_orig_rcpt", dsn_original);
        }
        self.put(RecordType::ORIGINAL_RECIPIENT, original.as_bytes());
        self.put(RecordType::RECIPIENT, address.as_bytes());
        self.size.recipients += 1;
        if self.flags.contains(CleanupFlags::BOUNCE) {
            self.envelope.written.push(recipient);
        }
    }

    /// An envelope address completed; always in the local manner, as smtpd has judged it before.
    pub(super) fn rewritten(&self, address: &str) -> String {
        if address.is_empty() {
            return String::new();
        }
        let rewriting = &self.service.settings.routing.rewriting;
        unquote_822(&rewriting.rewrite(Context::Local, &external(address)))
    }

    /// Canonical maps and masquerading, where `class` is among theirs.
    pub(super) async fn mapped(&mut self, role: Role, class: &str, address: String) -> String {
        if !self.flags.contains(CleanupFlags::MAP_OK) || address.is_empty() {
            return address;
        }
        let classes = &self.service.settings.classes;
        let named = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case(class));
        let own = match role {
            Role::Sender => named(&classes.sender_canonical),
            Role::Recipient => named(&classes.recipient_canonical),
        };
        let (common, hidden) = (named(&classes.canonical), named(&classes.masquerade));
        let mut address = address;
        if own || common {
            let found = self.service.routing.canonical_where(role, own, common, &address).await;
            match self.answered("canonical_maps", found) {
                Some(canonical) => address = canonical,
                None => return address,
            }
        }
        if hidden { self.service.routing.masquerade(&address) } else { address }
    }

    /// A table's answer; if it could not answer, the message is not accepted now.
    pub(super) fn answered<T, E: std::fmt::Display>(
        &mut self,
        maps: &str,
        found: Result<T, E>,
    ) -> Option<T> {
        match found {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.warn(&format!(
                    "{maps} map lookup problem -- message not accepted, try again later: {error}"
                ));
                self.status.add(CleanupStatus::WRITE);
                None
            }
        }
    }
}

/// The external form, where a source route (`@a,@b:user@c`) stays one.
fn external(address: &str) -> String {
    match address.split_once(':') {
        Some((route, rest)) if route.starts_with('@') => format!("{route}:{}", quote_822(rest)),
        _ => quote_822(address),
    }
}
