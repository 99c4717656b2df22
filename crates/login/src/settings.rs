//! What the login worker and the broker are told; made by the daemon's plan from dovecot.conf.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Network;

/// Settings of the login role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontSettings {
    /// `imap` or `pop3`: for the auth server and, with `-login`, for log lines.
    pub service: String,
    /// The auth server's socket for login processes.
    pub auth_socket: PathBuf,
    /// `login_greeting`.
    pub greeting: String,
    /// `ssl` is not `no`: STARTTLS is offered.
    pub tls: bool,
    /// `ssl = required`, or `disable_plaintext_auth`: no password in the clear from afar.
    pub plaintext_needs_tls: bool,
    /// `login_trusted_networks`.
    pub trusted: Vec<Network>,
    /// Names of listeners that are TLS from the first byte.
    pub wrapped: Vec<String>,
    /// `login_log_format`, `login_log_format_elements`.
    pub log_format: String,
    pub log_elements: String,
    /// `auth_verbose`: each refusal has a line of its own.
    pub verbose: bool,
    /// How long a client may take until it is logged in.
    pub patience: Duration,
    /// What only the daemon's own conversation reads.
    pub own: serde_json::Value,
}

/// Settings of the broker role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrokerSettings {
    pub service: String,
    /// The auth server's socket for mail processes.
    pub master_socket: PathBuf,
    /// Name of the on-demand role that serves mailboxes.
    pub mailbox_role: String,
    /// `mail_max_userip_connections`; 0 is no limit.
    pub connections_per_user_and_address: u32,
    /// `mail_uid`, `mail_gid`, `mail_home`: where the userdb gives none.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub home: String,
    /// `first_valid_uid`, `last_valid_uid`, `first_valid_gid`, `last_valid_gid`; 0 is no limit.
    pub uids: (u32, u32),
    pub gids: (u32, u32),
    /// `mail_access_groups`, as numbers.
    pub groups: Vec<u32>,
}
