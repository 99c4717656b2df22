//! From the host's files to listeners and roles: `service lmtp` of dovecot.conf, and every service
//! of master.cf that runs local or virtual.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::dovecot::{self, Config, ListenerKind};
use config::files::Disk;
use config::postfix::{self, Host, Service, ServiceType};
use config::{Place, Problems};
use daemon::privileges::{group, is_root};
use daemon::{Account, Args, At, Listen, Log, Owner, Plan, Processes, Role, tls};

use crate::agent::settings::{Agent, AgentSettings, ServiceSettings};
use crate::lmtp::settings::LmtpSettings;
use crate::runner::RUNNER;
use crate::{lmtp, task};

pub const AGENT: &str = "agent";
pub const LMTP: &str = "lmtp";

const POSTFIX: &str = "/etc/postfix";
const DOVECOT: &str = "/etc/dovecot/dovecot.conf";
/// Delivery workers at a time, and how long one stays without work.
const MOST_WORKERS: usize = 1000;
const IDLE: Duration = Duration::from_secs(60);
/// Programs of master.cf that we stand in for.
const PROGRAMS: [&str; 3] = ["local", "virtual", "pipe"];
/// Postfix's own mode: the directory `private` decides who may connect.
const SOCKET_MODE: u32 = 0o666;

/// Reads what is there: Postfix's directory, Dovecot's file, or both.
pub fn plan(args: &Args) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let mut plan = Plan::default();
    plan.users.first_uid = u32::MAX;
    if let Some(path) = source(args.config.as_deref(), args.dovecot.is_some(), POSTFIX, "main.cf") {
        agents(&path, &mut plan, &mut problems);
    }
    if let Some(path) = source(args.dovecot.as_deref(), args.config.is_some(), DOVECOT, "") {
        server(&path, &mut plan, &mut problems);
    }
    if plan.roles.is_empty() && !problems.has_errors() {
        problems.error(
            Place::file(args.config.clone().unwrap_or_else(|| POSTFIX.into())),
            "nothing to do: no service runs local, virtual or pipe, and dovecot.conf has no LMTP listener",
        );
    }
    plan.problems = problems.into_result()?;
    Ok(plan)
}

/// The named path; else, when nothing else was named either, the usual one if it is there.
fn source(named: Option<&Path>, other: bool, usual: &str, file: &str) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None if other => None,
        None => Some(PathBuf::from(usual)).filter(|path| path.join(file).exists()),
    }
}

fn delivery(name: &str, from: &str) -> Role {
    let mut role = Role::new(name);
    role.hand_over_from = vec![from.to_owned()];
    role.needs().mailboxes = true;
    role.processes = Processes::OnDemand { max: MOST_WORKERS, idle: IDLE };
    role.threads = 2;
    role
}

/// Postfix's side.
fn agents(directory: &Path, plan: &mut Plan, problems: &mut Problems) {
    let host = Host::read(&Disk, directory, problems);
    plan.watch.extend([directory.join("main.cf"), directory.join("master.cf")]);
    plan.log = Log::of_postfix(&host, String::new(), problems);
    let owner = host.main().get(postfix::MAIL_OWNER, problems);
    let account = account(&owner, host.main().place(postfix::MAIL_OWNER), "mail_owner", problems);
    let mut settings = AgentSettings { services: Vec::new() };
    for service in ours(&host) {
        let Some(service) = ServiceSettings::read(&host, service, &Disk, problems) else {
            continue;
        };
        let least = match &service.agent {
            Agent::Virtual(settings) => settings.minimum_uid.max(1),
            Agent::Local(settings) => {
                plan.users.groups.extend(settings.spool_group());
                1
            }
            Agent::Pipe(settings) => settings.uid,
        };
        plan.users.first_uid = plan.users.first_uid.min(least);
        let owner = Owner {
            uid: account.as_ref().map(|account| account.uid),
            gid: account.as_ref().map(|account| account.gid),
        };
        let path = service.queue.root.join(&service.listener);
        let at = At::Unix { path, mode: SOCKET_MODE, owner };
        plan.listeners.push(Listen { name: service.listener.clone(), at });
        settings.services.push(service);
    }
    host.report_unsupported(&PROGRAMS, problems);
    if settings.services.is_empty() {
        return;
    }
    for service in &mut settings.services {
        service.groups.clone_from(&plan.users.groups);
    }
    let mut writes = delivery(task::AGENT_DELIVERY, AGENT);
    for service in &settings.services {
        writes.needs().write_below(match &service.agent {
            Agent::Virtual(settings) => &settings.base,
            Agent::Local(settings) => &settings.mail_spool_directory,
            Agent::Pipe(_) => "",
        });
    }
    plan.roles.push(writes);
    if settings.services.iter().any(|service| !matches!(service.agent, Agent::Virtual(_))) {
        let mut runner = delivery(RUNNER, AGENT);
        runner.sandbox = None;
        plan.roles.push(runner);
    }
    let mut role = Role::new(AGENT);
    role.account = account;
    role.needs().users = true;
    role.needs().write = settings.services.iter().map(|one| one.queue.root.clone()).collect();
    role.opens_tables(host.table_files());
    role.threads = 2;
    role.listeners = settings.services.iter().map(|service| service.listener.clone()).collect();
    plan.roles.push(role.with_settings(&settings));
}

