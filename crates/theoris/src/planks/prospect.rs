//! What a swap would be: its steps there and back, made from the host's files and what runs, or why it cannot be.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use config::Problems;
use config::files::Disk;
use config::postfix::{Host, STAYS_LIVE};
use serde::Deserialize;

use super::guard::Held;
use super::marks::{self, Entry, Key};
use super::process::{self, Address};
use super::services::{Services, run};
use super::steps::{handed, is_of};
use super::{
    Manner, Mishap, Places, Plank, Step, dovecot, filter, ports, postfix as master, rewrite,
};

/// A daemon reads its configuration in less.
const CHECK_LIMIT: Duration = Duration::from_secs(20);
const OPENDKIM: &str = "opendkim.service";
/// Where SELinux tells whether it enforces.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// What can be swapped by command, the smallest loss first.
const SWAPPED: [Plank; 4] = [Plank::Dkim, Plank::SmtpOut, Plank::Pop3, Plank::Imap];

/// One plank's swap.
#[derive(Clone, Debug)]
pub struct Prospect {
    pub plank: Plank,
    pub there: Vec<Step>,
    pub back: Vec<Step>,
    pub held: Held,
    /// Changes of the host's files, as lines.
    pub changes: Vec<String>,
    /// Why it cannot be done. Each names file and line, where it is one of a file.
    pub refusals: Vec<String>,
    /// What the daemon warns of.
    pub warnings: Vec<String>,
}

