//! What the supervisor sets up: the sockets of `service auth`, an unprivileged protocol worker, and the
//! pool of root that answers its questions.

use crate::config;
use crate::server::LINK;
use crate::settings::{Kind, Listener, Owner, PassDriver, Settings, UserDriver};
use ::config::dovecot::{self, Config, ListenerKind, Service};
use ::config::files::Disk;
use ::config::{Place, Problems};
use daemon::{Account, Args, Link, Listen, Plan, Processes, Role, privileges};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub const PROTOCOL: &str = "auth";
pub const POOL: &str = "auth-worker";

/// Made by the unit; without its directory there is no control socket.
const CONTROL: &str = "/run/theoris/authd.control";

const DEFAULT_FILE: &str = "/etc/dovecot/dovecot.conf";

/// Connections that the protocol worker serves at a time, unless `client_limit` says.
const CONNECTIONS: u64 = 4096;

/// Reads dovecot.conf.
///
/// # Errors
///
/// All problems, if one forbids the start.
pub fn plan(args: &Args) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let file = args.config_or(DEFAULT_FILE);
    let config = Config::read(&Disk, &file, &mut problems);
    config.report_unsupported(&["auth"], &mut problems);
    let mut settings = config::read(&config, &mut problems);
    let Some(service) = config.service("auth", &mut problems) else {
        problems.error(Place::file(&file), "there is no service auth");
        return Err(problems);
    };
    let listeners = listeners(&service, &mut settings, &mut problems);
    let account = account(&config, &service, &mut settings, &mut problems);
    let log = daemon::Log::of_dovecot(&config, &mut problems);
    if problems.has_errors() {
        return Err(problems);
    }
    if !args.check {
        make_directories(&config, &listeners);
    }
    let pool = if needs_root(&settings) { settings.backend_questions } else { 1 };
    let connections = match service.client_limit {
        0 => CONNECTIONS,
        limit => limit,
    };
    let files = password_files(&settings);
    // A file in /etc is often replaced; the worker shall see nothing else there.
    settings.files_by_backend |= files.iter().any(|path| path.as_os_str() == "/etc");
    let mut protocol = Role::new(PROTOCOL).with_settings(&settings);
    protocol.account = account;
    if !settings.files_by_backend {
        protocol.needs().read = files;
    }
    protocol.threads = 2;
    protocol.connections = usize::try_from(connections).unwrap_or(1000);
    protocol.listeners = listeners.iter().map(|listener| listener.name.clone()).collect();
    let mut backend = Role::new(POOL);
    backend.processes = Processes::Fixed(pool);
    // PAM loads what it likes, and its helper for an ordinary user is set-gid.
    backend.sandbox = None;
    Ok(Plan {
        listeners,
        roles: vec![protocol, backend],
        links: vec![Link {
            name: LINK.into(),
            clients: vec![PROTOCOL.into()],
            server: POOL.into(),
        }],
        log,
        control: Some(CONTROL.into()).filter(|path: &PathBuf| {
            privileges::is_root() && path.parent().is_some_and(Path::exists)
        }),
        watch: vec![file],
        problems,
        ..Plan::default()
    })
}

fn listeners(service: &Service, settings: &mut Settings, problems: &mut Problems) -> Vec<Listen> {
    let mut listeners = Vec::new();
    for listener in &service.listeners {
        let at = listener.at.as_ref();
        let ListenerKind::Unix { path, mode, user, group } = &listener.kind else {
            let text = format!("listener {}: only unix_listener is served", listener.name);
            problems.error(at.cloned(), text).instead("take it out, or keep Dovecot's auth");
            continue;
        };
        let Some(kind) = config::kind_of(&listener.name, at, problems) else { continue };
        // Dovecot's mail processes ask as root before they become the user; our broker never is root.
        let ours = kind == Kind::Master && user.is_empty() && *mode == 0o600;
        let owner = owner(if ours { &service.user } else { user }, group, at, problems);
        let (uid, gid) = (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0));
        let userdb = matches!(kind, Kind::Userdb | Kind::Master);
        settings.listeners.push(Listener {
            name: listener.name.clone(),
            kind,
            path: path.clone(),
            everybody: (userdb && *mode == 0o666).then_some(Owner { uid, gid }),
        });
        listeners.push(Listen {
            name: listener.name.clone(),
            at: daemon::At::Unix { path: path.clone(), mode: *mode, owner },
        });
    }
    if listeners.is_empty() {
        problems.error(service.at.clone(), "service auth has no unix_listener");
    }
    listeners
}

