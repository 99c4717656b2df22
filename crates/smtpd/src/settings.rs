//! What the workers get from the supervisor: each service of master.cf that runs smtpd, fully read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::postfix::Match;
use neighbours::milter;
use neighbours::postmaster::Postmaster;
use protocol::postfix::Dialect;
use routing::{Maps, TableName};
use serde::{Deserialize, Serialize};

use crate::keywords::Discarded;
use crate::policy::{AddressList, PolicySettings};
use crate::screen::settings::ScreenSettings;
use crate::session::Dialogue;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    pub services: Vec<Service>,
    pub resolving: Resolving,
}

/// Whom the DNS client asks: read by the supervisor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Resolving {
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
    pub attempts: u32,
}

impl From<dns::Settings> for Resolving {
    fn from(settings: dns::Settings) -> Self {
        let dns::Settings { servers, timeout, attempts, .. } = settings;
        Self { servers, timeout, attempts }
    }
}

impl From<&Resolving> for dns::Settings {
    fn from(resolving: &Resolving) -> Self {
        let Resolving { servers, timeout, attempts } = resolving.clone();
        Self { servers, timeout, attempts, ..Self::default() }
    }
}

/// One line of master.cf with its overrides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    /// As in master.cf (`smtp`, `submission`, `127.0.0.1:10025`): names it in rate limits and their lines.
    pub name: String,
    /// The listener of the plan: its own line's, or postscreen's.
    pub listener: String,
    /// What its clients go through first.
    pub screen: Option<ScreenSettings>,
    /// SYSLOG_IDENTIFIER: `postfix/submission/smtpd`.
    pub ident: String,
    pub banner: String,
    pub dialogue: Dialogue,
    pub limits: Limits,
    /// What counts while more clients are here than master.cf allows processes (`stress`).
    pub stressed: Limits,
    pub stress_at: usize,
    pub rates: Rates,
    pub policy: PolicySettings,
    pub tls: Tls,
    pub sasl: Option<Sasl>,
    pub queue: Queue,
    pub milters: Milters,
    /// Who hears of sessions that went wrong.
    pub postmaster: Postmaster,
    /// `smtpd_history_flush_threshold`
    pub history_threshold: usize,
    pub received: Received,
    pub xclient_hosts: AddressList,
    pub xforward_hosts: AddressList,
    pub discard_keywords: Discarded,
    pub discard_keyword_maps: Maps,
    pub noop_commands: Vec<String>,
    pub forbidden_commands: Vec<Match>,
    pub bare_newline: BareNewline,
    pub forbid_unauth_pipelining: bool,
    pub peername_lookup: bool,
    pub log_client_port: bool,
}

/// `smtpd_milters` and what belongs to them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Milters {
    pub filters: milter::Settings,
    /// `smtpd_milter_maps`, whose answers are read with `texts`.
    pub maps: Maps,
    pub texts: milter::Texts,
    /// `receive_override_options = no_milters`
    pub off: bool,
    /// `milter_macro_daemon_name`
    pub daemon_name: String,
    /// `milter_macro_v`
    pub version: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    pub timeout: Duration,
    pub starttls_timeout: Duration,
    pub soft_errors: u32,
    pub hard_errors: u32,
    pub junk_commands: u32,
    pub error_sleep: Duration,
    /// Octets of a command line or a piece of content.
    pub line: usize,
}

/// Limits per client address and `window` (anvil's).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rates {
    pub window: Duration,
    pub connection_count: u32,
    pub connection_rate: u32,
    pub message_rate: u32,
    pub recipient_rate: u32,
    pub new_tls_rate: u32,
    pub auth_rate: u32,
    pub exceptions: AddressList,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsLevel {
    #[default]
    None,
    May,
    Encrypt,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tls {
    pub level: TlsLevel,
    pub wrapper: bool,
    /// AUTH only inside TLS.
    pub auth_only: bool,
    pub log_level: u8,
    /// The name of the identities in the plan; `None` when there are none: STARTTLS then fails with 454.
    pub identities: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sasl {
    /// The auth server's socket, as the file system has it, and as the setting names it.
    pub socket: PathBuf,
    pub shown: String,
    pub service: String,
    pub plain_options: Vec<String>,
    pub tls_options: Vec<String>,
    pub mechanism_filter: Vec<Match>,
    pub response_limit: usize,
    pub exceptions: AddressList,
}

/// The way to cleanup and its neighbours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queue {
    pub directory: PathBuf,
    pub cleanup: PathBuf,
    pub rewrite: PathBuf,
    pub flush: PathBuf,
    pub verify: PathBuf,
    /// `mail_version`, which decides whether servers greet.
    pub version: String,
    pub ipc_timeout: Duration,
    /// Header checks, address mappings and bcc that `receive_override_options` turns off.
    pub checks: bool,
    pub mappings: bool,
    /// Open the queue file at the first good recipient, not at MAIL.
    pub delay_open: bool,
    pub size_limit: u64,
    pub min_free: u64,
}

impl Queue {
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect::of_version(&self.version).unwrap_or_default()
    }
}

/// What our Received header says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    pub mail_name: String,
    pub tls: bool,
    pub login: bool,
}

/// `smtpd_forbid_bare_newline`. What ends a message does not depend on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BareNewline {
    pub reject: bool,
    pub code: u16,
    pub exclusions: AddressList,
}

impl Service {
    /// Every table that restrictions and lists may ask.
    #[must_use]
    pub fn tables(&self) -> Maps {
        let lists = [
            &self.xclient_hosts,
            &self.xforward_hosts,
            &self.rates.exceptions,
            &self.bare_newline.exclusions,
            &self.policy.networks,
            &self.policy.destination,
            &self.policy.mx_backup_networks,
        ];
        let mut names: Vec<TableName> = lists.into_iter().flat_map(AddressList::tables).collect();
        if let Some(sasl) = &self.sasl {
            names.extend(sasl.exceptions.tables());
        }
        let tables = &self.policy.tables;
        for maps in [
            &self.discard_keyword_maps,
            &self.milters.maps,
            &tables.local,
            &tables.virtual_mailbox,
            &tables.relay,
            &tables.virtual_alias,
            &tables.canonical,
            &tables.recipient_canonical,
            &tables.sender_canonical,
            &tables.sender_login,
            &self.policy.blocklists.reply_maps,
        ] {
            names.extend(maps.iter().cloned());
        }
        names.extend(self.policy.restriction_tables());
        names.extend(self.pattern_tables());
        names.extend(self.screen.iter().flat_map(ScreenSettings::tables));
        names.into_iter().collect()
    }

    fn pattern_tables(&self) -> impl Iterator<Item = TableName> {
        let screened = self.screen.iter().flat_map(|screen| &screen.forbidden_commands);
        let items = self.forbidden_commands.iter().chain(screened);
        let sasl = self.sasl.iter().flat_map(|sasl| &sasl.mechanism_filter);
        items.chain(sasl).filter_map(|item| match &item.pattern {
            config::postfix::Pattern::Table(table) => Some(TableName::new(table.to_string())),
            _ => None,
        })
    }
}
