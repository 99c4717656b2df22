//! What imapd and pop3d plan alike, from dovecot.conf: listeners, TLS, login role, broker role.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::dovecot::{self, Config, Connection, FileValue, ListenerKind, Service, View};
use config::{Place, Problems};
use daemon::tls::{self, IdentityFiles, Policy, Version};
use daemon::{Account, Link, Listen, Processes, Role, UserRange};

use crate::facts::Network;
use crate::front::{BROKER_LINK, TLS};
use crate::settings::{BrokerSettings, FrontSettings};

/// Role names of every daemon that logs users in.
pub const LOGIN: &str = "login";
pub const BROKER: &str = "broker";
pub const MAILBOX: &str = "mailbox";

/// A client has three minutes to log in, as with Dovecot.
const PATIENCE: Duration = Duration::from_secs(180);

/// The shared parts of a plan; the daemon adds its mailbox role.
pub struct Parts {
    pub listeners: Vec<Listen>,
    pub login: Role,
    pub broker: Role,
    pub link: Link,
    pub users: UserRange,
}

/// Plans for `protocol` (`imap`, `pop3`); `own` is for the daemon's login conversation.
pub fn parts(
    config: &Config,
    protocol: &str,
    own: serde_json::Value,
    problems: &mut Problems,
) -> Parts {
    let connection = Connection { protocol: Some(protocol), ..Connection::default() };
    let view = config.filter(&connection);
    let service = config.service(&format!("{protocol}-login"), problems);
    if service.as_ref().is_some_and(|service| !service.enabled) {
        let place = view.place(dovecot::PROTOCOLS).or_else(|| Some(Place::file(config.path())));
        let text = format!("protocols does not name {protocol}: there is nothing to serve");
        problems.error(place, text).instead(format!("protocols = {protocol}"));
    }
    refuse_proxies(&view, problems);
    let ssl = view.get(dovecot::SSL, problems);
    let tls = if ssl == "no" { None } else { tls_plan(config, protocol, problems) };
    let (listeners, wrapped) = listeners(&view, service.as_ref(), tls.is_some(), problems);
    let base = PathBuf::from(view.get(dovecot::BASE_DIR, problems));
    let trusted = view.get(dovecot::LOGIN_TRUSTED_NETWORKS, problems);
    let needs_tls = ssl == "required" || view.get(dovecot::DISABLE_PLAINTEXT_AUTH, problems);
    let front = FrontSettings {
        service: protocol.to_owned(),
        auth_socket: base.join("login/login"),
        greeting: view.get(dovecot::LOGIN_GREETING, problems),
        tls: tls.is_some(),
        plaintext_needs_tls: needs_tls,
        trusted: trusted.iter().filter_map(|word| Network::parse(word.as_str())).collect(),
        wrapped,
        log_format: view.get(dovecot::LOGIN_LOG_FORMAT, problems),
        log_elements: view.get(dovecot::LOGIN_LOG_FORMAT_ELEMENTS, problems),
        verbose: view.get(dovecot::AUTH_VERBOSE, problems),
        patience: PATIENCE,
        own,
    };
    let user = service.as_ref().map_or("dovenull", |service| &service.user);
    let place = service.as_ref().and_then(|service| service.at.clone());
    let clients = service.as_ref().map_or(1000, |service| service.client_limit);
    let mut login = Role::new(LOGIN).with_settings(&front);
    login.account = account(user, place, problems);
    login.connections = usize::try_from(clients.max(1000)).unwrap_or(1000);
    login.listeners = listeners.iter().map(|listener| listener.name.clone()).collect();
    login.listeners.dedup();
    login.tls = tls.into_iter().collect();
    let (settings, users) = broker(&view, protocol, &base, problems);
    let mut broker = Role::new(BROKER).with_settings(&settings);
    let internal = view.get(dovecot::DEFAULT_INTERNAL_USER, problems);
    broker.account = account(&internal, view.place(dovecot::DEFAULT_INTERNAL_USER), problems);
    broker.connections = 10_000;
    broker.processes = Processes::Fixed(1);
    let link = Link {
        name: BROKER_LINK.to_owned(),
        clients: vec![LOGIN.to_owned()],
        server: BROKER.to_owned(),
    };
    Parts { listeners, login, broker, link, users }
}

