//! What a worker is told: opendkim.conf with its tables, read by the supervisor.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub role: Role,
    pub signing: Signing,
    pub verifying: Verifying,
    pub senders: Senders,
    pub on: On,
    pub log: Log,
    pub authserv_id: Option<String>,
    pub authserv_id_with_job_id: bool,
    pub software_header: bool,
    pub pass_malformed: bool,
    /// Octets of header; 0 is OpenDKIM's "no limit".
    pub maximum_headers: usize,
    pub resolver: Resolver,
}

/// `Mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub sign: bool,
    pub verify: bool,
}

/// Whose mail is signed, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signing {
    pub keys: Keys,
    /// Paths of keys that others can read, with what is wrong: not used (`RequireSafeKeys`).
    pub unsafe_keys: BTreeMap<String, String>,
    pub header_relaxed: bool,
    pub body_relaxed: bool,
    pub signed: Vec<String>,
    pub omitted: Vec<String>,
    pub oversigned: Vec<String>,
    pub valid_for: Option<u64>,
    pub copies: bool,
    pub reports: bool,
    pub maximum_bytes: Option<u64>,
    pub body_length_recipients: Dataset,
    pub never_to: Dataset,
    pub remove_old: bool,
    pub several: bool,
}

/// Where keys come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Keys {
    None,
    /// `KeyFile`, `Selector`, `Domain`.
    Single {
        path: Option<String>,
        selector: Option<String>,
        domains: Dataset,
        subdomains: bool,
    },
    /// `KeyTable`, `SigningTable`.
    Tables {
        keys: Dataset,
        signing: Dataset,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verifying {
    pub always_add_results: bool,
    pub keep_results: bool,
    pub remove_all_methods: bool,
    pub remove_from: Option<Dataset>,
    pub no_header_b: bool,
    pub most_signatures: usize,
    pub least_key_bits: usize,
    pub must_be_signed: Vec<String>,
    pub clock_drift: u64,
}

/// Who counts as one of us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Senders {
    pub headers: Vec<String>,
    pub internal: Dataset,
    pub ignored_externals: Dataset,
    pub peers: Option<Dataset>,
    pub exempt_domains: Option<Dataset>,
    pub mta_names: Option<Dataset>,
    pub macros: Option<Dataset>,
}

/// A value of the `On-…` settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Accept,
    Discard,
    Quarantine,
    Reject,
    Tempfail,
}

impl Action {
    pub fn named(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "a" | "accept" => Self::Accept,
            "d" | "discard" => Self::Discard,
            "q" | "quarantine" => Self::Quarantine,
            "r" | "reject" => Self::Reject,
            "t" | "tempfail" => Self::Tempfail,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct On {
    pub bad_signature: Action,
    pub key_not_found: Action,
    pub no_signature: Action,
    pub dns_error: Action,
    pub security: Action,
}

impl On {
    pub fn quarantines(&self) -> bool {
        let all = [
            self.bad_signature,
            self.key_not_found,
            self.no_signature,
            self.dns_error,
            self.security,
        ];
        all.contains(&Action::Quarantine)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub syslog: bool,
    pub success: bool,
    pub why: bool,
    pub results: bool,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
    pub attempts: u32,
}
