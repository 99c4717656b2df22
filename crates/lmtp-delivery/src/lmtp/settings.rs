//! What the LMTP server obeys, read from dovecot.conf into one serialisable value.

use std::path::PathBuf;

use config::dovecot::{self, Config, Connection, View};
use config::{Place, Problems};
use serde::{Deserialize, Serialize};

use crate::task::QuotaSettings;

/// The LMTP role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LmtpSettings {
    /// The names of the listeners.
    pub listeners: Vec<String>,
    /// The auth server's socket for user look-ups.
    pub userdb: PathBuf,
    pub hostname: String,
    pub greeting: String,
    /// Syslog identifier: `instance_name`.
    pub ident: String,
    pub tls: bool,
    pub recipient_delimiter: String,
    pub save_to_detail: bool,
    pub add_received: bool,
    /// `final`, `original` or `none`.
    pub delivery_address: String,
    pub autocreate: bool,
    pub autosubscribe: bool,
    pub quota_full_tempfail: bool,
    /// Where content waits until it is delivered.
    pub temporary: PathBuf,
    pub mail: MailSettings,
}

/// Where a user's mail is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailSettings {
    pub location: String,
    pub separator: Option<char>,
    pub home: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub first_uid: u32,
    pub last_uid: u32,
    pub first_gid: u32,
    pub last_gid: u32,
    pub fsync: bool,
    pub quota: Option<QuotaSettings>,
}

impl LmtpSettings {
    pub fn read(config: &Config, listeners: Vec<String>, problems: &mut Problems) -> Self {
        let view = config.filter(&Connection { protocol: Some("lmtp"), ..Connection::default() });
        let base = PathBuf::from(view.get(dovecot::BASE_DIR, problems));
        let hostname = view.get(dovecot::HOSTNAME, problems);
        Self {
            listeners,
            userdb: base.join("auth-userdb"),
            hostname: if hostname.is_empty() { mailstore::host::hostname() } else { hostname },
            greeting: view.get(dovecot::LOGIN_GREETING, problems),
            ident: view.get(dovecot::INSTANCE_NAME, problems),
            tls: view.get(dovecot::SSL, problems) != "no",
            recipient_delimiter: view.get(dovecot::RECIPIENT_DELIMITER, problems),
            save_to_detail: view.get(dovecot::LMTP_SAVE_TO_DETAIL_MAILBOX, problems),
            add_received: view.get(dovecot::LMTP_ADD_RECEIVED_HEADER, problems),
            delivery_address: view.get(dovecot::LMTP_HDR_DELIVERY_ADDRESS, problems),
            autocreate: view.get(dovecot::LDA_MAILBOX_AUTOCREATE, problems),
            autosubscribe: view.get(dovecot::LDA_MAILBOX_AUTOSUBSCRIBE, problems),
            quota_full_tempfail: view.get(dovecot::QUOTA_FULL_TEMPFAIL, problems),
            temporary: view.get(dovecot::MAIL_TEMP_DIR, problems).into(),
            mail: MailSettings::read(&view, problems),
        }
    }
}

impl MailSettings {
    fn read(view: &View<'_>, problems: &mut Problems) -> Self {
        let inbox = view.namespaces(problems).into_iter().find(|namespace| namespace.inbox);
        let (location, separator) = match inbox {
            Some(namespace) => (namespace.location, namespace.separator.chars().next()),
            None => (view.get(dovecot::MAIL_LOCATION, problems), None),
        };
        if let Err(error) = mailstore::Location::check(&location) {
            problems.error(view.place(dovecot::MAIL_LOCATION), error.to_string());
        }
        let bound = |number: u64| u32::try_from(number).unwrap_or(0);
        let (uid, gid) =
            (view.get(dovecot::MAIL_UID, problems), view.get(dovecot::MAIL_GID, problems));
        Self {
            location,
            separator,
            home: view.get(dovecot::MAIL_HOME, problems),
            uid: number(&uid, "mail_uid", user_number, view.place(dovecot::MAIL_UID), problems),
            gid: number(&gid, "mail_gid", group_number, view.place(dovecot::MAIL_GID), problems),
            first_uid: bound(view.get(dovecot::FIRST_VALID_UID, problems)),
            last_uid: bound(view.get(dovecot::LAST_VALID_UID, problems)),
            first_gid: bound(view.get(dovecot::FIRST_VALID_GID, problems)),
            last_gid: bound(view.get(dovecot::LAST_VALID_GID, problems)),
            fsync: view.get(dovecot::MAIL_FSYNC, problems) != "never",
            quota: quota(view, problems),
        }
    }

    /// Whether Dovecot would serve this user.
    pub fn admits(&self, uid: u32, gid: u32) -> bool {
        let within =
            |number: u32, first: u32, last: u32| number >= first && (last == 0 || number <= last);
        uid != 0
            && within(uid, self.first_uid, self.last_uid)
            && within(gid, self.first_gid, self.last_gid)
    }
}

/// A number, or a name that is looked up.
fn number(
    text: &str,
    setting: &str,
    look_up: fn(&str) -> Result<u32, String>,
    place: Option<Place>,
    problems: &mut Problems,
) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    match text.parse().or_else(|_| look_up(text)) {
        Ok(number) => Some(number),
        Err(why) => {
            problems.error(place, format!("{setting}: {why}"));
            None
        }
    }
}

fn user_number(name: &str) -> Result<u32, String> {
    daemon::Account::named(name).map(|account| account.uid)
}

fn group_number(name: &str) -> Result<u32, String> {
    daemon::privileges::group(name)
}

/// The quota plugin's settings, if the plugin is on.
fn quota(view: &View<'_>, problems: &mut Problems) -> Option<QuotaSettings> {
    let plugins = view.get(dovecot::MAIL_PLUGINS, problems);
    if !plugins.iter().any(|plugin| plugin.as_str() == "quota") {
        return None;
    }
    let root = view.plugin("quota")?;
    let numbered = |name: &str| {
        name.strip_prefix("quota_rule")
            .is_some_and(|rest| rest.is_empty() || rest.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let names = view.plugin_names().into_iter().filter(|name| numbered(name));
    let rules = names.filter_map(|name| view.plugin(name)).map(|rule| rule.text.clone()).collect();
    let grace = view.plugin("quota_grace").map_or("10%", |value| value.text.as_str());
    let settings =
        QuotaSettings { root: root.text.clone(), rules, grace: grace.replace("%%", "%") };
    if let Err(error) = settings.quota() {
        problems.error(root.at.clone(), error.to_string());
    }
    Some(settings)
}
