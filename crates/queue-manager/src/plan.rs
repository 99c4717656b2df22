//! From main.cf and master.cf to sockets and roles.
//!
//! A service of master.cf whose program is in the table of [`Takeover`]s gets its socket below the
//! queue directory and a place in a role. Where the operator has marked services as adopted, only
//! those are taken, and with qmgr what is never marked; where no service is marked, all of them are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::files::Disk;
use config::postfix::{self, Host, STAYS_LIVE, Service, ServiceType, View};
use config::{Files, Place, Problems};
use daemon::{Account, Args, At, Listen, Log, Owner, Plan, Role, Worker, WorkerError};
use protocol::postfix::Dialect;
use queue::QueueDirectory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Whoever is the queue manager serves what stands around it, too.
const QMGR: &str = "qmgr";
const DEFAULT_DIRECTORY: &str = "/etc/postfix";
/// Postfix's own mode: the directories `public` and `private` decide who may connect.
const SOCKET_MODE: u32 = 0o666;

/// One program of master.cf and how we stand in for it.
#[derive(Clone, Copy)]
pub struct Takeover {
    /// The program: `cleanup`, `qmgr`, `bounce`, …
    pub command: &'static str,
    /// The role whose workers serve it. Several programs may share one; then `work` is the same.
    pub role: &'static str,
    /// Reads what one service obeys: JSON that `work` gets back with the listener's name.
    pub settings: fn(&Asked<'_>, &mut Problems) -> serde_json::Value,
    /// What the role needs beyond one process with one thread.
    pub shape: fn(&mut Role),
    pub work: fn(Worker, Vec<Served>) -> Result<(), WorkerError>,
}

/// What a takeover may ask while it reads its settings.
pub struct Asked<'h> {
    pub host: &'h Host,
    pub service: &'h Service,
    /// main.cf with the service's own `-o`.
    pub view: View<'h>,
    pub files: &'h dyn Files,
    pub shared: &'h Shared,
}

/// What every service needs to know of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shared {
    pub queue: QueueDirectory,
    /// `mail_version`, such as `3.7.11`: how our neighbours speak.
    pub mail_version: String,
    pub myhostname: String,
    /// `postfix`, the first half of each identifier in the log.
    pub syslog_name: String,
    /// `mail_owner`.
    pub owner: String,
}

impl Shared {
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect::of_version(&self.mail_version).unwrap_or_default()
    }

    /// The log's identifier of a program: `postfix/cleanup`.
    #[must_use]
    pub fn ident(&self, program: &str) -> String {
        format!("{}/{program}", self.syslog_name)
    }

    /// A socket of a neighbour: `public/qmgr`.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.queue.root.join(name)
    }
}

/// One service of a role, as its worker gets it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Served {
    /// The listener: the socket's path below the queue directory, `public/cleanup`.
    pub listener: String,
    /// The service's name in master.cf.
    pub name: String,
    pub command: String,
    /// How often master(8) would wake it, in seconds.
    pub wakeup: Option<u64>,
    pub shared: Shared,
    pub settings: serde_json::Value,
}

impl Served {
    /// # Errors
    ///
    /// [`WorkerError`] if plan and worker disagree about the settings' type.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, WorkerError> {
        T::deserialize(&self.settings).map_err(WorkerError::service)
    }
}

/// Reads the host's files into a plan.
///
/// # Errors
///
/// All problems, if one of them forbids to run.
pub fn plan(args: &Args, takeovers: &[Takeover]) -> Result<Plan, Problems> {
    let files = Disk;
    let directory = args.config_or(DEFAULT_DIRECTORY);
    let mut problems = Problems::default();
    let host = Host::read(&files, &directory, &mut problems);
    let shared = shared(&host, &mut problems);
    let log = Log::of_postfix(&host, shared.ident("queue-manager"), &mut problems);
    let watch = vec![directory.join("main.cf"), directory.join("master.cf")];
    let mut plan = Plan { log, watch, ..Plan::default() };
    let mut roles: BTreeMap<&'static str, (Role, Vec<Served>)> = BTreeMap::new();
    let account = account(&shared.owner, &host, &mut problems);
    let ours = ours(&host, takeovers);
    if ours.is_empty() && !problems.has_errors() {
        problems.error(
            Place::file(directory.join("master.cf")),
            "no service of master.cf runs a program that queue-manager stands in for",
        );
    }
    for (service, takeover) in ours {
        let Some(socket) = service.socket() else { continue };
        let asked = Asked {
            host: &host,
            service,
            view: host.view(service),
            files: &files,
            shared: &shared,
        };
        let settings = (takeover.settings)(&asked, &mut problems);
        let mut shared = shared.clone();
        let mut quiet = Problems::default();
        shared.syslog_name = asked.view.get(postfix::SYSLOG_NAME, &mut quiet);
        plan.listeners.push(listen(&socket, &shared, account.as_ref()));
        let (role, served) = roles.entry(takeover.role).or_insert_with(|| {
            let mut role = Role::new(takeover.role);
            role.account.clone_from(&account);
            role.needs().write.push(shared.queue.root.clone());
            role.needs().users = true; // unix:passwd.byname may be any table
            role.opens_tables(host.table_files());
            (takeover.shape)(&mut role);
            (role, Vec::new())
        });
        role.listeners.push(socket.clone());
        served.push(Served {
            listener: socket,
            name: service.name.clone(),
            command: service.command.clone(),
            wakeup: service.wakeup.every.map(|every| every.as_secs()).filter(|&every| every > 0),
            shared,
            settings,
        });
    }
    let commands: Vec<&str> = takeovers.iter().map(|takeover| takeover.command).collect();
    host.report_unsupported(&commands, &mut problems);
    plan.roles = roles.into_values().map(|(role, served)| role.with_settings(&served)).collect();
    plan.problems = problems.into_result()?;
    Ok(plan)
}

