//! `postscreen_*` as the workers need it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use config::postfix::Match;
use routing::TableName;
use serde::{Deserialize, Serialize};

use crate::policy::{AddressList, Site};

/// What becomes of a client that fails a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reaction {
    /// The test counts for nothing, and is done again next time.
    #[default]
    Ignore,
    /// The client may go on, but all its recipients are refused.
    Enforce,
    Drop,
}

/// One step of `postscreen_access_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    PermitMynetworks,
    Permit,
    Reject,
    Dunno,
    Table(TableName),
}

/// A test after the greeting.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Deep {
    pub enabled: bool,
    pub reaction: Reaction,
    pub ttl: Duration,
}

/// `domain=filter*weight`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weighted {
    pub site: Site,
    pub weight: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScreenSettings {
    /// `postfix/postscreen`, and `postfix/dnsblog`.
    pub ident: String,
    pub dnsblog_ident: String,
    pub host: String,
    pub banner: String,
    pub respectful: bool,
    pub soft_bounce: bool,
    pub access: Vec<Access>,
    pub networks: AddressList,
    pub deny: Reaction,
    pub allow_interfaces: AddressList,
    pub greet_banner: String,
    pub greet_wait: Duration,
    pub greet_wait_stressed: Duration,
    pub greet: Deep,
    pub sites: Vec<Weighted>,
    pub dnsbl: Dnsbl,
    pub pipelining: Deep,
    pub non_smtp: Deep,
    pub bare_newline: Deep,
    /// Our own cache file; none: every client is new.
    pub cache: Option<PathBuf>,
    pub retention: Duration,
    /// Screened at a time, over all and for each client; 0 for no limit.
    pub queue_limit: usize,
    pub client_limit: usize,
    pub command_count: u32,
    pub command_time: Duration,
    pub command_time_stressed: Duration,
    pub line: usize,
    pub helo_required: bool,
    pub disable_vrfy: bool,
    pub forbidden_commands: Vec<Match>,
    pub keywords: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Dnsbl {
    pub threshold: i64,
    /// Below zero: a score so low or lower passes the other tests too.
    pub allow_threshold: i64,
    pub reaction: Reaction,
    pub timeout: Duration,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    /// Names that clients are told in place of the lists' own.
    pub reply_names: BTreeMap<String, String>,
}

impl ScreenSettings {
    /// The tables that are asked.
    pub fn tables(&self) -> impl Iterator<Item = TableName> {
        let access = self.access.iter().filter_map(|step| match step {
            Access::Table(table) => Some(table.clone()),
            _ => None,
        });
        access.chain(self.networks.tables()).chain(self.allow_interfaces.tables())
    }
}
