//! The plan of imapd, from dovecot.conf.

use std::time::Duration;

use config::dovecot::{self, Config, Connection, View};
use config::files::Disk;
use config::{Place, Problems};
use daemon::{Args, Log, Plan, Processes, Role};
use login::plan::{BROKER, MAILBOX, parts};

use crate::login_settings::LoginSettings;
use crate::settings::{Auto, Kind, MailboxBlock, Namespace, Quota, Settings, Workarounds};

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
    let mut problems = Problems::default();
    let config = Config::read(&Disk, &path, &mut problems);
    let connection = Connection { protocol: Some("imap"), ..Connection::default() };
    let view = config.filter(&connection);
    let own = LoginSettings {
        id_send: view.get(dovecot::IMAP_ID_SEND, &mut problems),
        id_log: view.get(dovecot::IMAP_ID_LOG, &mut problems),
    };
    let own = serde_json::to_value(own).unwrap_or_default();
    let parts = parts(&config, "imap", own, &mut problems);
    let settings = settings(&view, &mut problems);
    config.report_unsupported(&["login", "imap-login", "mail", "imap", "ssl"], &mut problems);
    let problems = problems.into_result()?;
    let mut mailbox = Role::new(MAILBOX).with_settings(&settings);
    mailbox.processes = Processes::OnDemand { max: MOST_USERS, idle: IDLE };
    mailbox.hand_over_from = vec![BROKER.to_owned()];
    Ok(Plan {
        listeners: parts.listeners,
        roles: vec![parts.login, parts.broker, mailbox],
        links: vec![parts.link],
        log: Log { ident: "dovecot".to_owned(), ..Log::default() },
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
        quota: if has("quota") { quota(view) } else { None },
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

/// The first quota root; further ones are reported.
fn quota(view: &View<'_>) -> Option<Quota> {
    let text = |name: &str| view.plugin(name).map(|value| value.text.clone());
    let root = text("quota")?;
    Some(Quota { root, rule: text("quota_rule").unwrap_or_default() })
}

fn namespaces(view: &View<'_>, problems: &mut Problems) -> Vec<Namespace> {
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
            location: Some(block.location).filter(|location| !location.is_empty()),
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