/// Services that run our programs; where some of master.cf are marked as adopted, only those.
fn ours(host: &Host) -> Vec<&Service> {
    let marked = host.services().any(|service| service.adopted);
    let ours = host.services().filter(|service| {
        service.kind == ServiceType::Unix && PROGRAMS.contains(&service.command.as_str())
    });
    ours.filter(|service| service.adopted || !marked).collect()
}

/// The user of a role; without root there is one user for everything.
fn account(
    name: &str,
    place: Option<Place>,
    setting: &str,
    problems: &mut Problems,
) -> Option<Account> {
    if !is_root() {
        return None;
    }
    match Account::named(name) {
        Ok(account) => Some(account),
        Err(why) => {
            problems.error(place, format!("{setting}: {why}"));
            None
        }
    }
}

/// Dovecot's side.
fn server(path: &Path, plan: &mut Plan, problems: &mut Problems) {
    let config = Config::read(&Disk, path, problems);
    let log = Log::of_dovecot(&config, problems);
    plan.log = match plan.watch.is_empty() {
        true => log,
        false => std::mem::take(&mut plan.log).beside(log),
    };
    plan.watch.push(path.to_owned());
    let Some(service) = config.service("lmtp", problems).filter(|service| service.enabled) else {
        return;
    };
    let before = plan.listeners.len();
    for listener in &service.listeners {
        listen(&config, listener, plan, problems);
    }
    let mut names: Vec<String> =
        plan.listeners[before..].iter().map(|listener| listener.name.clone()).collect();
    names.dedup();
    if names.is_empty() {
        return;
    }
    let view = config.global();
    let settings = LmtpSettings::read(&config, names.clone(), problems);
    let user = view.get(dovecot::DEFAULT_INTERNAL_USER, problems);
    let place = view.place(dovecot::DEFAULT_INTERNAL_USER);
    let mut writes = delivery(task::DELIVERY, LMTP);
    writes.needs().write_below(&settings.mail.location);
    plan.roles.push(writes);
    let mut role = Role::new(LMTP);
    role.needs().write.push(settings.temporary.clone());
    role.account = account(&user, place, "default_internal_user", problems);
    role.threads = 2;
    role.listeners = names;
    if settings.tls {
        role.tls = tls_plan(&config, problems).into_iter().collect();
    }
    let settings = LmtpSettings { tls: !role.tls.is_empty(), ..settings };
    let mail = &settings.mail;
    plan.users.first_uid = plan.users.first_uid.min(mail.first_uid.max(1));
    plan.roles.push(role.with_settings(&settings));
    config.report_unsupported(&["lmtp", "mail"], problems);
}

fn listen(config: &Config, listener: &dovecot::Listener, plan: &mut Plan, problems: &mut Problems) {
    match &listener.kind {
        ListenerKind::Unix { path, mode, user, group: owner } => {
            let owner = Owner {
                uid: owner_number(user, &listener.at, problems, |name| {
                    Account::named(name).map(|account| account.uid)
                }),
                gid: owner_number(owner, &listener.at, problems, group),
            };
            let at = At::Unix { path: path.clone(), mode: *mode, owner };
            plan.listeners.push(Listen { name: path.display().to_string(), at });
        }
        ListenerKind::Inet { addresses, port, ssl, haproxy } => {
            if *ssl || *haproxy {
                let what = "ssl and haproxy of an LMTP inet_listener are not supported";
                problems.error(listener.at.clone(), what);
                return;
            }
            for address in inet_addresses(config, addresses, problems) {
                let name = format!("lmtp-{}", listener.name);
                plan.listeners.push(Listen::tcp(name, SocketAddr::new(address, *port)));
            }
        }
        ListenerKind::Fifo { .. } => {
            problems.error(listener.at.clone(), "LMTP cannot be spoken over a fifo");
        }
    }
}

