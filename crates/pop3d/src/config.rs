//! The plan of pop3d, from dovecot.conf.

use crate::settings::Settings;
use config::Problems;
use config::dovecot::{self, Config, Connection, View};
use config::files::Disk;
use daemon::{Args, Log, Plan, Processes, Role};
use login::QuotaSettings;
use login::mail::check_locations;
use login::plan::{BROKER, MAILBOX, parts};
use protocol::pop3::UidlFormat;
use std::time::Duration;

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
    let parts = parts(&config, "pop3", serde_json::Value::Null, &mut problems);
    let connection = Connection { protocol: Some("pop3"), ..Connection::default() };
    let view = config.filter(&connection);
    let settings = settings(&view, &mut problems);
    check_locations(&view, &mut problems);
    config.report_unsupported(&["login", "pop3-login", "mail", "pop3", "ssl"], &mut problems);
    let log = Log::of_dovecot(&config, &mut problems);
    let problems = problems.into_result()?;
    let mut mailbox = Role::new(MAILBOX).with_settings(&settings);
    mailbox.needs().mailboxes = true;
    mailbox.needs().write_below(&settings.location);
    mailbox.hand_over_from = vec![BROKER.to_owned()];
    mailbox.processes = Processes::OnDemand { max: MOST_USERS, idle: IDLE };
    Ok(Plan {
        listeners: parts.listeners,
        roles: vec![parts.login, parts.broker, mailbox],
        links: vec![parts.link],
        log,
        watch: vec![path],
        users: parts.users,
        problems,
        ..Plan::default()
    })
}

fn settings(view: &View<'_>, problems: &mut Problems) -> Settings {
    let namespaces = view.namespaces(problems);
    let inbox = namespaces.iter().find(|namespace| namespace.inbox);
    if inbox.is_none() {
        problems
            .error(
                namespaces.first().and_then(|namespace| namespace.at.clone()),
                "No namespace has inbox=yes",
            )
            .instead("write inbox = yes in the namespace that holds INBOX");
    }
    let mail_location = view.get(dovecot::MAIL_LOCATION, problems);
    let location = inbox.map_or_else(|| mail_location.clone(), |inbox| inbox.location.clone());
    let format = view.get(dovecot::POP3_UIDL_FORMAT, problems);
    let place = view.place(dovecot::POP3_UIDL_FORMAT);
    match UidlFormat::parse(&format) {
        Ok(parsed) if !parsed.tells_messages_apart() => {
            problems
                .error(
                    place,
                    format!("pop3_uidl_format: {format} gives every message the same UIDL"),
                )
                .instead("write %08Xu%08Xv");
        }
        Ok(_) => {}
        Err(unknown) => {
            problems
                .error(place, format!("pop3_uidl_format: {unknown}"))
                .instead("write %08Xu%08Xv");
        }
    }
    let flag = view.get(dovecot::POP3_DELETED_FLAG, problems);
    let deletes_by_flag = view.get(dovecot::POP3_DELETE_TYPE, problems) == "flag";
    if deletes_by_flag && flag.is_empty() {
        let place = view.place(dovecot::POP3_DELETE_TYPE);
        let text = "pop3_delete_type = flag without a pop3_deleted_flag";
        problems.error(place, text).instead("write pop3_deleted_flag = \"$POP3Deleted\"");
    }
    let mut settings = Settings {
        own_location: location != mail_location,
        location,
        uidl_format: format,
        rename_duplicates: view.get(dovecot::POP3_UIDL_DUPLICATES, problems) == "rename",
        reuse_xuidl: view.get(dovecot::POP3_REUSE_XUIDL, problems),
        no_flag_updates: view.get(dovecot::POP3_NO_FLAG_UPDATES, problems),
        lock_session: view.get(dovecot::POP3_LOCK_SESSION, problems),
        enable_last: view.get(dovecot::POP3_ENABLE_LAST, problems),
        fast_sizes: view.get(dovecot::POP3_FAST_SIZE_LOOKUPS, problems),
        deleted_flag: deletes_by_flag.then_some(flag).filter(|flag| !flag.is_empty()),
        logout_format: view.get(dovecot::POP3_LOGOUT_FORMAT, problems),
        log_prefix: view.get(dovecot::MAIL_LOG_PREFIX, problems),
        ignore_stated_sizes: view.get(dovecot::MAILDIR_BROKEN_FILENAME_SIZES, problems),
        quota: QuotaSettings::read(view, problems),
        lock_timeout: view.get(dovecot::MAIL_MAX_LOCK_TIMEOUT, problems),
        ..Settings::default()
    };
    for word in view.get(dovecot::POP3_CLIENT_WORKAROUNDS, problems) {
        match word.as_str() {
            "outlook-no-nuls" => settings.no_nuls = true,
            "oe-ns-eoh" => settings.end_of_headers = true,
            other => {
                let place = view.place(dovecot::POP3_CLIENT_WORKAROUNDS);
                let text = format!("pop3_client_workarounds: unknown client workaround {other}");
                problems.error(place, text).instead("write outlook-no-nuls, oe-ns-eoh");
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    fn read(text: &str) -> (Settings, String) {
        let files = Memory::with([("/d.conf", text)]);
        let mut problems = Problems::default();
        let config = Config::read(&files, "/d.conf".as_ref(), &mut problems);
        let connection = Connection { protocol: Some("pop3"), ..Connection::default() };
        let settings = settings(&config.filter(&connection), &mut problems);
        (settings, problems.to_string())
    }

    #[test]
    fn every_setting_that_is_obeyed_is_read() {
        let (settings, problems) = read(
            "mail_location = maildir:~/Maildir\npop3_uidl_format = %g\npop3_uidl_duplicates = rename\n\
             pop3_reuse_xuidl = yes\npop3_no_flag_updates = yes\npop3_lock_session = yes\n\
             pop3_enable_last = yes\npop3_fast_size_lookups = yes\npop3_delete_type = flag\n\
             pop3_deleted_flag = \"$POP3Deleted\"\npop3_client_workarounds = outlook-no-nuls oe-ns-eoh\n\
             pop3_logout_format = %s\nprotocol imap {\n  pop3_uidl_format = %f\n}\n",
        );
        assert_eq!(problems, "");
        assert_eq!(settings.location, "maildir:~/Maildir");
        assert_eq!((settings.uidl_format.as_str(), settings.logout_format.as_str()), ("%g", "%s"));
        assert_eq!(settings.deleted_flag.as_deref(), Some("$POP3Deleted"));
        assert!(settings.rename_duplicates && settings.reuse_xuidl && settings.no_flag_updates);
        assert!(settings.lock_session && settings.enable_last && settings.fast_sizes);
        assert!(settings.no_nuls && settings.end_of_headers);
    }

    #[test]
    fn what_cannot_be_obeyed_is_told_with_its_line() {
        let (_, problems) = read(
            "pop3_uidl_format = %m\npop3_delete_type = flag\npop3_client_workarounds = nonsense\n\
             namespace x {\n  prefix = x/\n}\nprotocol pop3 {\n  pop3_uidl_format = %v\n}\n",
        );
        insta::assert_snapshot!(problems);
    }
}
