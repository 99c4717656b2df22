//! From opendkim.conf and its tables to what the supervisor sets up: the socket, the account, the key files.

mod keys;
mod read;

#[cfg(test)]
pub(crate) use read::settings;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::files::Disk;
use config::opendkim::{self, Config, names};
use config::theoris::Theoris;
use config::{Files, Place, Problems};
use daemon::{Account, Args, At, Listen, Owner, Plan, Role, privileges};

use crate::settings::Resolver;

const FILE: &str = "/etc/opendkim.conf";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Connections at a time: Postfix opens one for each of its clients.
const CONNECTIONS: usize = 4096;

/// Reads opendkim.conf.
///
/// # Errors
///
/// All problems, if one forbids the start.
pub fn plan(args: &Args) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let file = args.opendkim.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let config = Config::read(&Disk, &file, &mut problems);
    config.report_unsupported(&mut problems);
    let account = account(&config, &mut problems);
    let uid = account.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid);
    let resolver = resolver(args, &config);
    let mut settings = read::settings(&Disk, &config, resolver, &mut problems);
    let files = keys::files(&Disk, &config, uid, &mut settings, &mut problems);
    let listen = socket(&config, account.as_ref(), &file, &mut problems);
    let facility = facility(&config, &mut problems);
    if problems.has_errors() {
        return Err(problems);
    }
    let mut role = Role::new("filter").with_settings(&settings);
    role.account = account;
    role.threads = 2;
    role.connections = CONNECTIONS;
    role.listeners = listen.iter().map(|listen| listen.name.clone()).collect();
    role.files = files;
    role.needs().network = true; // key look-ups
    let ident = settings.log.name.clone();
    Ok(Plan {
        listeners: listen.into_iter().collect(),
        roles: vec![role],
        log: daemon::Log { ident, facility, ..daemon::Log::default() },
        watch: vec![file],
        problems,
        ..Plan::default()
    })
}

/// Whom the worker becomes. It parses what strangers wrote, so it never stays root.
fn account(config: &Config, problems: &mut Problems) -> Option<Account> {
    if !privileges::is_root() {
        return None;
    }
    let place = config.place(names::USERID);
    let named = config.text(names::USERID);
    let (user, group) = named
        .unwrap_or("opendkim")
        .split_once(':')
        .map_or_else(|| (named.unwrap_or("opendkim"), None), |(user, group)| (user, Some(group)));
    let mut account = match Account::named(user) {
        Ok(account) => account,
        Err(_) if named.is_none() => match Account::named("nobody") {
            Ok(account) => account,
            Err(why) => {
                problems.error(place, format!("UserID: {why}")).instead("write UserID opendkim");
                return None;
            }
        },
        Err(why) => {
            problems.error(place, format!("UserID: {why}")).instead("write UserID opendkim");
            return None;
        }
    };
    if account.uid == 0 {
        problems
            .error(place, "UserID: the filter does not work as root")
            .instead("write UserID opendkim");
        return None;
    }
    if let Some(group) = group {
        match privileges::group(group) {
            Ok(gid) => {
                account.gid = gid;
                account.groups = vec![gid];
            }
            Err(why) => drop(problems.error(place, format!("UserID: {why}"))),
        }
    }
    Some(account)
}

/// Whom to ask for keys: `Nameservers`, else theoris.toml, else resolv.conf.
fn resolver(args: &Args, config: &Config) -> Resolver {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    // its problems are told where every daemon's plan is completed
    let mut told = Problems::default();
    let theoris = Theoris::read(&Disk, args.theoris_toml(), environment, &args.sets, &mut told);
    let text = Disk.read(RESOLV_CONF.as_ref()).unwrap_or_default();
    let mut settings = dns::Settings::new(&theoris.resolver, &String::from_utf8_lossy(&text));
    let named: Vec<SocketAddr> = config
        .list(names::NAMESERVERS)
        .unwrap_or_default()
        .split(',')
        .filter_map(|name| {
            let name = name.trim();
            let alone = name.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
            alone.or_else(|_| name.parse()).ok()
        })
        .collect();
    if !named.is_empty() {
        settings.servers = named;
    }
    // OpenDKIM's patience is for the whole question, ours for one try
    let seconds = u32::try_from(config.number(names::DNSTIMEOUT)).unwrap_or(5).clamp(1, 60);
    let attempts = settings.attempts.clamp(1, 2);
    let timeout = Duration::from_secs(seconds.into()) / attempts;
    Resolver { servers: settings.servers, timeout, attempts }
}

