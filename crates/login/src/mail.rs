//! What imapd and pop3d plan alike about mail, from dovecot.conf: where it may lie, and its quota.

use config::Problems;
use config::dovecot::{self, View};
use mailstore::Location;
use mailstore::quota::{Quota, QuotaError};
use serde::{Deserialize, Serialize};

use crate::arrival::Passenger;

/// Reports every namespace whose mail is none that we can open.
pub fn check_locations(view: &View<'_>, problems: &mut Problems) {
    let common = view.get(dovecot::MAIL_LOCATION, problems);
    for namespace in view.namespaces(&mut Problems::default()) {
        let Err(error) = Location::check(&namespace.location) else { continue };
        let own = namespace.at.filter(|_| namespace.location != common);
        let place = own.or_else(|| view.place(dovecot::MAIL_LOCATION));
        problems
            .error(place, error.to_string())
            .instead("keep Dovecot here, or move the mail into a Maildir with `doveadm sync`");
    }
}

/// `plugin { quota, quota_rule, … }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaSettings {
    /// `maildir:User quota`
    pub root: String,
    /// `*:storage=1G`; the userdb's rules come behind them and win.
    pub rules: Vec<String>,
}

impl QuotaSettings {
    /// The first quota root and the rules for all mailboxes, if the plugin is loaded; what else there is, is reported.
    pub fn read(view: &View<'_>, problems: &mut Problems) -> Option<Self> {
        let plugins = view.get(dovecot::MAIL_PLUGINS, problems);
        if !plugins.iter().any(|word| word.as_str() == "quota") {
            return None;
        }
        let root = view.plugin("quota")?.text.clone();
        if let Some(second) = view.plugin("quota2") {
            problems.error(second.at.clone(), "quota2: a second quota root is not supported yet");
        }
        let mut rules = Vec::new();
        for name in ["quota_rule", "quota_rule2", "quota_rule3", "quota_rule4"] {
            let Some(rule) = view.plugin(name) else { continue };
            if rule.text.starts_with("*:") || rule.text.starts_with("?:") {
                rules.push(rule.text.clone());
            } else {
                let text = format!("{name}: rules for single mailboxes are not obeyed yet");
                problems.warning(rule.at.clone(), text);
            }
        }
        let words: Vec<&str> = rules.iter().map(String::as_str).collect();
        if let Err(error) = Quota::from_settings(&root, &words, "") {
            problems.error(view.plugin("quota").map(|value| value.at.clone()), error.to_string());
        }
        Some(Self { root, rules })
    }

    /// The quota of a user, whose own rules count before the configured ones.
    ///
    /// # Errors
    ///
    /// [`QuotaError`] for what the userdb says and we do not understand.
    pub fn of(&self, user: &Passenger) -> Result<Quota, QuotaError> {
        let own = ["quota_rule", "quota_rule2", "quota_rule3"].map(|name| user.field(name));
        let own = own.into_iter().flatten();
        let rules: Vec<&str> = self.rules.iter().map(String::as_str).chain(own).collect();
        Quota::from_settings(&self.root, &rules, "")
    }
}

#[cfg(test)]
mod tests {
    use config::dovecot::Config;
    use config::files::Memory;

    use super::*;
    use crate::facts::Facts;

    #[test]
    fn mail_that_cannot_be_opened_is_told_with_its_line() {
        for (text, told) in [
            ("mail_location = maildir:~/Maildir:INDEX=/i/%u\n", ""),
            ("mail_location = maildir:%h/Maildir:INBOX=%h/Maildir/.INBOX\n", ""),
            ("", ""),
            (
                "\nmail_location = mbox:~/mail:INBOX=/var/mail/%u\n",
                "/d:2: mail storage \"mbox\" is not supported, only maildir",
            ),
            (
                "mail_location = maildir:~/M:LAYOUT=index\n",
                "/d:1: mail_location option LAYOUT=index",
            ),
            (
                "mail_location = maildir:~/M\nnamespace old {\n  location = sdbox:~/old\n}\n",
                "/d:2: mail storage \"sdbox\"",
            ),
        ] {
            let files = Memory::with([("/d", text)]);
            let mut problems = Problems::default();
            let config = Config::read(&files, "/d".as_ref(), &mut problems);
            check_locations(&config.global(), &mut problems);
            let said = problems.to_string();
            assert!(said.starts_with(told) && said.is_empty() == told.is_empty(), "{text}: {said}");
        }
    }

    #[test]
    fn quota_rules_are_read() {
        for (rule, own, storage, messages) in [
            ("*:storage=1G", None, Some(1 << 30), None),
            ("*:storage=2048", None, Some(2 << 20), None),
            ("*:bytes=5000:messages=7", None, Some(5000), Some(7)),
            ("*:storage=1G", Some("*:storage=5K"), Some(5 << 10), None),
            ("*:storage=0", None, None, None),
        ] {
            let root = "maildir:User quota".to_owned();
            let own = own.map(|own: &str| ("quota_rule".to_owned(), Some(own.to_owned())));
            let user = Passenger {
                user: "a".into(),
                home: "/".into(),
                fields: own.into_iter().collect(),
                facts: Facts::new(
                    "127.0.0.1:9".parse().unwrap(),
                    "127.0.0.1:143".parse().unwrap(),
                    &[],
                ),
            };
            let read = QuotaSettings { root, rules: vec![rule.into()] }.of(&user).unwrap();
            assert_eq!((read.storage, read.messages), (storage, messages), "{rule}");
            assert_eq!(read.name, "User quota");
        }
    }
}
