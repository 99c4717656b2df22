//! The plan of imapd, from dovecot.conf.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::dovecot::{self, Config, Connection, View};
use config::files::{Disk, Files};
use config::{Place, Problems};
use daemon::{Args, Log, Plan, Processes, Role};
use login::QuotaSettings;
use login::mail::check_locations;
use login::plan::{BROKER, MAILBOX, parts};

use crate::login_settings::LoginSettings;
use crate::settings::{Auto, Kind, MailboxBlock, Namespace, Settings, Workarounds};

/// Where the operator's command asks, on a host that has Theoris installed.
const CONTROL: &str = "/run/theoris/imapd.control";
/// Users with open sessions at a time; each has a process.
const MOST_USERS: usize = 4096;
/// A mailbox worker without sessions goes away.
const IDLE: Duration = Duration::from_secs(60);

/// Reads the configuration.
///
/// # Errors
///
/// All its problems, if one of them forbids to run with it.
pub fn plan(args: &Args) -> Result<Plan, Problems> {
    let path = args.config_or("/etc/dovecot/dovecot.conf");
    plan_of(&Disk, path)
}

fn plan_of(files: &dyn Files, path: PathBuf) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let config = Config::read(files, &path, &mut problems);
    let connection = Connection { protocol: Some("imap"), ..Connection::default() };
    let view = config.filter(&connection);
    let own = LoginSettings {
        id_send: view.get(dovecot::IMAP_ID_SEND, &mut problems),
        id_log: view.get(dovecot::IMAP_ID_LOG, &mut problems),
    };
    let own = serde_json::to_value(own).unwrap_or_default();
    let parts = parts(&config, "imap", own, &mut problems);
    let settings = settings(&view, &mut problems);
    check_locations(&view, &mut problems);
    config.report_unsupported(&["login", "imap-login", "mail", "imap", "ssl"], &mut problems);
    let log = Log::of_dovecot(&config, &mut problems);
    let problems = problems.into_result()?;
    let mut mailbox = Role::new(MAILBOX).with_settings(&settings);
    mailbox.needs().mailboxes = true;
    mailbox.needs().write_below(&settings.location);
    for namespace in &settings.namespaces {
        mailbox.needs().write_below(namespace.location.as_deref().unwrap_or_default());
    }
    mailbox.processes = Processes::OnDemand { max: MOST_USERS, idle: IDLE };
    mailbox.hand_over_from = vec![BROKER.to_owned()];
    Ok(Plan {
        listeners: parts.listeners,
        roles: vec![parts.login, parts.broker, mailbox],
        links: vec![parts.link],
        log,
        control: Some(PathBuf::from(CONTROL)).filter(|path| {
            daemon::privileges::is_root() && path.parent().is_some_and(Path::exists)
        }),
        watch: vec![path],
        users: parts.users,
        problems,
        ..Plan::default()
    })
}

fn settings(view: &View<'_>, problems: &mut Problems) -> Settings {
    let plugins = view.get(dovecot::MAIL_PLUGINS, problems);
    let has = |name: &str| plugins.iter().any(|word| word.as_str() == name);
    let defaults = Settings::default();
    let fsync = view.get(dovecot::MAIL_FSYNC, problems);
    if fsync == "never" {
        let at = view.place(dovecot::MAIL_FSYNC);
        problems.warning(at, "mail_fsync = never is not obeyed: saved mail is always synced");
    }
    Settings {
        location: view.get(dovecot::MAIL_LOCATION, problems),
        namespaces: namespaces(view, problems),
        quota: QuotaSettings::read(view, problems),
        quota_commands: has("quota") && has("imap_quota"),
        line_limit: usize::try_from(view.get(dovecot::IMAP_MAX_LINE_LENGTH, problems))
            .unwrap_or(defaults.line_limit)
            .clamp(1024, 16 << 20),
        idle_notify: view.get(dovecot::IMAP_IDLE_NOTIFY_INTERVAL, problems),
        idle_check: view.get(dovecot::MAILBOX_IDLE_CHECK_INTERVAL, problems),
        id_send: view.get(dovecot::IMAP_ID_SEND, problems),
        id_log: view.get(dovecot::IMAP_ID_LOG, problems),
        capability: view.get(dovecot::IMAP_CAPABILITY, problems),
        workarounds: workarounds(view, problems),
        logout_format: view.get(dovecot::IMAP_LOGOUT_FORMAT, problems),
        log_prefix: view.get(dovecot::MAIL_LOG_PREFIX, problems),
        fsync: true,
        hard_links: view.get(dovecot::MAILDIR_COPY_WITH_HARDLINKS, problems),
        ignore_stated_sizes: view.get(dovecot::MAILDIR_BROKEN_FILENAME_SIZES, problems),
        lock_timeout: view.get(dovecot::MAIL_MAX_LOCK_TIMEOUT, problems),
        keyword_length: usize::try_from(view.get(dovecot::MAIL_MAX_KEYWORD_LENGTH, problems))
            .unwrap_or(defaults.keyword_length),
        inactivity: defaults.inactivity,
        stall: defaults.stall,
    }
}