impl Prospect {
    fn new(plank: Plank) -> Self {
        Self {
            plank,
            there: Vec::new(),
            back: Vec::new(),
            held: Held::default(),
            changes: Vec::new(),
            refusals: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn refused(plank: Plank, why: String) -> Self {
        let mut prospect = Self::new(plank);
        prospect.refusals.push(why);
        prospect
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }
}

/// What the daemon would do: the part of `--plan` that concerns us.
#[derive(Deserialize)]
struct Planned {
    listeners: Vec<Listener>,
    taken_over: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Listener {
    at: At,
}

#[derive(Deserialize)]
enum At {
    Tcp(std::net::SocketAddr),
    Unix { path: PathBuf },
}

impl Planned {
    fn addresses(&self) -> Vec<Address> {
        let address = |listener: &Listener| match &listener.at {
            At::Tcp(address) => Address::Tcp(*address),
            At::Unix { path } => Address::Unix(path.clone()),
        };
        let mut all: Vec<Address> = self.listeners.iter().map(address).collect();
        all.retain(|at| !matches!(at, Address::Unix(path) if path.extension().is_some_and(|end| end == "control")));
        all
    }
}

/// Looks at the host; changes nothing.
pub fn of(plank: Plank, places: &Places, manner: Manner, services: &mut dyn Services) -> Prospect {
    let mut prospect = Prospect::new(plank);
    if !SWAPPED.contains(&plank) {
        let known = SWAPPED.map(Plank::name).join(", ");
        prospect.refuse(format!("{plank} cannot be swapped by command yet; these can: {known}"));
        return prospect;
    }
    refuse_selinux(&std::fs::read_to_string(SELINUX).unwrap_or_default(), &mut prospect);
    if let Err(why) = services.prepared(plank.daemon()) {
        prospect.refuse(why.0);
    }
    let Some(planned) = daemon(plank, places, &mut prospect) else { return prospect };
    match plank {
        Plank::Dkim => dkim(&planned, places, manner, services, &mut prospect),
        Plank::SmtpOut => smtp_out(&planned, places, &mut prospect),
        Plank::Pop3 => login("pop3", &planned, places, manner, &mut prospect),
        Plank::Imap => login("imap", &planned, places, manner, &mut prospect),
        Plank::Auth | Plank::Mda | Plank::SmtpIn | Plank::Queue => {}
    }
    prospect
}

/// What the daemon itself says of its configuration.
fn daemon(plank: Plank, places: &Places, prospect: &mut Prospect) -> Option<Planned> {
    let program = places.daemons.join(plank.daemon());
    let ask = |more: &[&str]| {
        let mut command = Command::new(&program);
        match plank {
            Plank::Dkim => command.arg("-x").arg(&places.opendkim),
            Plank::SmtpOut => command.arg("-c").arg(&places.postfix),
            _ => command.arg("-c").arg(&places.dovecot),
        };
        if let Some(theoris) = &places.theoris {
            command.arg("--theoris").arg(theoris);
        }
        command.args(more);
        command
    };
    // --check ends with 78 when there are errors, so its answer is read whatever its end.
    let said = ask(&["--check", "--json"]).stdin(std::process::Stdio::null()).output();
    let problems: Problems = match said.map(|said| serde_json::from_slice(&said.stdout)) {
        Ok(Ok(problems)) => problems,
        Ok(Err(_)) => {
            prospect.refuse(format!("{} --check: no answer that can be read", program.display()));
            return None;
        }
        Err(error) => {
            prospect.refuse(Mishap::file(&program, &error).0);
            return None;
        }
    };
    for problem in &problems {
        match problem.severity {
            config::Severity::Error => prospect.refusals.push(problem.to_string()),
            config::Severity::Warning => prospect.warnings.push(problem.to_string()),
        }
    }
    if problems.has_errors() {
        return None;
    }
    match run(&mut ask(&["--plan"]), CHECK_LIMIT) {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(planned) => Some(planned),
            Err(error) => {
                prospect.refuse(format!("{} --plan: {error}", program.display()));
                None
            }
        },
        Err(why) => {
            prospect.refuse(why.0);
            None
        }
    }
}

fn dkim(
    planned: &Planned,
    places: &Places,
    manner: Manner,
    services: &mut dyn Services,
    prospect: &mut Prospect,
) {
    let daemon = Plank::Dkim.daemon().to_owned();
    let addresses = planned.addresses();
    let [at] = addresses.as_slice() else {
        return prospect.refuse(format!("{}: one Socket is needed", places.opendkim.display()));
    };
    refuse_strangers(at, &socket_place(&places.opendkim), services, prospect);
    refuse_unhanded(at, filter::PROGRAM, manner, prospect);
    let host = Host::read(&Disk, &places.postfix, &mut Problems::default());
    let log = log_of(&host);
    let offer = planned.taken_over.clone().unwrap_or_default();
    let part = filter::Filter {
        unit: OPENDKIM.into(),
        daemon: daemon.clone(),
        at: at.clone(),
        offer: offer.clone(),
        log,
    };
    let from = filter::PROGRAM.to_owned();
    let start =
        |take| Step::Start { daemon: daemon.clone(), offer, take, at: addresses.clone(), from };
    let there = match at {
        Address::Unix(path) => {
            let paths = vec![path.clone()];
            prospect.held.paths.push(path.clone());
            vec![
                Step::Keep {
                    paths: paths.clone(),
                    of: master::Holder::Listener(filter::PROGRAM.into()),
                },
                start(Vec::new()),
                Step::EndFilter(part.clone()),
                Step::Holds { daemon: daemon.clone(), paths: paths.clone() },
                Step::Forget { paths },
            ]
        }
        // Without handed sockets a port is free only when OpenDKIM has gone.
        Address::Tcp(_) if manner.gap => vec![Step::EndFilter(part.clone()), start(Vec::new())],
        Address::Tcp(_) => vec![start(vec![at.clone()]), Step::EndFilter(part.clone())],
    };
    prospect.there = there;
    prospect.held.original = Some(OPENDKIM.into());
    prospect.back = vec![Step::ReturnFilter(part)];
}

/// The socket has to be that of the unit: what else listens there is not ours to end.
fn refuse_strangers(
    at: &Address,
    place: &str,
    services: &mut dyn Services,
    prospect: &mut Prospect,
) {
    let mut pids: Vec<i32> = process::listeners(at).iter().map(|listening| listening.pid).collect();
    pids.dedup();
    let Some(first) = pids.first() else {
        return prospect.refuse(format!(
            "{place}: nobody listens on {at}: start {OPENDKIM}, or, if there is nothing to take over, theoris-dkim-milter.service"
        ));
    };
    for pid in pids.iter().filter(|pid| !is_of(**pid, filter::PROGRAM)) {
        let name = process::command(*pid);
        prospect.refuse(format!("{place}: {at} belongs to {name}, pid {pid}, not to OpenDKIM"));
    }
    let unit = services.original(OPENDKIM).map(process::tree).unwrap_or_default();
    if !pids.iter().any(|pid| unit.contains(pid)) {
        prospect.refuse(format!(
            "{place}: OpenDKIM, pid {first}, does not run as {OPENDKIM}; start it so first"
        ));
    }
}

/// A port of an original is tried on, as long as nothing else is wrong with it.
fn refuse_unhanded(at: &Address, from: &str, manner: Manner, prospect: &mut Prospect) {
    if matches!(at, Address::Tcp(_))
        && !manner.gap
        && prospect.refusals.is_empty()
        && let Err(why) = handed(at, from)
    {
        prospect.refuse(why.0);
    }
}

fn socket_place(file: &Path) -> String {
    let config = config::opendkim::Config::read(&Disk, file, &mut Problems::default());
    let entry = config.value("Socket").map(|entry| entry.at.to_string());
    entry.unwrap_or_else(|| file.display().to_string())
}

pub(super) fn text_of(host: &Host, name: &str) -> String {
    let text = host.main().text(name, &mut Problems::default());
    text.map(|text| text.as_str().to_owned()).unwrap_or_default()
}

/// Where Postfix's log is a file.
fn log_of(host: &Host) -> Option<PathBuf> {
    let set = text_of(host, "maillog_file");
    let own = Some(set).filter(|path| path.starts_with('/')).map(PathBuf::from);
    own.or_else(|| {
        let usual = ["/var/log/mail.log", "/var/log/maillog"].map(PathBuf::from);
        usual.into_iter().find(|path| path.exists())
    })
}

fn smtp_out(planned: &Planned, places: &Places, prospect: &mut Prospect) {
    let file = places.postfix.join("master.cf");
    let host = Host::read(&Disk, &places.postfix, &mut Problems::default());
    let queue = PathBuf::from(text_of(&host, "queue_directory"));
    refuse_other_instances(&host, &queue, prospect);
    let taken = master::master(&queue).map(|pid| ports::taken(&places.postfix, pid));
    prospect.refusals.extend(taken.unwrap_or_default());
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) => return prospect.refuse(Mishap::file(&file, &error).0),
    };
    let ours = |entry: &Entry| {
        matches!(entry.command.as_str(), "smtp" | "lmtp") && entry.key.kind == "unix"
    };
    let entries: Vec<Entry> = marks::entries(&text).into_iter().filter(ours).collect();
    for entry in entries.iter().filter(|entry| entry.marked) {
        let line = entry.lines.first().map_or(0, |line| line + 1);
        prospect.refuse(format!(
            "{}:{line}: {} is marked as adopted already",
            file.display(),
            entry.key
        ));
    }
    let private =
        |path: &Path| path.strip_prefix(&queue).ok().and_then(Path::to_str).map(str::to_owned);
    let unix = |address| if let Address::Unix(path) = address { Some(path) } else { None };
    let paths: Vec<PathBuf> = planned.addresses().into_iter().filter_map(unix).collect();
    let sockets: Vec<String> = paths.iter().filter_map(|path| private(path)).collect();
    let stays = |key: &Key| STAYS_LIVE.contains(&key.name.as_str());
    let (live, marked): (Vec<Key>, Vec<Key>) =
        entries.iter().map(|entry| entry.key.clone()).partition(stays);
    let new = marks::mark(&text, &marked);
    if let Err(error) = rewrite::rehearse(&file, &new) {
        prospect.refuse(Mishap::file(&file, &error).0);
    }
    prospect.changes = difference(&file, &text, &new);
    let of_key = |socket: &&String, keys: &[Key]| {
        keys.iter().any(|key| socket.ends_with(&format!("/{}", key.name)))
    };
    let closed: Vec<String> =
        sockets.iter().filter(|socket| of_key(socket, &marked)).cloned().collect();
    let closed_paths: Vec<PathBuf> = closed.iter().map(|socket| queue.join(socket)).collect();
    let daemon = Plank::SmtpOut.daemon().to_owned();
    let addresses: Vec<Address> = paths.iter().cloned().map(Address::Unix).collect();
    prospect.there = vec![
        Step::Keep { paths: paths.clone(), of: master::Holder::Master(queue.clone()) },
        Step::Start {
            daemon: daemon.clone(),
            offer: planned.taken_over.clone().unwrap_or_default(),
            take: Vec::new(),
            at: addresses,
            from: "master".into(),
        },
        Step::AgentsIdle { queue: queue.clone(), sockets: sockets.clone() },
        Step::Mark { file: file.clone(), keys: marked.clone() },
        Step::Close {
            queue: queue.clone(),
            configuration: places.postfix.clone(),
            sockets: closed,
        },
        Step::Holds { daemon: daemon.clone(), paths: paths.clone() },
        Step::Forget { paths: closed_paths },
    ];
    let given = master::Return {
        configuration: places.postfix.clone(),
        queue: queue.clone(),
        sockets,
        keys: [marked.clone(), live].concat(),
        daemon: daemon.clone(),
    };
    prospect.back = vec![
        Step::Unmark { file: file.clone(), keys: marked.clone() },
        Step::GiveBack(given.clone()),
        Step::Stop { daemon },
        // A start that an interrupted run had asked for may have come late, and taken the paths once more.
        Step::GiveBack(given),
        Step::Forget { paths: paths.clone() },
    ];
    prospect.held.paths = paths;
    prospect.held.queue = Some(queue);
    prospect.held.marks = Some((file, marked));
}