/// Who a socket belongs to. An ordinary user's sockets are all his own.
fn owner(user: &str, group: &str, at: Option<&Place>, problems: &mut Problems) -> daemon::Owner {
    let mut owner = daemon::Owner::default();
    if !privileges::is_root() {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        return daemon::Owner { uid: Some(uid), gid: Some(gid) };
    }
    if !user.is_empty() {
        match user.parse().or_else(|_| Account::named(user).map(|account| account.uid)) {
            Ok(uid) => owner.uid = Some(uid),
            Err(why) => drop(problems.error(at.cloned(), format!("user = {user}: {why}"))),
        }
    }
    if !group.is_empty() {
        match group.parse().or_else(|_| privileges::group(group)) {
            Ok(gid) => owner.gid = Some(gid),
            Err(why) => drop(problems.error(at.cloned(), format!("group = {group}: {why}"))),
        }
    }
    owner
}

/// Whom the protocol worker becomes. It parses what strangers send, so it never stays root: with
/// `user = root`, which some hosts have to read a password file, the backend reads the files for it.
fn account(
    config: &Config,
    service: &Service,
    settings: &mut Settings,
    problems: &mut Problems,
) -> Option<Account> {
    if !privileges::is_root() {
        return None;
    }
    let internal = config.global().get(dovecot::DEFAULT_INTERNAL_USER, problems);
    let name = match service.user.as_str() {
        "" | "root" | "0" => {
            settings.files_by_backend = true;
            internal.as_str()
        }
        other => other,
    };
    let mut account = match Account::named(name) {
        Ok(account) if account.uid == 0 => {
            let text = format!("service auth: the user {name} is root");
            problems.error(service.at.clone(), text).instead("write user = dovecot");
            return None;
        }
        Ok(account) => account,
        Err(why) => {
            problems.error(service.at.clone(), format!("service auth: {why}"));
            return None;
        }
    };
    if !service.group.is_empty() {
        match privileges::group(&service.group) {
            Ok(gid) => account.gid = gid,
            Err(why) => drop(problems.error(service.at.clone(), format!("service auth: {why}"))),
        }
    }
    for group in &service.extra_groups {
        match privileges::group(group.as_str()) {
            Ok(gid) => account.groups.push(gid),
            Err(why) => drop(problems.error(service.at.clone(), format!("service auth: {why}"))),
        }
    }
    Some(account)
}

fn needs_root(settings: &Settings) -> bool {
    let realms = settings.services.values().chain([&settings.realm]);
    let mut needs = realms.map(|realm| {
        realm
            .passdbs
            .iter()
            .any(|db| matches!(db.driver, PassDriver::Pam { .. } | PassDriver::Shadow))
            || realm.userdbs.iter().any(|db| matches!(db.driver, UserDriver::Passwd { .. }))
    });
    needs.any(|needs| needs)
}

/// The directories of all passwd-files, up to the first variable.
fn password_files(settings: &Settings) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for realm in settings.services.values().chain([&settings.realm]) {
        let of_passwords = realm.passdbs.iter().filter_map(|db| match &db.driver {
            PassDriver::PasswdFile { path, .. } => Some(path.text()),
            _ => None,
        });
        let of_users = realm.userdbs.iter().filter_map(|db| match &db.driver {
            UserDriver::PasswdFile { path, .. } => Some(path.text()),
            _ => None,
        });
        for text in of_passwords.chain(of_users) {
            let fixed = text.split('%').next().unwrap_or_default();
            directories.extend(fixed.rsplit_once('/').map(|(directory, _)| directory.into()));
        }
    }
    directories
}

/// Dovecot's master makes `base_dir` and `login/`; without it we do. A failure shows at the bind.
fn make_directories(config: &Config, listeners: &[Listen]) {
    let base = config.global().get(dovecot::BASE_DIR, &mut Problems::default());
    for listener in listeners {
        if let daemon::At::Unix { path, .. } = &listener.at
            && let Some(parent) = path.parent()
            && parent.starts_with(&base)
            && !parent.exists()
        {
            let mode = if parent == Path::new(&base) { 0o755 } else { 0o750 };
            let _ = DirBuilder::new().recursive(true).mode(0o755).create(&base);
            let _ = DirBuilder::new().recursive(true).mode(mode).create(parent);
            let login = config.global().get(dovecot::DEFAULT_LOGIN_USER, &mut Problems::default());
            if parent != Path::new(&base)
                && let Ok(login) = Account::named(&login)
            {
                let _ = std::os::unix::fs::chown(parent, None, Some(login.gid));
            }
        }
    }
}