/// Runs a worker: the role's name tells whose it is.
///
/// # Errors
///
/// As the role's own work.
pub fn work(worker: Worker, takeovers: &[Takeover]) -> Result<(), WorkerError> {
    let served: Vec<Served> = worker.settings()?;
    let takeover = takeovers.iter().find(|takeover| takeover.role == worker.role());
    let takeover = takeover.ok_or_else(|| {
        WorkerError::service(format!("queue-manager has no role {:?}", worker.role()))
    })?;
    (takeover.work)(worker, served)
}

/// The services to take, each with its takeover.
fn ours<'h, 't>(host: &'h Host, takeovers: &'t [Takeover]) -> Vec<(&'h Service, &'t Takeover)> {
    let known: Vec<_> = host
        .services()
        .filter(|service| matches!(service.kind, ServiceType::Unix | ServiceType::Fifo))
        .filter_map(|service| {
            let found = takeovers.iter().find(|takeover| takeover.command == service.command);
            found.map(|takeover| (service, takeover))
        })
        .collect();
    let marked = host.services().any(|service| service.adopted);
    let queue = known.iter().any(|(service, _)| service.adopted && service.command == QMGR);
    let stays = |service: &Service| queue && STAYS_LIVE.contains(&service.name.as_str());
    known.into_iter().filter(|(service, _)| service.adopted || !marked || stays(service)).collect()
}

fn shared(host: &Host, problems: &mut Problems) -> Shared {
    let main = host.main();
    let hashed = main.get(postfix::HASH_QUEUE_NAMES, problems);
    let depth: i64 = main.get(postfix::HASH_QUEUE_DEPTH, problems);
    Shared {
        queue: QueueDirectory {
            root: main.get(postfix::QUEUE_DIRECTORY, problems).into(),
            hashed: hashed.into_iter().map(|word| word.text).collect(),
            depth: usize::try_from(depth).unwrap_or(1),
            long_ids: main.get(postfix::ENABLE_LONG_QUEUE_IDS, problems),
        },
        mail_version: main.get(postfix::MAIL_VERSION, problems),
        myhostname: main.get(postfix::MYHOSTNAME, problems),
        syslog_name: main.get(postfix::SYSLOG_NAME, problems),
        owner: main.get(postfix::MAIL_OWNER, problems),
    }
}

/// Workers own the queue; without root there is one user for everything.
fn account(owner: &str, host: &Host, problems: &mut Problems) -> Option<Account> {
    if !daemon::privileges::is_root() {
        return None;
    }
    match Account::named(owner) {
        Ok(account) => Some(account),
        Err(why) => {
            let place = host.main().place(postfix::MAIL_OWNER);
            problems
                .error(place, format!("mail_owner: {why}"))
                .instead("name the user that owns the queue, usually postfix");
            None
        }
    }
}

fn listen(socket: &str, shared: &Shared, account: Option<&Account>) -> Listen {
    let owner =
        Owner { uid: account.map(|account| account.uid), gid: account.map(|account| account.gid) };
    let path = shared.socket(socket);
    Listen { name: socket.to_owned(), at: At::Unix { path, mode: SOCKET_MODE, owner } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    #[test]
    fn what_is_never_marked_goes_with_the_queue_manager() {
        let taken = |master: &str| {
            let files = Memory::with([("/p/main.cf", ""), ("/p/master.cf", master)]);
            let host = Host::read(&files, "/p".as_ref(), &mut Problems::default());
            let ours = ours(&host, crate::services::TAKEOVERS);
            ours.iter().map(|(service, _)| service.name.clone()).collect::<Vec<_>>()
        };
        let line = |name: &str, command: &str| format!("{name} unix - - n - - {command}\n");
        let (cleanup, qmgr) = (line("cleanup", "cleanup"), line("qmgr", "qmgr"));
        let stays = line("retry", "error") + &line("flush", "flush") + &line("relay", "smtp");
        let marked = |line: &str| format!("#theoris: {line}");
        assert_eq!(
            taken(&format!("{cleanup}{qmgr}{stays}")),
            ["cleanup", "qmgr", "retry", "flush"]
        );
        assert_eq!(taken(&(marked(&cleanup) + &qmgr + &stays)), ["cleanup"]);
        assert_eq!(taken(&(cleanup + &marked(&qmgr) + &stays)), ["qmgr", "retry", "flush"]);
    }

    #[test]
    fn every_setting_of_the_queue_is_read() {
        let read = |main: &str| {
            let files = Memory::with([("/p/main.cf", main), ("/p/master.cf", "")]);
            let mut problems = Problems::default();
            let host = Host::read(&files, "/p".as_ref(), &mut problems);
            format!("{:?}", shared(&host, &mut problems))
        };
        for line in [
            "hash_queue_names = incoming",
            "hash_queue_depth = 2",
            "enable_long_queue_ids = yes",
            "queue_directory = /q",
            "syslog_name = x",
            "mail_owner = x",
        ] {
            assert_ne!(read(line), read(""), "{line}");
        }
    }
}