/// Debian's units of other instances, and postmulti's, are not ours to swap.
fn refuse_other_instances(host: &Host, queue: &Path, prospect: &mut Prospect) {
    let name = text_of(host, "multi_instance_name");
    if !name.is_empty() {
        let place = host.main().written("multi_instance_name").and_then(|value| value.place());
        let place = place.map_or(String::from("main.cf"), ToString::to_string);
        prospect.refuse(format!(
            "{place}: multi_instance_name = {name}: only the default instance can be swapped"
        ));
    }
    match master::master(queue) {
        None => prospect.refuse(format!(
            "{}: Postfix does not run on it",
            queue.join("pid/master.pid").display()
        )),
        Some(pid) => {
            refuse_unit(&process::unit(pid).unwrap_or_default(), pid, prospect);
        }
    }
}

fn login(
    protocol: &str,
    planned: &Planned,
    places: &Places,
    manner: Manner,
    prospect: &mut Prospect,
) {
    let configuration = std::fs::canonicalize(&places.dovecot).unwrap_or(places.dovecot.clone());
    let mut problems = Problems::default();
    let config = config::dovecot::Config::read(&Disk, &configuration, &mut problems);
    let name = format!("{protocol}-login");
    let Some(service) = config.service(&name, &mut problems) else {
        return prospect.refuse(format!("{}: no service {name}", configuration.display()));
    };
    let listeners: Vec<String> = service
        .listeners
        .iter()
        .filter(|listener| matches!(listener.kind, config::dovecot::ListenerKind::Inet { .. }))
        .map(|listener| listener.name.clone())
        .collect();
    let base = config.global().get(config::dovecot::BASE_DIR, &mut problems);
    let at: Vec<Address> = planned.addresses();
    for address in &at {
        let holders = process::listeners(address);
        if !holders.iter().any(|holder| is_of(holder.pid, dovecot::PROGRAM)) {
            let who = holders.first().map_or("nobody".to_owned(), |holder| {
                format!("{}, pid {}", process::command(holder.pid), holder.pid)
            });
            let place = service
                .at
                .as_ref()
                .map_or(configuration.display().to_string(), ToString::to_string);
            prospect.refuse(format!("{place}: {address} belongs to {who}, not to Dovecot"));
        }
        refuse_unhanded(address, dovecot::PROGRAM, manner, prospect);
    }
    let part = dovecot::Part {
        service: name,
        listeners,
        at: at.clone(),
        file: dovecot::own_file(&configuration, protocol),
        configuration,
        base: base.into(),
        postfix: places.postfix.clone(),
        daemon: prospect.plank.daemon().into(),
        master_user: master_user(&config, prospect),
    };
    if part.file.exists() {
        prospect.refuse(format!("{}:1: {protocol} is adopted already", part.file.display()));
    }
    if let Err(error) = rewrite::rehearse(&part.file, part.shown().as_bytes()) {
        prospect.refuse(Mishap::file(&part.file, &error).0);
    }
    prospect.changes = std::iter::once(format!("new file {}:", part.file.display()))
        .chain(part.shown().lines().map(|line| format!("+{line}")))
        .collect();
    let start = Step::Start {
        daemon: part.daemon.clone(),
        offer: planned.taken_over.clone().unwrap_or_default(),
        take: at.clone(),
        at,
        from: dovecot::PROGRAM.into(),
    };
    prospect.held.file = Some(part.file.clone());
    prospect.back = vec![Step::ReturnDovecot(part.clone())];
    // Without handed sockets a port is free only when Dovecot has closed it.
    prospect.there = match manner.gap {
        false => vec![Step::PrepareDovecot(part.clone()), start, Step::CloseDovecot(part)],
        true => vec![Step::PrepareDovecot(part.clone()), Step::CloseDovecot(part), start],
    };
}

