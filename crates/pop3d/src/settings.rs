//! What the mailbox worker is told; made by the plan from dovecot.conf.

use login::QuotaSettings;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of the mailbox role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The location of the namespace with INBOX, not expanded; the userdb's `mail` wins.
    pub location: String,
    /// Whether that namespace has a `location` of its own, which the userdb's `mail` does not change.
    pub own_location: bool,
    /// `pop3_uidl_format`.
    pub uidl_format: String,
    /// `pop3_uidl_duplicates = rename`.
    pub rename_duplicates: bool,
    /// `pop3_reuse_xuidl`.
    pub reuse_xuidl: bool,
    /// `pop3_no_flag_updates`.
    pub no_flag_updates: bool,
    /// `pop3_lock_session`.
    pub lock_session: bool,
    /// `pop3_enable_last`.
    pub enable_last: bool,
    /// `pop3_fast_size_lookups`.
    pub fast_sizes: bool,
    /// `pop3_delete_type = flag`: the keyword that hides a message instead of removing it.
    pub deleted_flag: Option<String>,
    /// `pop3_client_workarounds`.
    pub no_nuls: bool,
    pub end_of_headers: bool,
    /// `pop3_logout_format`, `mail_log_prefix`.
    pub logout_format: String,
    pub log_prefix: String,
    /// `maildir_broken_filename_sizes`.
    pub ignore_stated_sizes: bool,
    /// `plugin { quota, quota_rule, ... }` when the quota plugin is loaded: what is taken away counts no more.
    pub quota: Option<QuotaSettings>,
    /// `mail_max_lock_timeout`; zero is Dovecot's own.
    pub lock_timeout: Duration,
    /// After so long without a command the client is sent away.
    pub inactivity: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: String::new(),
            own_location: false,
            uidl_format: "%08Xu%08Xv".to_owned(),
            rename_duplicates: false,
            reuse_xuidl: false,
            no_flag_updates: false,
            lock_session: false,
            enable_last: false,
            fast_sizes: false,
            deleted_flag: None,
            no_nuls: false,
            end_of_headers: false,
            logout_format: "top=%t/%p, retr=%r/%b, del=%d/%m, size=%s".to_owned(),
            log_prefix: "%s(%u)<%{pid}><%{session}>: ".to_owned(),
            ignore_stated_sizes: false,
            quota: None,
            lock_timeout: Duration::ZERO,
            inactivity: Duration::from_secs(600),
        }
    }
}
