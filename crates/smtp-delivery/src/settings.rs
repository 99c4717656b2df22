//! What the daemon obeys, as a worker gets it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use neighbours::postmaster::Postmaster;
use queue::QueueDirectory;
use routing::Maps;
use serde::{Deserialize, Serialize};

use crate::policy::TlsSettings;

/// The one role: every service of master.cf that runs smtp or lmtp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub services: Vec<ServiceSettings>,
    pub resolver: Resolver,
}

/// Whom to ask for names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Resolver {
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
    pub attempts: u32,
    /// `/etc/hosts`, for `smtp_host_lookup = native`.
    pub hosts: String,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// The listener's name: the socket's path below the queue directory.
    pub listener: String,
    pub name: String,
    pub ident: String,
    pub lmtp: bool,
    /// Deliveries at a time.
    pub limit: usize,
    pub queue: QueueDirectory,
    pub mail_version: String,
    pub soft_bounce: bool,
    /// Who hears of sessions that went wrong.
    pub postmaster: Postmaster,
    pub ipc_timeout: Duration,
    /// Names of the bounce, defer and trace services.
    pub reports: [String; 3],
    pub verify: String,
    pub flush: String,
    /// Failed probes are remembered too.
    pub negative_cache: bool,
    pub headers: AddedHeaders,
    pub route: Route,
    pub times: Times,
    pub talk: Talk,
    pub tls: TlsSettings,
    pub sasl: Option<Sasl>,
    pub reuse: Reuse,
    pub content: ContentSettings,
    pub generic: Option<Generic>,
    pub checks: Checks,
    /// `smtp_delivery_status_filter`
    pub status_filter: Maps,
}

/// `flags=` of master.cf: what a final delivery puts in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedHeaders {
    pub return_path: bool,
    pub original_to: bool,
    pub delivered_to: bool,
    /// A success is a delivery, not a relaying (LMTP).
    pub is_final: bool,
}

/// The way to a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Route {
    pub port: u16,
    pub fallback: Vec<String>,
    pub relayhost: String,
    pub dns: bool,
    /// What the name servers have validated counts (`smtp_dns_support_level = dnssec`).
    pub dnssec: bool,
    pub native: bool,
    pub ignore_mx_errors: bool,
    pub defer_without_mx_address: bool,
    pub randomize: bool,
    pub balance: bool,
    pub preference: Preference,
    pub address_limit: usize,
    pub session_limit: usize,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Where mail would come back to us.
    pub own_addresses: Vec<IpAddr>,
    pub bind4: Option<IpAddr>,
    pub bind6: Option<IpAddr>,
    pub bind_enforce: bool,
}

/// `smtp_address_preference`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preference {
    #[default]
    Any,
    Ipv4,
    Ipv6,
}

/// How long each stage may take; zero is no limit of ours.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    pub connect: Duration,
    pub helo: Duration,
    pub starttls: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data_init: Duration,
    pub data_xfer: Duration,
    pub data_done: Duration,
    pub rset: Duration,
    pub xforward: Duration,
    pub quit: Duration,
}

/// The conversation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Talk {
    pub helo_name: String,
    pub myhostname: String,
    pub always_ehlo: bool,
    pub never_ehlo: bool,
    pub skip_5xx_greeting: bool,
    pub skip_quit_response: bool,
    pub note_starttls_offer: bool,
    pub quote_envelope: bool,
    pub dummy_mail_auth: bool,
    pub discard: String,
    pub discard_maps: Maps,
    /// `smtp_reply_filter`
    pub reply_filter: Maps,
    /// Tells where the message came from.
    pub xforward: bool,
    /// A probe goes as far as DATA, not only to RCPT.
    pub probe_with_data: bool,
    pub sasl: bool,
    pub mechanism_filter: Vec<String>,
    pub minimal_backoff: Duration,
}

/// Logging in to servers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sasl {
    pub passwords: Maps,
    pub options: Vec<String>,
    pub tls_options: Vec<String>,
    pub verified_options: Vec<String>,
    pub by_sender: bool,
    /// A wrong password defers.
    pub soft_bounce: bool,
    /// For `user+ext@domain` keys.
    pub routing: Option<Box<routing::Settings>>,
}

/// Connections that serve several messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reuse {
    pub destinations: Vec<String>,
    pub on_demand: bool,
    pub idle: Duration,
    pub count: u64,
    pub time: Duration,
}

/// The message on the wire.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ContentSettings {
    /// Octets of a line; 0 is no limit.
    pub line_length: usize,
    /// 8-bit content is never encoded for servers without 8BITMIME.
    pub no_conversion: bool,
}

/// `smtp_header_checks` and its kin
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checks {
    pub header: Maps,
    pub mime_header: Maps,
    pub nested_header: Maps,
    pub body: Maps,
    /// Multiparts in multiparts.
    pub nesting: usize,
    /// Octets of a boundary that count.
    pub boundary: usize,
    /// `header_size_limit`
    pub largest_field: usize,
}

impl Checks {
    /// Whether MIME matters, and not only the message's own header.
    pub fn looks_into_parts(&self) -> bool {
        self.tables().any(|maps| !maps.is_empty())
    }

    pub fn tables(&self) -> impl Iterator<Item = &Maps> {
        [&self.header, &self.mime_header, &self.nested_header, &self.body].into_iter()
    }
}

/// `smtp_generic_maps`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generic {
    pub maps: Maps,
    pub propagate: bool,
    pub routing: Box<routing::Settings>,
}
