//! From main.cf and master.cf to sockets and the one role.

use config::files::Disk;
use config::postfix::{self, Host, STAYS_LIVE, Service, ServiceType, TableFile};
use config::theoris::Theoris;
use config::{Files, Place, Problems};
use daemon::{Account, Args, At, Listen, Log, Owner, Plan, Role};

use crate::read::Reader;
use crate::settings::{Resolver, ServiceSettings, Settings};

pub const ROLE: &str = "delivery";

const DEFAULT_DIRECTORY: &str = "/etc/postfix";
/// Postfix's own mode: the directory `private` decides who may connect.
const SOCKET_MODE: u32 = 0o666;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
const COMMANDS: [&str; 2] = ["smtp", "lmtp"];

/// Reads the host's files into a plan.
///
/// # Errors
///
/// All problems, if one of them forbids to run.
pub fn plan(args: &Args) -> Result<Plan, Problems> {
    let files = Disk;
    let directory = args.config_or(DEFAULT_DIRECTORY);
    let mut problems = Problems::default();
    let host = Host::read(&files, &directory, &mut problems);
    let account = account(&host, &mut problems);
    let mut plan = Plan::default();
    let (mut services, mut identities) = (Vec::new(), Vec::new());
    for service in ours(&host) {
        let mut reader = Reader::new(&host, service, &files, &mut problems);
        let Some(settings) = reader.read() else { continue };
        if !reader.identities.is_empty() {
            let (name, policy) = (settings.listener.clone(), daemon::tls::Policy::default());
            identities.push(daemon::tls::Plan { name, policy, identities: reader.identities });
        }
        plan.listeners.push(listen(&settings, account.as_ref()));
        services.push(settings);
    }
    if services.is_empty() && !problems.has_errors() {
        let place = Place::file(directory.join("master.cf"));
        problems.error(place, "nothing to do: no service of master.cf runs smtp or lmtp");
    }
    host.report_unsupported(&COMMANDS, &mut problems);
    let syslog_name = host.main().get(postfix::SYSLOG_NAME, &mut problems);
    plan.log = Log::of_postfix(&host, format!("{syslog_name}/smtp"), &mut problems);
    plan.watch = vec![
        directory.join("main.cf"),
        directory.join("master.cf"),
        RESOLV_CONF.into(),
        HOSTS.into(),
    ];
    let mut role = role(account, services, resolver(args, &files), host.table_files());
    role.tls = identities;
    plan.roles.push(role);
    plan.problems = problems.into_result()?;
    Ok(plan)
}

fn role(
    account: Option<Account>,
    services: Vec<ServiceSettings>,
    resolver: Resolver,
    tables: Vec<TableFile>,
) -> Role {
    let mut role = Role::new(ROLE);
    role.account = account;
    role.threads = 2;
    role.listeners = services.iter().map(|service| service.listener.clone()).collect();
    role.needs().network = true;
    role.needs().users = true; // unix:passwd.byname may be any table
    for service in &services {
        let queue = service.queue.root.clone();
        if !role.needs().write.contains(&queue) {
            role.needs().write.push(queue);
        }
    }
    role.opens_tables(tables);
    role.with_settings(&Settings { services, resolver })
}

/// Services that run our programs; where some of them are marked as adopted, only those, and what stays live beside them.
fn ours(host: &Host) -> Vec<&Service> {
    let ours = host.services().filter(|service| {
        service.kind == ServiceType::Unix && COMMANDS.contains(&service.command.as_str())
    });
    let ours: Vec<_> = ours.collect();
    let marked = ours.iter().any(|service| service.adopted);
    let stays = |service: &Service| STAYS_LIVE.contains(&service.name.as_str());
    ours.into_iter().filter(|service| service.adopted || !marked || stays(service)).collect()
}

/// Workers own the queue; without root there is one user for everything.
fn account(host: &Host, problems: &mut Problems) -> Option<Account> {
    if !daemon::privileges::is_root() {
        return None;
    }
    let owner = host.main().get(postfix::MAIL_OWNER, problems);
    match Account::named(&owner) {
        Ok(account) => Some(account),
        Err(why) => {
            problems
                .error(host.main().place(postfix::MAIL_OWNER), format!("mail_owner: {why}"))
                .instead("name the user that owns the queue, usually postfix");
            None
        }
    }
}

fn listen(settings: &ServiceSettings, account: Option<&Account>) -> Listen {
    let owner =
        Owner { uid: account.map(|account| account.uid), gid: account.map(|account| account.gid) };
    let path = settings.queue.root.join(&settings.listener);
    Listen { name: settings.listener.clone(), at: At::Unix { path, mode: SOCKET_MODE, owner } }
}

/// Whom to ask for names. What is wrong with theoris.toml is told where all of it is read.
fn resolver(args: &Args, files: &dyn Files) -> Resolver {
    let text = |path: &str| {
        let bytes = files.read(path.as_ref()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut quiet = Problems::default();
    let theoris = Theoris::read(files, args.theoris_toml(), environment, &args.sets, &mut quiet);
    let settings = dns::Settings::new(&theoris.resolver, &text(RESOLV_CONF));
    Resolver {
        servers: settings.servers,
        timeout: settings.timeout,
        attempts: settings.attempts,
        hosts: text(HOSTS),
    }
}
