//! Whether a recipient exists, and the words in which Postfix refuses one that does not.

use crate::expand::Role;
use crate::resolve::{Class, Resolution, Routing};
use crate::tables::{LookupError, Maps, Tables};

/// The answer about one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Yes,
    /// The reply is `CODE STATUS <address>: Recipient address rejected: TEXT`.
    No(Unknown),
}

/// What the client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub code: u16,
    /// Such as `5.1.1`.
    pub status: String,
    /// Such as `User unknown in local recipient table`.
    pub text: String,
}

impl<T: Tables> Routing<T> {
    /// Decides about an address that [`Routing::resolve`] resolved (`reject_unlisted_recipient`,
    /// `reject_unlisted_sender`).
    ///
    /// # Errors
    ///
    /// [`LookupError`]: `451 4.3.0 <address>: Temporary lookup failure`.
    pub async fn known(&self, role: Role, resolution: &Resolution) -> Result<Known, LookupError> {
        let Resolution::Route(route) = resolution else { return Ok(Known::Yes) };
        let maps = &self.settings.maps;
        let address = route.recipient.as_str();
        let canonical = match role {
            Role::Recipient => &maps.recipient_canonical,
            Role::Sender => &maps.sender_canonical,
        };
        for aliased in [canonical, &maps.canonical, &maps.virtual_alias] {
            if self.listed(aliased, address).await? {
                return Ok(Known::Yes);
            }
        }
        let status = if role == Role::Sender { "1.0" } else { "1.1" };
        match route.transport.as_str() {
            "error" => {
                let code = match route.class {
                    Class::VirtualAlias => self.settings.known.virtual_alias_code,
                    _ => 550,
                };
                return Ok(self.refuse(role, code, &format!("5.{status}"), &route.nexthop));
            }
            "retry" => return Ok(self.refuse(role, 450, &format!("4.{status}"), &route.nexthop)),
            _ => {}
        }
        let known = &self.settings.known;
        let (table, code, name) = match route.class {
            Class::Local if self.is_special(address) => return Ok(Known::Yes),
            Class::Local => (&known.local, known.local_code, "local recipient table"),
            Class::VirtualMailbox => {
                (&known.virtual_mailbox, known.virtual_mailbox_code, "virtual mailbox table")
            }
            Class::Relay => (&known.relay, known.relay_code, "relay recipient table"),
            Class::VirtualAlias | Class::Default => return Ok(Known::Yes),
        };
        if table.is_empty() || self.listed(table, address).await? {
            return Ok(Known::Yes);
        }
        let table = if known.show_table_name { format!(" in {name}") } else { String::new() };
        Ok(self.refuse(role, code, &format!("5.{status}"), &format!("User unknown{table}")))
    }

    /// Whether the map has an answer for the address, in its quoted form or as it is.
    async fn listed(&self, maps: &Maps, address: &str) -> Result<bool, LookupError> {
        if maps.is_empty() {
            return Ok(false);
        }
        let quoted = mail_types::quote_822(address);
        if quoted != address && self.find_address(maps, &quoted).await?.is_some() {
            return Ok(true);
        }
        Ok(self.find_address(maps, address).await?.is_some())
    }

    /// A text may begin with a status code of its own: `5.1.6 User has moved to …`. A sender's
    /// status is never that of a recipient.
    fn refuse(&self, role: Role, code: u16, status: &str, text: &str) -> Known {
        let (status, text) = match mail_types::EnhancedStatus::prefix_of(text) {
            Some((own, rest)) => (own.to_string(), rest),
            None => (status.to_owned(), text),
        };
        let status = match (role, status.split_once(".1.1")) {
            (Role::Sender, Some((class, ""))) => format!("{class}.1.0"),
            _ => status,
        };
        Known::No(Unknown { code, status, text: text.to_owned() })
    }

    fn is_special(&self, address: &str) -> bool {
        let local = address.split_once('@').map_or(address, |(local, _)| local);
        ["postmaster", "mailer-daemon", &self.settings.known.double_bounce_sender]
            .iter()
            .any(|name| !name.is_empty() && name.eq_ignore_ascii_case(local))
    }
}
