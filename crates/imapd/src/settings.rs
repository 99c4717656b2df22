//! What the mailbox worker is told; made by the plan from dovecot.conf.

use std::time::Duration;

use login::QuotaSettings;
use serde::{Deserialize, Serialize};

/// Settings of the mailbox role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// `mail_location`, not expanded; the userdb's `mail` wins.
    pub location: String,
    pub namespaces: Vec<Namespace>,
    /// `plugin { quota, quota_rule, ... }` when the quota plugin is loaded.
    pub quota: Option<QuotaSettings>,
    /// The imap_quota plugin is loaded: GETQUOTA is there.
    pub quota_commands: bool,
    /// `imap_max_line_length`.
    pub line_limit: usize,
    /// `imap_idle_notify_interval`; zero is never.
    pub idle_notify: Duration,
    /// `mailbox_idle_check_interval`.
    pub idle_check: Duration,
    /// `imap_id_send`.
    pub id_send: String,
    /// `imap_id_log`.
    pub id_log: String,
    /// `imap_capability`.
    pub capability: String,
    pub workarounds: Workarounds,
    /// `imap_logout_format`, `mail_log_prefix`.
    pub logout_format: String,
    pub log_prefix: String,
    /// `mail_fsync`, anything but `never`.
    pub fsync: bool,
    /// `maildir_copy_with_hardlinks`.
    pub hard_links: bool,
    /// `maildir_broken_filename_sizes`.
    pub ignore_stated_sizes: bool,
    /// `mail_max_lock_timeout`; zero is Dovecot's own.
    pub lock_timeout: Duration,
    /// `mail_max_keyword_length`.
    pub keyword_length: usize,
    /// After so long without a command the client is sent away.
    pub inactivity: Duration,
    /// So long a client may take to read an answer.
    pub stall: Duration,
}

/// One `namespace { }` block.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Namespace {
    pub prefix: String,
    /// The layout's own when not set.
    pub separator: Option<char>,
    /// Its own `location`; otherwise `mail_location`.
    pub location: Option<String>,
    pub inbox: bool,
    pub hidden: bool,
    pub list: bool,
    pub kind: Kind,
    pub mailboxes: Vec<MailboxBlock>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    #[default]
    Private,
    Shared,
    Public,
}

/// One `mailbox NAME { }` block; the name without the namespace's prefix.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MailboxBlock {
    pub name: String,
    pub auto: Auto,
    /// `\Sent \Junk`
    pub special_use: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auto {
    #[default]
    No,
    Create,
    Subscribe,
}

/// `imap_client_workarounds`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Workarounds {
    pub delay_newmail: bool,
    pub tb_extra_mailbox_sep: bool,
    pub tb_lsub_flags: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let zeros = "deleted=%{deleted} expunged=%{expunged} trashed=%{trashed}";
        Self {
            location: String::new(),
            namespaces: vec![Namespace { inbox: true, list: true, ..Namespace::default() }],
            quota: None,
            quota_commands: false,
            line_limit: 64 * 1024,
            idle_notify: Duration::from_secs(120),
            idle_check: Duration::from_secs(30),
            id_send: "name *".to_owned(),
            id_log: String::new(),
            capability: String::new(),
            workarounds: Workarounds::default(),
            logout_format: format!(
                "in=%i out=%o {zeros} hdr_count=%{{fetch_hdr_count}} hdr_bytes=%{{fetch_hdr_bytes}} \
                 body_count=%{{fetch_body_count}} body_bytes=%{{fetch_body_bytes}}"
            ),
            log_prefix: "%s(%u)<%{pid}><%{session}>: ".to_owned(),
            fsync: true,
            hard_links: true,
            ignore_stated_sizes: false,
            lock_timeout: Duration::ZERO,
            keyword_length: 50,
            inactivity: Duration::from_secs(30 * 60),
            stall: Duration::from_secs(5 * 60),
        }
    }
}