/// Dovecot's login processes hand such logins on to another server; ours would refuse each.
fn refuse_proxies(view: &View<'_>, problems: &mut Problems) {
    let proxied = |fields: &str| {
        let mut names = fields.split_ascii_whitespace().filter_map(|field| field.split('=').next());
        names.any(|name| matches!(name, "proxy" | "proxy_maybe"))
    };
    // What is wrong in a passdb is for authd to tell.
    for passdb in view.passdbs(&mut Problems::default()) {
        // Of other drivers it is the path of a file.
        let args = if passdb.driver == "static" { passdb.args.as_str() } else { "" };
        if [args, &passdb.default_fields, &passdb.override_fields].into_iter().any(proxied) {
            let text = "this passdb hands logins on to another server (proxy), which is not done";
            problems.error(passdb.at, text).instead("keep this service with Dovecot");
        }
    }
}

/// Nobody in unprivileged mode: every process keeps the one user there is.
fn account(name: &str, at: Option<Place>, problems: &mut Problems) -> Option<Account> {
    if !daemon::privileges::is_root() || name.is_empty() {
        return None;
    }
    match Account::named(name) {
        Ok(account) => Some(account),
        Err(problem) => {
            problems.error(at, problem);
            None
        }
    }
}

fn broker(
    view: &View<'_>,
    protocol: &str,
    base: &std::path::Path,
    problems: &mut Problems,
) -> (BrokerSettings, UserRange) {
    let number = |setting, problems: &mut Problems| {
        u32::try_from(view.get(setting, problems)).unwrap_or(u32::MAX)
    };
    let uids =
        (number(dovecot::FIRST_VALID_UID, problems), number(dovecot::LAST_VALID_UID, problems));
    let gids =
        (number(dovecot::FIRST_VALID_GID, problems), number(dovecot::LAST_VALID_GID, problems));
    let connections = number(dovecot::MAIL_MAX_USERIP_CONNECTIONS, problems);
    let mut groups = Vec::new();
    for word in view.get(dovecot::MAIL_ACCESS_GROUPS, problems) {
        match id(word.as_str(), daemon::privileges::group) {
            Ok(group) => groups.push(group),
            Err(problem) => {
                problems.error(view.place(dovecot::MAIL_ACCESS_GROUPS), problem);
            }
        }
    }
    let uid_text = view.get(dovecot::MAIL_UID, problems);
    let uid = numbered(&uid_text, view.place(dovecot::MAIL_UID), problems, |name| {
        Account::named(name).map(|account| account.uid)
    });
    let gid_text = view.get(dovecot::MAIL_GID, problems);
    let gid =
        numbered(&gid_text, view.place(dovecot::MAIL_GID), problems, daemon::privileges::group);
    let settings = BrokerSettings {
        service: protocol.to_owned(),
        master_socket: base.join("auth-master"),
        mailbox_role: MAILBOX.to_owned(),
        connections_per_user_and_address: connections,
        uid,
        gid,
        home: view.get(dovecot::MAIL_HOME, problems),
        uids,
        gids,
        groups: groups.clone(),
    };
    let users = UserRange {
        first_uid: uids.0,
        last_uid: uids.1,
        first_gid: gids.0,
        last_gid: gids.1,
        groups,
    };
    (settings, users)
}

fn numbered(
    text: &str,
    at: Option<Place>,
    problems: &mut Problems,
    named: impl Fn(&str) -> Result<u32, String>,
) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    match id(text, named) {
        Ok(id) => Some(id),
        Err(problem) => {
            problems.error(at, problem);
            None
        }
    }
}

fn id(text: &str, named: impl Fn(&str) -> Result<u32, String>) -> Result<u32, String> {
    text.parse().or_else(|_| named(text))
}

/// The sockets of the login service, and which of them are TLS from the first byte.
fn listeners(
    view: &View<'_>,
    service: Option<&Service>,
    has_tls: bool,
    problems: &mut Problems,
) -> (Vec<Listen>, Vec<String>) {
    let everywhere: Vec<String> = view
        .get(dovecot::LISTEN, problems)
        .iter()
        .map(|word| word.as_str().trim_matches(',').to_owned())
        .filter(|address| !address.is_empty())
        .collect();
    let (mut found, mut wrapped) = (Vec::new(), Vec::new());
    for listener in service.map(|service| &service.listeners[..]).unwrap_or_default() {
        let ListenerKind::Inet { addresses, port, ssl, haproxy } = &listener.kind else { continue };
        if *haproxy {
            let at = listener.at.clone().or_else(|| service.and_then(|service| service.at.clone()));
            problems.error(at, "haproxy = yes is not supported yet");
        }
        if *ssl && !has_tls {
            continue; // Dovecot has nothing to say there either
        }
        for address in if addresses.is_empty() { &everywhere } else { addresses } {
            match socket(address, *port) {
                Some(at) => found.push(Listen::tcp(&listener.name, at)),
                None => {
                    let text = format!("listen: {address} is no address");
                    problems.error(listener.at.clone(), text).instead("write an IP address");
                }
            }
        }
        if *ssl {
            wrapped.push(listener.name.clone());
        }
    }
    (found, wrapped)
}