fn workarounds(view: &View<'_>, problems: &mut Problems) -> Workarounds {
    let mut found = Workarounds::default();
    for word in view.get(dovecot::IMAP_CLIENT_WORKAROUNDS, problems) {
        match word.as_str() {
            "delay-newmail" => found.delay_newmail = true,
            "tb-extra-mailbox-sep" => found.tb_extra_mailbox_sep = true,
            "tb-lsub-flags" => found.tb_lsub_flags = true,
            other => {
                let at = view.place(dovecot::IMAP_CLIENT_WORKAROUNDS);
                let text = format!("imap_client_workarounds: {other} is none");
                problems
                    .error(at, text)
                    .instead("delay-newmail tb-extra-mailbox-sep tb-lsub-flags");
            }
        }
    }
    found
}

fn namespaces(view: &View<'_>, problems: &mut Problems) -> Vec<Namespace> {
    let common = view.get(dovecot::MAIL_LOCATION, problems);
    let mut found = Vec::new();
    for block in view.namespaces(problems) {
        let kind = match block.kind.as_str() {
            "shared" => Kind::Shared,
            "public" => Kind::Public,
            _ => Kind::Private,
        };
        let at = block.at.clone();
        if kind == Kind::Shared {
            unsupported("type = shared", at.clone(), problems);
        }
        if !block.alias_for.is_empty() {
            unsupported("alias_for", at.clone(), problems);
        }
        if !block.subscriptions {
            unsupported("subscriptions = no", at, problems);
        }
        let mailboxes = block.mailboxes.into_iter().map(|mailbox| MailboxBlock {
            auto: match mailbox.auto.as_str() {
                "create" => Auto::Create,
                "subscribe" => Auto::Subscribe,
                _ => Auto::No,
            },
            special_use: mailbox.special_use.join(" "),
            name: mailbox.name,
        });
        found.push(Namespace {
            prefix: block.prefix,
            separator: block.separator.chars().next(),
            location: Some(block.location).filter(|location| *location != common),
            inbox: block.inbox,
            hidden: block.hidden,
            list: block.list != "no",
            kind,
            mailboxes: mailboxes.collect(),
        });
    }
    found
}