/// `Socket`: `local:PATH`, `unix:PATH`, `PATH`, `inet:PORT[@HOST]`, `inet6:PORT[@HOST]`.
fn socket(
    config: &Config,
    account: Option<&Account>,
    file: &std::path::Path,
    problems: &mut Problems,
) -> Option<Listen> {
    let Some(text) = config.text(names::SOCKET) else {
        problems
            .error(Place::file(file), "Socket is missing")
            .instead("write Socket local:/run/opendkim/opendkim.sock");
        return None;
    };
    let place = config.place(names::SOCKET);
    let (kind, rest) = text.split_once(':').unwrap_or(("", text));
    match kind.to_ascii_lowercase().as_str() {
        "local" | "unix" => Some(unix(config, account, rest)),
        "inet" => inet(rest, IpAddr::from([0, 0, 0, 0]), place, problems),
        "inet6" => inet(rest, Ipv6Addr::UNSPECIFIED.into(), place, problems),
        _ if text.starts_with('/') => Some(unix(config, account, text)),
        _ => {
            problems
                .error(place, format!("Socket: unknown socket type {kind}"))
                .instead("write local:PATH or inet:PORT@HOST");
            None
        }
    }
}

fn unix(config: &Config, account: Option<&Account>, path: &str) -> Listen {
    // libmilter makes the socket with 0777 under the umask, which is 022 where nothing else is said
    let umask = match config.value(names::UMASK.name()) {
        Some(_) => u32::try_from(config.number(names::UMASK)).unwrap_or(0o22),
        None => 0o22,
    };
    let owner =
        Owner { uid: account.map(|account| account.uid), gid: account.map(|account| account.gid) };
    let at = At::Unix { path: path.into(), mode: 0o777 & !umask, owner };
    Listen { name: "milter".to_owned(), at }
}

fn inet(
    text: &str,
    everywhere: IpAddr,
    place: Option<Place>,
    problems: &mut Problems,
) -> Option<Listen> {
    let (port, host) = text.split_once('@').unwrap_or((text, ""));
    let host = host.trim_matches(['[', ']']);
    let address = match host {
        "" => Some(everywhere),
        "localhost" if everywhere.is_ipv6() => Some(Ipv6Addr::LOCALHOST.into()),
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        host => host.parse().ok(),
    };
    match (port.trim().parse(), address) {
        (Ok(port), Some(address)) => Some(Listen::tcp("milter", SocketAddr::new(address, port))),
        (Err(_), _) => {
            problems
                .error(place, format!("Socket: \"{port}\" is no port"))
                .instead("write inet:8891@127.0.0.1");
            None
        }
        (_, None) => {
            problems
                .error(place, format!("Socket: \"{host}\" is no IP address"))
                .instead("write inet:8891@127.0.0.1");
            None
        }
    }
}

/// `SyslogFacility`, as a number.
fn facility(config: &Config, problems: &mut Problems) -> u8 {
    let name = config.text(names::SYSLOGFACILITY).unwrap_or("mail");
    let place = config.place(names::SYSLOGFACILITY);
    daemon::log::facility("SyslogFacility", name, place, problems)
}

/// Reads an `On-…` word of the file.
fn words(entry: Option<&opendkim::Entry>) -> Option<(&str, Place)> {
    entry.map(|entry| (entry.value.as_str(), entry.at.clone()))
}

#[cfg(test)]
mod tests;