fn owner_number(
    name: &str,
    place: &Option<Place>,
    problems: &mut Problems,
    look_up: impl Fn(&str) -> Result<u32, String>,
) -> Option<u32> {
    if name.is_empty() || !is_root() {
        return None;
    }
    match name.parse().or_else(|_| look_up(name)) {
        Ok(number) => Some(number),
        Err(why) => {
            problems.error(place.clone(), why);
            None
        }
    }
}

fn inet_addresses(config: &Config, named: &[String], problems: &mut Problems) -> Vec<IpAddr> {
    let words = config.global().get(dovecot::LISTEN, problems);
    let general: Vec<String> = words.iter().map(|word| word.as_str().to_owned()).collect();
    let texts = if named.is_empty() { &general } else { named };
    let mut addresses = Vec::new();
    for text in texts {
        let text = text.trim_matches(|c| matches!(c, '[' | ']' | ','));
        match text {
            "*" => addresses.push(IpAddr::from([0, 0, 0, 0])),
            "::" => addresses.push(IpAddr::from([0_u16; 8])),
            text => match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => {
                    let place = config.global().place(dovecot::LISTEN);
                    problems.error(place, format!("{text:?} is not an IP address"));
                }
            },
        }
    }
    addresses
}

/// STARTTLS for LMTP, where dovecot.conf has a certificate; peers on the same host do without.
fn tls_plan(config: &Config, problems: &mut Problems) -> Option<tls::Plan> {
    let view = config.global();
    let (certificate, key) =
        (view.get(dovecot::SSL_CERT, problems), view.get(dovecot::SSL_KEY, problems));
    let (certificate, key) = (certificate.path()?.to_owned(), key.path()?.to_owned());
    let identity = tls::IdentityFiles {
        names: Vec::new(),
        certificate,
        key,
        place: view.place(dovecot::SSL_CERT),
    };
    let min = match view.get(dovecot::SSL_MIN_PROTOCOL, problems).as_str() {
        "TLSv1.3" => tls::Version::Tls13,
        _ => tls::Version::Tls12,
    };
    let policy = tls::Policy { min, ..tls::Policy::default() };
    Some(tls::Plan { name: lmtp::TLS.to_owned(), policy, identities: vec![identity] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MAIN: &str = "mail_owner = nobody\nmyhostname = mail.example.com\nmaillog_file = /dev/stdout\n\
        compatibility_level = 3.6\nqueue_directory = /q\nalias_maps =\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\n";
    const MASTER: &str = "local unix - n n - - local\nvirtual unix - n n - - virtual\n";
    const DOVECOT: &str = "default_internal_user = nobody\nprotocols = lmtp\nssl = no\nmail_location = maildir:~/M\n\
        service lmtp {\n  unix_listener lmtp {\n    mode = 0600\n  }\n}\nmail_plugins = quota\n\
        plugin {\n  quota = maildir:Q\n}\n";

    fn planned_in(root: &Path, main: &str, dovecot: &str) -> Result<Plan, Problems> {
        fs::write(root.join("main.cf"), format!("{MAIN}{main}\n")).unwrap();
        fs::write(root.join("master.cf"), MASTER).unwrap();
        fs::write(root.join("dovecot.conf"), format!("{DOVECOT}{dovecot}\n")).unwrap();
        plan(&Args {
            config: Some(root.to_owned()),
            dovecot: Some(root.join("dovecot.conf")),
            ..Args::default()
        })
    }

    fn planned(main: &str, dovecot: &str) -> Result<Plan, Problems> {
        planned_in(tempfile::tempdir().unwrap().path(), main, dovecot)
    }

    /// What is done, wherever the files are.
    fn shown(main: &str, dovecot: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        let plan =
            planned_in(root.path(), main, dovecot).unwrap_or_else(|problems| panic!("{problems}"));
        let settings: Vec<_> = plan.roles.iter().map(|role| &role.settings).collect();
        let shown = format!("{settings:?}{:?}{:?}", plan.listeners, plan.users);
        shown.replace(&*root.path().to_string_lossy(), "/etc")
    }

    /// Each of main.cf with another value than its default.
    const OF_MAIN: [&str; 44] = [
        "alias_maps = hash:/x",
        "allow_mail_to_files = forward",
        "fallback_transport = x",
        "fallback_transport_maps = hash:/x",
        "forward_path = $home/x",
        "home_mailbox = M/",
        "luser_relay = x",
        "mail_spool_directory = /x",
        "mailbox_command = x",
        "mailbox_command_maps = hash:/x",
        "allow_mail_to_commands = forward",
        "command_execution_directory = $home",
        "command_expansion_filter = abc",
        "command_time_limit = 7s",
        "execution_directory_expansion_filter = abc",
        "export_environment = X=y",
        "local_command_shell = /bin/sh -c",
        "mailbox_delivery_lock = flock",
        "mailbox_size_limit = 99999999",
        "mailbox_transport = x",
        "mailbox_transport_maps = hash:/x",
        "strict_mailbox_ownership = no",
        "virtual_gid_maps = static:1",
        "virtual_mailbox_base = /x",
        "virtual_mailbox_limit = 99999999",
        "virtual_mailbox_lock = flock",
        "virtual_mailbox_maps = hash:/x",
        "virtual_minimum_uid = 7",
        "virtual_uid_maps = static:1",
        "default_privs = x",
        "deliver_lock_attempts = 7",
        "deliver_lock_delay = 7s",
        "recipient_delimiter = +",
        "soft_bounce = yes",
        "bounce_service_name = x",
        "defer_service_name = x",
        "trace_service_name = x",
        "cleanup_service_name = x",
        "mail_name = x",
        "syslog_name = x",
        "queue_directory = /x",
        "hash_queue_names = x",
        "hash_queue_depth = 2",
        "enable_long_queue_ids = yes",
    ];

    /// Each line changes the plan: nothing here is read for nothing.
    #[test]
    fn every_setting_that_is_obeyed_is_read() {
        let plain = shown("", "");
        assert_eq!(shown("", ""), plain);
        for line in OF_MAIN {
            assert_ne!(shown(line, ""), plain, "{line}");
        }
        for line in [
            "lda_mailbox_autocreate = yes",
            "lda_mailbox_autosubscribe = yes",
            "lmtp_add_received_header = no",
            "lmtp_hdr_delivery_address = none",
            "lmtp_save_to_detail_mailbox = yes",
            "hostname = x",
            "quota_full_tempfail = yes",
            "recipient_delimiter = -",
            "mail_temp_dir = /x",
            "instance_name = x",
            "login_greeting = x",
            "base_dir = /x",
            "mail_location = maildir:/x",
            "mail_home = /x",
            "mail_uid = 5000",
            "mail_gid = 5000",
            "first_valid_uid = 7",
            "last_valid_uid = 7000",
            "first_valid_gid = 7",
            "last_valid_gid = 7000",
            "mail_fsync = never",
            "mail_plugins =",
            "plugin {\n  quota = count:X\n}",
            "plugin {\n  quota_rule = *:storage=1G\n}",
            "plugin {\n  quota_grace = 20%%\n}",
            "protocol lmtp {\n  mail_plugins =\n}",
            "service lmtp {\n  inet_listener x {\n    address = 127.0.0.1\n    port = 24\n  }\n}",
            "namespace inbox {\n  inbox = yes\n  separator = /\n}",
        ] {
            assert_ne!(shown("", line), plain, "{line}");
        }
    }

    #[test]
    fn what_is_not_obeyed_is_told_with_its_line() {
        let plan = planned("biff = yes", "mail_privileged_group = mail").unwrap();
        let told: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        let biff = told.iter().find(|line| line.contains("biff")).unwrap();
        assert!(biff.contains("main.cf:9: warning: biff: nobody's terminal"), "{biff}");
        // Taken without a word: a Maildir needs no group.
        assert!(!told.iter().any(|line| line.contains("mail_privileged_group")), "{told:#?}");
        for (main, dovecot, what) in [
            (
                "virtual_mailbox_limit = 5",
                "",
                "virtual_mailbox_limit is smaller than message_size_limit",
            ),
            ("require_home_directory = yes", "", "require_home_directory"),
            ("", "lmtp_proxy = yes", "lmtp_proxy"),
            ("", "mail_location = mbox:~/mail", "mail storage \"mbox\" is not supported"),
            ("", "plugin {\n  quota = dict:x\n}", "quota backend"),
            (
                "",
                "service lmtp {\n  inet_listener x {\n    port = 24\n    ssl = yes\n  }\n}",
                "ssl and haproxy",
            ),
        ] {
            let problems = planned(main, dovecot).unwrap_err().to_string();
            assert!(problems.contains(what), "{what}: {problems}");
        }
    }
}
