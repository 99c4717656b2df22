//! The lines of dovecot.conf and its includes that set something.

use super::check::{OF_ANY_NAME, fact_of, holds_anyway, is_idle, loaded_plugins, visit};
use super::plugins;
use super::tree::{Config, Section};
use crate::inventory::{Standing, Written};

impl Config {
    /// Every setting, also those inside blocks, in the order of files and lines. Old names stand under those of today.
    #[must_use]
    pub fn inventory(&self) -> Vec<Written> {
        if self.is_modern() {
            return super::modern::report::inventory(self.written());
        }
        let loaded = loaded_plugins(&self.root, None);
        let mut written = Vec::new();
        let mut look = |path: &str, section: &Section| {
            for (name, value) in &section.settings {
                let full = format!("{path}{name}");
                let standing = if OF_ANY_NAME.contains(&path) {
                    Standing::Own
                } else if is_idle(&full, &loaded) {
                    Standing::Idle
                } else if path == "plugin/" && plugins::is_foreign(name, &loaded) {
                    Standing::Foreign
                } else {
                    fact_of(&full).map_or(Standing::Unknown, Standing::Known)
                };
                let unread = value.file.is_some() && value.text.is_empty();
                let is_default = !unread
                    && matches!(standing, Standing::Known(fact) if holds_anyway(fact, &value.text));
                written.push(Written {
                    name: name.clone(),
                    of: path.trim_end_matches('/').to_owned(),
                    at: value.at.clone(),
                    standing,
                    is_default,
                });
            }
        };
        visit(&self.root, "", None, &mut look);
        written.sort_by(|one, other| one.at.cmp(&other.at));
        written
    }
}

#[cfg(test)]
mod tests {
    use crate::Problems;
    use crate::dovecot::Config;
    use crate::files::Memory;
    use crate::inventory::Meaning;

    #[test]
    fn every_line_of_2_4_has_a_meaning() {
        let text = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\nmail_driver = maildir\nmail_path = ~/Maildir\n\
                    fts_autoindex = yes\nmail_nfs_storage = yes\npassdb pam {\n  service_name = mail\n}\n";
        let mut problems = Problems::default();
        let config = Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut problems);
        let found: Vec<String> = config
            .inventory()
            .iter()
            .map(|one| format!("{} {} {:?}", one.at.line, one.name, one.meaning()))
            .collect();
        assert!(found.contains(&"3 mail_driver Obeyed".to_owned()), "{found:?} {problems}");
        assert!(found.contains(&"5 fts_autoindex Harmless".to_owned()), "{found:?}");
        assert!(found.contains(&"6 mail_nfs_storage Refused".to_owned()), "{found:?}");
        assert!(
            found.iter().any(|line| line.starts_with("8 passdb_pam_service_name ")),
            "{found:?}"
        );
        assert!(
            config.inventory().iter().all(|one| one.meaning() != Meaning::Unknown),
            "{found:?}"
        );
    }

    #[test]
    fn a_setting_of_a_plugin_of_others_is_not_obeyed() {
        let text = "mail_plugins = other\nplugin {\n  other_thing = 1\n  nobodys = 1\n}\n";
        let config =
            Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut Problems::default());
        let meanings: Vec<Meaning> = config.inventory().iter().map(|one| one.meaning()).collect();
        assert_eq!(meanings, [Meaning::Obeyed, Meaning::Ignored, Meaning::Harmless]);
    }

    #[test]
    fn a_line_whose_file_is_not_there_is_listed() {
        let text =
            "mail_plugins = mail_crypt\nplugin {\n  mail_crypt_global_private_key = </none\n}\n";
        let mut problems = Problems::default();
        let config = Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut problems);
        let found: Vec<_> =
            config.inventory().iter().map(|one| (one.at.line, one.meaning())).collect();
        assert_eq!(found, [(1, Meaning::Obeyed), (3, Meaning::Refused)]);
        assert!(problems.to_string().contains("/d:3: cannot read /none"), "{problems}");
    }

    /// A plugin reads settings of other names, and a warning's block says nothing of the quota itself.
    #[test]
    fn a_line_is_judged_by_who_reads_it() {
        let meanings = |text: &str| -> Vec<(Meaning, &str)> {
            let files = Memory::with([("/d", text)]);
            let config = Config::read(&files, "/d".as_ref(), &mut Problems::default());
            config.inventory().iter().map(|one| (one.meaning(), one.sentence())).collect()
        };
        let settings = "plugin {\n  mail_replica = tcp:x\n  master_user = %u\n  fts_filters_fr = lowercase\n  \
                        quota_clone_dict = proxy::quota\n}\n";
        let of = |plugins: &str| meanings(&format!("mail_plugins = {plugins}\n{settings}"));
        let idle = (Meaning::Harmless, "of a plugin that no program loads");
        assert_eq!(of("zlib")[1..], [idle; 4]);
        assert!(
            of("replication acl fts quota_clone")[1..].iter().all(|one| one.0 == Meaning::Ignored),
            "{:?}",
            of("replication acl fts quota_clone")
        );

        let head = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\nmail_plugins = quota\n";
        let modern = |text: &str| meanings(&format!("{head}{text}"))[3..].to_vec();
        let warned = "no command is run when a quota is nearly used up";
        for percentage in ["80", "100"] {
            let text = format!(
                "quota user {{\n  warning w {{\n    quota_storage_percentage = {percentage}\n  }}\n}}\n"
            );
            assert_eq!(modern(&text), [(Meaning::Refused, warned)]);
        }
        let inside = "dict_server {\n  dict quota {\n    hostname = x\n  }\n}\n";
        assert_eq!(modern(inside), [(Meaning::Refused, "not obeyed inside a block of this kind")]);
        assert_eq!(modern("hostname = x\n"), [(Meaning::Obeyed, "")]);
    }

    #[test]
    fn every_line_has_a_meaning() {
        let text = "mail_location = maildir:~/Maildir\nmail_debug = yes\nplugin {\n  sieve = ~/x\n}\nservice auth {\n  unix_listener a {\n    mode = 0600\n  }\n}\n\
                    dict {\n  quota = mysql:/x\n}\nprotocol lmtp {\n  mail_plugins = acl\n}\n";
        let config =
            Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut Problems::default());
        let found: Vec<String> = config
            .inventory()
            .iter()
            .map(|one| format!("{} {}/{} {:?}", one.at.line, one.of, one.name, one.meaning()))
            .collect();
        assert_eq!(found[0], "1 /mail_location Obeyed");
        assert_eq!(found[2], "4 plugin/sieve Harmless");
        assert_eq!(found[3], "8 service/unix_listener/mode Obeyed");
        assert_eq!(found[4], "12 dict/quota Obeyed");
        assert!(found[5].starts_with("15 /mail_plugins "), "{found:?}");
        assert_eq!(found.len(), 6);
        assert!(config.inventory().iter().all(|one| one.meaning() != Meaning::Unknown));
    }
}
