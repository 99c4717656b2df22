//! What main.cf says about access, as one service sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use routing::Maps;
use serde::{Deserialize, Serialize};

use super::{AddressList, PolicyServer, Restriction, Site, Verification};

/// Everything the restrictions of one service need to know.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PolicySettings {
    pub lists: ListSet,
    pub classes: BTreeMap<String, Vec<Restriction>>,
    /// Check client, HELO and sender at RCPT, when the recipient can be logged.
    pub delay_reject: bool,
    pub relay_before_recipient: bool,
    pub reject_unlisted_recipient: bool,
    pub reject_unlisted_sender: bool,
    /// `receive_override_options = no_unknown_recipient_checks`.
    pub accept_unlisted: bool,
    pub allow_untrusted_routing: bool,
    pub show_table_name: bool,
    pub soft_bounce: bool,
    /// `smtpd_access_maps` in `parent_domain_matches_subdomains`.
    pub access_parents: bool,
    pub sasl_enabled: bool,
    pub null_sender_key: String,
    pub double_bounce_sender: String,
    pub recipient_delimiter: String,
    pub origin: String,
    pub codes: RejectCodes,
    pub networks: AddressList,
    pub local_rewrite_clients: Vec<Restriction>,
    pub destination: AddressList,
    /// Addresses of this host (`inet_interfaces`, then `proxy_interfaces`).
    pub own_addresses: Vec<IpAddr>,
    pub tables: RecipientTables,
    pub log_permits: Vec<String>,
    pub blocklists: Blocklists,
    pub tempfail: Tempfails,
    pub verification: Verification,
    /// `permit_mx_backup_networks`
    pub mx_backup_networks: AddressList,
    /// By the word behind `check_policy_service`.
    pub policy_servers: BTreeMap<String, PolicyServer>,
}

/// What DNS lists share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Blocklists {
    /// `maps_rbl_domains`
    pub sites: Vec<Site>,
    pub reply_maps: Maps,
    pub default_reply: String,
    /// `smtpd_expansion_filter`: characters that a value in a reply may hold.
    pub expansion_filter: String,
}

/// What becomes of a request when somebody else's fault keeps us from knowing (`*_tempfail_action`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tempfail {
    #[default]
    DeferIfPermit,
    Defer,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Tempfails {
    pub helo: Tempfail,
    pub address: Tempfail,
}

/// The restriction lists, by stage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListSet {
    pub client: Vec<Restriction>,
    pub helo: Vec<Restriction>,
    pub sender: Vec<Restriction>,
    pub relay: Vec<Restriction>,
    pub recipient: Vec<Restriction>,
    pub data: Vec<Restriction>,
    pub end_of_data: Vec<Restriction>,
    pub etrn: Vec<Restriction>,
}

impl ListSet {
    #[must_use]
    pub fn all(&self) -> [&Vec<Restriction>; 8] {
        [
            &self.client,
            &self.helo,
            &self.sender,
            &self.relay,
            &self.recipient,
            &self.data,
            &self.end_of_data,
            &self.etrn,
        ]
    }
}

/// The `*_reject_code` settings.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RejectCodes {
    pub access_map_reject: u16,
    pub access_map_defer: u16,
    pub defer: u16,
    pub reject: u16,
    pub relay_domains: u16,
    pub invalid_hostname: u16,
    pub non_fqdn: u16,
    pub unknown_local: u16,
    pub unknown_relay: u16,
    pub unknown_virtual_alias: u16,
    pub unknown_virtual_mailbox: u16,
    pub multi_recipient_bounce: u16,
    pub plaintext: u16,
    pub maps_rbl: u16,
    pub unknown_client: u16,
    pub unknown_hostname: u16,
    pub unknown_address: u16,
}

/// Postfix's defaults.
impl Default for RejectCodes {
    fn default() -> Self {
        Self {
            access_map_reject: 554,
            access_map_defer: 450,
            defer: 450,
            reject: 554,
            relay_domains: 554,
            invalid_hostname: 501,
            non_fqdn: 504,
            unknown_local: 550,
            unknown_relay: 550,
            unknown_virtual_alias: 550,
            unknown_virtual_mailbox: 550,
            multi_recipient_bounce: 550,
            plaintext: 450,
            maps_rbl: 554,
            unknown_client: 450,
            unknown_hostname: 450,
            unknown_address: 450,
        }
    }
}

/// Where addresses are known, by class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecipientTables {
    pub local: Maps,
    /// `alias_maps`: where `local` names the same files, they have alias(5) syntax.
    pub aliases: Maps,
    pub virtual_mailbox: Maps,
    pub relay: Maps,
    pub virtual_alias: Maps,
    pub canonical: Maps,
    pub recipient_canonical: Maps,
    pub sender_canonical: Maps,
    pub sender_login: Maps,
}

impl PolicySettings {
    /// The tables that restrictions name.
    pub fn restriction_tables(&self) -> impl Iterator<Item = routing::TableName> {
        let restrictions = self
            .lists
            .all()
            .into_iter()
            .chain([&self.local_rewrite_clients])
            .chain(self.classes.values())
            .flatten();
        restrictions.filter_map(|restriction| match restriction {
            Restriction::Access(_, table)
            | Restriction::Servers(_, _, table)
            | Restriction::Table(table) => Some(table.clone()),
            _ => None,
        })
    }
}