fn socket(address: &str, port: u16) -> Option<SocketAddr> {
    let address = match address {
        "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        other => other.trim_start_matches('[').trim_end_matches(']'),
    };
    Some(SocketAddr::new(address.parse().ok()?, port))
}

/// The identities of the global settings and of each `local_name` block.
fn tls_plan(config: &Config, protocol: &str, problems: &mut Problems) -> Option<tls::Plan> {
    let global = Connection { protocol: Some(protocol), ..Connection::default() };
    let view = config.filter(&global);
    let mut identities = Vec::new();
    identities.extend(identity(&view, Vec::new(), problems));
    for block in config.root().sections_of("local_name") {
        let names = block.name.as_deref().unwrap_or_default();
        let first = names.split_ascii_whitespace().next();
        let named = Connection { local_name: first, ..global };
        let words = names.split_ascii_whitespace().map(str::to_owned).collect();
        identities.extend(identity(&config.filter(&named), words, problems));
    }
    if identities.is_empty() {
        return None;
    }
    let list = view.get(dovecot::SSL_CIPHER_LIST, problems);
    let ciphers = tls::ciphers(&list);
    let min = match view.get(dovecot::SSL_MIN_PROTOCOL, problems).as_str() {
        "TLSv1.3" | "LATEST" => Version::Tls13,
        _ => Version::Tls12,
    };
    let policy = Policy {
        min,
        max: None,
        suites: ciphers.suites,
        prefer_server_order: view.get(dovecot::SSL_PREFER_SERVER_CIPHERS, problems),
    };
    Some(tls::Plan { name: TLS.to_owned(), policy, identities })
}

fn identity(view: &View<'_>, names: Vec<String>, problems: &mut Problems) -> Option<IdentityFiles> {
    let path = |setting, name: &str, problems: &mut Problems| {
        let place = view.place(setting);
        match view.get(setting, problems) {
            FileValue::At(path) => Some(path),
            FileValue::Unset => None,
            FileValue::Inline(_) => {
                let text = format!("{name} is a text, not a file");
                problems.error(place, text).instead(format!("{name} = </path/of/the/file"));
                None
            }
        }
    };
    let certificate = path(dovecot::SSL_CERT, "ssl_cert", problems)?;
    let place = view.place(dovecot::SSL_CERT);
    let Some(key) = path(dovecot::SSL_KEY, "ssl_key", problems) else {
        problems.error(place, "ssl_cert has no ssl_key beside it").instead("ssl_key = </path");
        return None;
    };
    Some(IdentityFiles { names, certificate, key, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    #[test]
    fn a_proxy_stays_with_dovecot() {
        let told = |text: &str| {
            let mut problems = Problems::default();
            let memory = Memory::with([("/d", text)]);
            let config = Config::read(&memory, "/d".as_ref(), &mut problems);
            let connection = Connection { protocol: Some("imap"), ..Connection::default() };
            refuse_proxies(&config.filter(&connection), &mut problems);
            problems.to_string()
        };
        let modern = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n";
        for (text, line) in [
            ("passdb {\n driver = static\n args = nopassword=y proxy=y host=h\n}\n".to_owned(), 1),
            ("passdb {\n driver = pam\n override_fields = proxy_maybe\n}\n".to_owned(), 1),
            (
                format!("{modern}passdb static {{\n fields {{\n  proxy = y\n  host = h\n }}\n}}\n"),
                3,
            ),
        ] {
            let wanted =
                format!("/d:{line}: this passdb hands logins on to another server (proxy)");
            assert!(told(&text).contains(&wanted), "{text}{}", told(&text));
        }
        assert_eq!(told("passdb {\n driver = passwd-file\n args = /proxy\n}\n"), "");
    }
}
