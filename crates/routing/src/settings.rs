//! The settings that routing obeys, as values: one serialisable whole for a worker.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::domains::{DomainList, Subdomains};
use crate::rewrite::Rewriting;
use crate::tables::Maps;

/// Everything that decides where mail goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub myhostname: String,
    pub rewriting: Rewriting,
    pub recipient_delimiter: String,
    /// `empty_address_recipient`, the local name that mail to nobody goes to.
    pub empty_address_recipient: String,
    /// Whether routing operators in a quoted local part count (`resolve_dequoted_address`).
    pub resolve_dequoted_address: bool,
    /// `user@` counts as `user` (`resolve_null_domain`).
    pub resolve_null_domain: bool,
    /// `[192.0.2.1]` with one of these is this system (`inet_interfaces`, `proxy_interfaces`).
    pub own_addresses: Vec<IpAddr>,
    pub classes: Classes,
    pub transports: Transports,
    /// What `verify` requests use instead (`address_verify_*`).
    pub probe_transports: Transports,
    pub maps: AddressMaps,
    pub known: KnownRecipients,
}

/// The domains of each address class.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Classes {
    pub mydestination: DomainList,
    pub virtual_alias_domains: DomainList,
    pub virtual_mailbox_domains: DomainList,
    pub relay_domains: DomainList,
}

/// Which transport each class takes, and what overrides it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transports {
    pub local: String,
    pub virtual_mailbox: String,
    pub relay: String,
    pub default: String,
    pub relayhost: String,
    pub transport_maps: Maps,
    pub transport_subdomains: Subdomains,
    pub sender_dependent_default_transport_maps: Maps,
    pub sender_dependent_relayhost_maps: Maps,
    /// The keys for the null sender in these two.
    pub null_sender_transport_key: String,
    pub null_sender_relayhost_key: String,
}

/// The maps that change addresses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AddressMaps {
    pub canonical: Maps,
    pub sender_canonical: Maps,
    pub recipient_canonical: Maps,
    pub virtual_alias: Maps,
    pub relocated: Maps,
    /// `propagate_unmatched_extensions` names `canonical`, `virtual`.
    pub propagate_in_canonical: bool,
    pub propagate_in_virtual: bool,
    pub limits: ExpansionLimits,
    pub masquerade_domains: Vec<String>,
    pub masquerade_exceptions: Vec<String>,
}

/// `virtual_alias_expansion_limit`, `_recursion_limit`, `_address_length_limit`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ExpansionLimits {
    pub addresses: usize,
    pub nesting: usize,
    pub address_length: usize,
}

impl Default for ExpansionLimits {
    fn default() -> Self {
        Self { addresses: 1000, nesting: 1000, address_length: 1000 }
    }
}

/// The tables of existing recipients. One that is not set accepts everybody.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KnownRecipients {
    pub local: Maps,
    /// `alias_maps`: where `local` names the same files, they have alias(5) syntax.
    pub aliases: Maps,
    pub virtual_mailbox: Maps,
    pub relay: Maps,
    /// Whether the peer hears which table did not hold it (`show_user_unknown_table_name`).
    pub show_table_name: bool,
    /// The names that mail may always go to: `double_bounce_sender`.
    pub double_bounce_sender: String,
    pub local_code: u16,
    pub virtual_alias_code: u16,
    pub virtual_mailbox_code: u16,
    pub relay_code: u16,
}

impl Settings {
    /// The tables that [`crate::Routing::resolve`] asks.
    #[must_use]
    pub fn tables_to_resolve(&self) -> Maps {
        let classes = &self.classes;
        let lists = [
            &classes.mydestination,
            &classes.virtual_alias_domains,
            &classes.virtual_mailbox_domains,
            &classes.relay_domains,
        ];
        let of = |transports: &Transports| {
            [
                transports.transport_maps.clone(),
                transports.sender_dependent_default_transport_maps.clone(),
                transports.sender_dependent_relayhost_maps.clone(),
            ]
        };
        let maps = [of(&self.transports), of(&self.probe_transports)];
        let listed = lists.into_iter().flat_map(DomainList::tables);
        let mapped = maps.iter().flatten().chain([&self.maps.relocated]).flat_map(Maps::iter);
        listed.chain(mapped).cloned().collect()
    }

    /// Every table that these settings name, for opening.
    #[must_use]
    pub fn tables(&self) -> Maps {
        let lists = [
            &self.classes.mydestination,
            &self.classes.virtual_alias_domains,
            &self.classes.virtual_mailbox_domains,
            &self.classes.relay_domains,
        ];
        let maps = [
            &self.transports.transport_maps,
            &self.transports.sender_dependent_default_transport_maps,
            &self.transports.sender_dependent_relayhost_maps,
            &self.probe_transports.transport_maps,
            &self.probe_transports.sender_dependent_default_transport_maps,
            &self.probe_transports.sender_dependent_relayhost_maps,
            &self.maps.canonical,
            &self.maps.sender_canonical,
            &self.maps.recipient_canonical,
            &self.maps.virtual_alias,
            &self.maps.relocated,
            &self.known.local,
            &self.known.virtual_mailbox,
            &self.known.relay,
        ];
        let listed = lists.into_iter().flat_map(DomainList::tables);
        listed.chain(maps.into_iter().flat_map(Maps::iter)).cloned().collect()
    }
}