fn unsupported(what: &str, at: Option<Place>, problems: &mut Problems) {
    problems.error(at, format!("namespace: {what} is not supported yet"));
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use config::files::Memory;
    use login::{BrokerSettings, FrontSettings};

    use super::*;

    fn planned(text: &str) -> Result<Plan, Problems> {
        let text = format!("protocols = imap\nssl = no\n{text}");
        plan_of(&Memory::with([("/d", text)]), PathBuf::from("/d"))
    }

    /// Every setting here has another value than its default, and the plan shows it.
    #[test]
    fn every_setting_that_is_obeyed_is_read() {
        let text = "base_dir = /b\nlisten = 192.0.2.1\nmail_location = maildir:~/M\n\
            disable_plaintext_auth = no\nlogin_greeting = hello\nlogin_trusted_networks = 10.0.0.0/8\n\
            login_log_format = %s: %$\nlogin_log_format_elements = u=%u\n\
            mail_max_userip_connections = 3\nfirst_valid_uid = 7\nlast_valid_uid = 9000\n\
            first_valid_gid = 8\nlast_valid_gid = 9001\nmail_uid = 5000\nmail_gid = 5001\n\
            mail_home = /h/%n\nmail_access_groups = 8\nmail_plugins = quota\n\
            maildir_copy_with_hardlinks = no\nmaildir_broken_filename_sizes = yes\n\
            mail_max_lock_timeout = 9s\nmail_max_keyword_length = 40\n\
            mailbox_idle_check_interval = 11s\nmail_log_prefix = %u\n\
            imap_max_line_length = 128k\nimap_idle_notify_interval = 99s\nimap_id_send = name X\n\
            imap_id_log = *\nimap_capability = +X\nimap_client_workarounds = delay-newmail\n\
            imap_logout_format = %i\n\
            protocol imap {\n  mail_plugins = $mail_plugins imap_quota\n}\n\
            plugin {\n  quota = count:Q\n  quota_rule = *:storage=1G\n  quota_rule2 = *:messages=5\n  quota_rule3 = *:storage=2G\n}\n\
            service imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n}\n\
            namespace inbox {\n  inbox = yes\n  prefix = INBOX/\n  separator = /\n  hidden = no\n\
            mailbox Sent {\n    auto = create\n    special_use = \\Sent\n  }\n}\n\
            namespace old {\n  location = maildir:/old\n  prefix = Old/\n  separator = /\n  list = no\n}\n";
        let plan = planned(text).unwrap();
        let role = |name: &str| plan.roles.iter().find(|role| role.name == name).unwrap();
        let front: FrontSettings = serde_json::from_value(role("login").settings.clone()).unwrap();
        assert_eq!(front.auth_socket, PathBuf::from("/b/login/login"));
        assert_eq!((front.greeting.as_str(), front.plaintext_needs_tls), ("hello", false));
        assert_eq!((front.trusted.len(), front.log_format.as_str()), (1, "%s: %$"));
        assert_eq!(front.log_elements, "u=%u");
        let login: LoginSettings = serde_json::from_value(front.own).unwrap();
        assert_eq!((login.id_send.as_str(), login.id_log.as_str()), ("name X", "*"));
        let broker: BrokerSettings =
            serde_json::from_value(role("broker").settings.clone()).unwrap();
        assert_eq!(broker.master_socket, PathBuf::from("/b/auth-master"));
        assert_eq!(broker.connections_per_user_and_address, 3);
        assert_eq!(
            (broker.uid, broker.gid, broker.uids, broker.gids),
            (Some(5000), Some(5001), (7, 9000), (8, 9001))
        );
        assert_eq!((broker.home.as_str(), broker.groups), ("/h/%n", vec![8]));
        assert_eq!((plan.users.first_uid, plan.users.last_uid), (7, 9000));
        let addresses: Vec<String> =
            plan.listeners.iter().map(|listener| format!("{:?}", listener.at)).collect();
        assert_eq!(addresses, ["Tcp(192.0.2.1:1143)"]);
        let mail: Settings = serde_json::from_value(role("mailbox").settings.clone()).unwrap();
        assert_eq!((mail.location.as_str(), mail.hard_links), ("maildir:~/M", false));
        assert!(mail.ignore_stated_sizes && mail.quota_commands && mail.workarounds.delay_newmail);
        assert_eq!(mail.lock_timeout, Duration::from_secs(9));
        assert_eq!((mail.keyword_length, mail.line_limit), (40, 128 << 10));
        assert_eq!(mail.idle_check, Duration::from_secs(11));
        assert_eq!(mail.idle_notify, Duration::from_secs(99));
        assert_eq!((mail.id_send.as_str(), mail.capability.as_str()), ("name X", "+X"));
        assert_eq!((mail.logout_format.as_str(), mail.log_prefix.as_str()), ("%i", "%u"));
        let quota = mail.quota.unwrap();
        assert_eq!((quota.root.as_str(), quota.rules.len()), ("count:Q", 3));
        let [inbox, old] = &mail.namespaces[..] else { panic!("{:?}", mail.namespaces) };
        assert_eq!(
            (inbox.prefix.as_str(), inbox.separator, inbox.inbox),
            ("INBOX/", Some('/'), true)
        );
        assert_eq!(inbox.mailboxes[0].auto, Auto::Create);
        assert_eq!(inbox.mailboxes[0].special_use, "\\Sent");
        assert_eq!((old.location.as_deref(), old.list), (Some("maildir:/old"), false));
        // The userdb's `mail` is for those without a location of their own.
        assert_eq!(inbox.location, None);
    }

    #[test]
    fn what_is_not_obeyed_is_told_with_its_line() {
        for (text, problem) in [
            (
                "namespace a {\n  type = shared\n  prefix = s/\n}\n",
                "type = shared is not supported yet",
            ),
            (
                "namespace a {\n  prefix = x/\n  subscriptions = no\n}\n",
                "subscriptions = no is not",
            ),
            ("namespace a {\n  prefix = x/\n  alias_for = y/\n}\n", "alias_for"),
            (
                "mail_location = mbox:~/mail\n",
                "mail storage \"mbox\" is not supported, only maildir",
            ),
            ("imap_client_workarounds = foo\n", "imap_client_workarounds: foo is none"),
            ("ssl_cert = text\nssl = yes\n", "ssl_cert is a text, not a file"),
            (
                "service imap-login {\n  inet_listener imap {\n    haproxy = yes\n  }\n}\n",
                "haproxy = yes is not supported yet",
            ),
        ] {
            let problems = planned(text).map(drop).unwrap_err().to_string();
            assert!(problems.contains(problem) && problems.contains("/d:"), "{problems}");
        }
        let warned = planned("mail_fsync = never\n").unwrap().problems.to_string();
        assert!(warned.contains("mail_fsync = never is not obeyed"), "{warned}");
    }

    #[test]
    fn protocols_has_to_name_imap() {
        let without = Memory::with([("/d", "protocols = pop3\nssl = no\n")]);
        let problems = plan_of(&without, PathBuf::from("/d")).map(drop).unwrap_err().to_string();
        assert!(problems.starts_with("/d:1: protocols does not name imap"), "{problems}");
    }

    #[test]
    fn a_listener_may_have_an_address_of_its_own() {
        let text =
            "service imap-login {\n  inet_listener imap {\n    address = 192.0.2.7\n  }\n}\n";
        let plan = planned(text).unwrap();
        let addresses: Vec<String> =
            plan.listeners.iter().map(|listener| format!("{:?}", listener.at)).collect();
        assert!(addresses.contains(&"Tcp(192.0.2.7:143)".to_owned()), "{addresses:?}");
    }
}