/// Dovecot's own login processes need no right to `auth-master`; our broker, its internal user, does. Whom the host's
/// file gives it to is the host's affair.
fn master_user(config: &config::dovecot::Config, prospect: &mut Prospect) -> Option<String> {
    let mut problems = Problems::default();
    let internal = config.global().get(config::dovecot::DEFAULT_INTERNAL_USER, &mut problems);
    let auth = config.service("auth", &mut problems)?;
    let master = auth.listeners.iter().find(|listener| listener.name == "auth-master");
    let Some(listener) = master else { return Some(internal) };
    let config::dovecot::ListenerKind::Unix { mode, user, .. } = &listener.kind else {
        return None;
    };
    let reaches = (*user == internal && mode & 0o600 == 0o600) || mode & 0o006 == 0o006;
    if reaches {
        return None;
    }
    // One that the host has written anything of has somebody who uses it.
    if let Some(place) = listener.at.as_ref().filter(|_| !user.is_empty() && user != "root") {
        prospect.refuse(format!("{place}: unix_listener auth-master is {user}'s, and our broker is {internal}; write mode = 0660 and a group of both"));
    }
    Some(internal)
}

/// The lines that differ, each with its place.
fn difference(file: &Path, before: &[u8], after: &[u8]) -> Vec<String> {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let pairs = before.lines().zip(after.lines()).enumerate();
    let changed = pairs.filter(|(_, (old, new))| old != new);
    changed
        .flat_map(|(index, (old, new))| {
            let place = format!("{}:{}", file.display(), index + 1);
            [format!("{place}: -{old}"), format!("{place}: +{new}")]
        })
        .collect()
}

