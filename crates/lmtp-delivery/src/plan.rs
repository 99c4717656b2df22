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
use daemon::{Account, Args, At, Listen, Owner, Plan, Processes, Role, tls};

use crate::agent::settings::{Agent, AgentSettings, ServiceSettings};
use crate::lmtp::settings::LmtpSettings;
use crate::{lmtp, task};

pub const AGENT: &str = "agent";
pub const LMTP: &str = "lmtp";

const POSTFIX: &str = "/etc/postfix";
const DOVECOT: &str = "/etc/dovecot/dovecot.conf";
/// Delivery workers at a time, and how long one stays without work.
const MOST_WORKERS: usize = 1000;
const IDLE: Duration = Duration::from_secs(60);
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
            "nothing to do: no service runs local or virtual, and dovecot.conf has no LMTP listener",
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
    role.processes = Processes::OnDemand { max: MOST_WORKERS, idle: IDLE };
    role.threads = 2;
    role
}

/// Postfix's side.
fn agents(directory: &Path, plan: &mut Plan, problems: &mut Problems) {
    let host = Host::read(&Disk, directory, problems);
    plan.watch.extend([directory.join("main.cf"), directory.join("master.cf")]);
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
    host.report_unsupported(&["local", "virtual"], problems);
    if settings.services.is_empty() {
        return;
    }
    for service in &mut settings.services {
        service.groups.clone_from(&plan.users.groups);
    }
    plan.roles.push(delivery(task::AGENT_DELIVERY, AGENT));
    let mut role = Role::new(AGENT);
    role.account = account;
    role.threads = 2;
    role.listeners = settings.services.iter().map(|service| service.listener.clone()).collect();
    plan.roles.push(role.with_settings(&settings));
}

/// Services that run our programs; where some of master.cf are marked as adopted, only those.
fn ours(host: &Host) -> Vec<&Service> {
    let marked = host.services().any(|service| service.adopted);
    let ours = host.services().filter(|service| {
        service.kind == ServiceType::Unix
            && ["local", "virtual"].contains(&service.command.as_str())
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
    plan.roles.push(delivery(task::DELIVERY, LMTP));
    let mut role = Role::new(LMTP);
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