/// `enforce` is what the kernel says of SELinux.
fn refuse_selinux(enforce: &str, prospect: &mut Prospect) {
    if enforce.trim() == "1" {
        prospect.refuse("SELinux enforces, and there is no policy for our daemons yet: Postfix would be denied their sockets");
    }
}

/// Debian runs each instance of Postfix as a unit of its own, the default one as `postfix@-`.
fn refuse_unit(unit: &str, pid: i32, prospect: &mut Prospect) {
    if unit.starts_with("postfix@") && unit != "postfix@-.service" {
        prospect.refuse(format!(
            "Postfix, pid {pid}, runs as {unit}: only the default instance can be swapped"
        ));
    }
}

#[test]
fn machines_and_instances_that_cannot_be_swapped_are_refused() {
    let refused = |look: &dyn Fn(&mut Prospect)| {
        let mut prospect = Prospect::new(Plank::SmtpOut);
        look(&mut prospect);
        prospect.refusals.len()
    };
    for (enforce, count) in [("1", 1), ("1\n", 1), ("0", 0), ("", 0)] {
        assert_eq!(refused(&|prospect| refuse_selinux(enforce, prospect)), count, "{enforce:?}");
    }
    for (unit, count) in [
        ("postfix@out.service", 1),
        ("postfix@-.service", 0),
        ("postfix.service", 0),
        ("user@0.service", 0),
        ("", 0),
    ] {
        assert_eq!(refused(&|prospect| refuse_unit(unit, 1, prospect)), count, "{unit}");
    }
}
