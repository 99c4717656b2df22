//! A generation: one plan with its sockets bound and its keys read. It is made completely before
//! any of its workers starts, so a plan that cannot be carried out changes nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use config::{Place, Problems};
use tokio::time::Instant;

use super::watch::Prints;
use crate::plan::{At, Listen, Plan, Role};
use crate::tls::Bundle;
use crate::{Account, control, listen, log, notify, privileges, tls, users};

/// Sockets in the service manager's keeping carry this before their name.
const KEPT: &str = "kept-";

pub(super) struct Generation {
    pub number: u64,
    pub plan: Plan,
    pub sockets: Vec<Socket>,
    /// The files of the plan's log.
    pub logs: Vec<OwnedFd>,
    /// Role, and what it gets.
    bundles: Vec<(String, Bundle)>,
    pub prints: Prints,
    pub next_look: Instant,
    /// Passed by the service manager; they stay open over reloads.
    inherited: Vec<(String, OwnedFd)>,
    /// The next generation binds anew where a path does not lead to our socket any more.
    pub retakes: bool,
}

/// One listening socket of a generation.
pub(super) struct Socket {
    pub name: String,
    /// `None` when the service manager has bound it.
    pub at: Option<At>,
    pub descriptor: OwnedFd,
    /// What stood at its path when it was bound.
    file: Option<(u64, u64)>,
}

impl Generation {
    /// What there is before the first one.
    pub fn empty(inherited: Vec<(String, OwnedFd)>) -> Self {
        Self {
            number: 0,
            plan: Plan::default(),
            sockets: Vec::new(),
            logs: Vec::new(),
            bundles: Vec::new(),
            prints: Prints::default(),
            next_look: Instant::now() + Duration::from_secs(5),
            inherited,
            retakes: false,
        }
    }

    /// Binds what is bound neither by `old` nor in `dropped`, reads all keys, opens all files.
    pub fn prepare(
        number: u64,
        mut plan: Plan,
        old: &Self,
        dropped: &[Socket],
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        add_control(&mut plan, &mut problems);
        users::add(&mut plan, &mut problems);
        check_names(&plan, &mut problems);
        let prints = Prints::of(&plan);
        let bundles = read_bundles(&plan, &mut problems);
        let logs = log::file::open_all(&mut plan.log, &mut problems);
        for (_, path) in plan.roles.iter().flat_map(|role| &role.files) {
            if let Err(error) = File::open(path) {
                problems.error(Place::file(path), error.to_string());
            }
        }
        if problems.has_errors() {
            return Err(problems);
        }
        let sockets = bind_all(&plan.listeners, old, dropped, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        let next_look = Instant::now() + plan.watch_every.unwrap_or(Duration::from_secs(5));
        let (inherited, retakes) = (Vec::new(), false);
        Ok(Self { number, plan, sockets, logs, bundles, prints, next_look, inherited, retakes })
    }

    /// Takes the place of `old`.
    pub fn succeed(&mut self, old: &mut Self) {
        self.inherited = std::mem::take(&mut old.inherited);
        for (name, _) in self.inherited.iter().filter(|(name, _)| name.starts_with(KEPT)) {
            notify::forget(name); // each is given again below, if it still is wanted
        }
        for (at, name) in old.kept_names() {
            if !self.sockets.iter().any(|socket| socket.at.as_ref() == Some(&at)) {
                notify::forget(&name);
            }
        }
        for socket in &self.sockets {
            let Some(at) = &socket.at else { continue };
            let known =
                |before: &Socket| before.at.as_ref() == Some(at) && before.file == socket.file;
            if !old.sockets.iter().any(known) {
                notify::keep(&kept_name(&socket.name, at), socket.descriptor.as_fd());
            }
        }
        // What was kept is in use by now, or belongs to an address that nobody wants any more.
        self.inherited.retain(|(name, _)| !name.starts_with(KEPT) && name != listen::TAKEN);
    }

    /// The manager closes what it keeps, and so do we; workers still have theirs.
    pub fn let_go(&mut self) {
        for (_, name) in self.kept_names() {
            notify::forget(&name);
        }
        self.inherited.clear();
        self.sockets.clear();
    }

    fn kept_names(&self) -> Vec<(At, String)> {
        let ours =
            self.sockets.iter().filter_map(|socket| Some((socket.at.clone()?, &socket.name)));
        ours.map(|(at, name)| (at.clone(), kept_name(name, &at))).collect()
    }

    pub fn bundles_of(&self, role: &str) -> impl Iterator<Item = &Bundle> {
        self.bundles.iter().filter(move |(name, _)| name == role).map(|(_, bundle)| bundle)
    }

    pub fn bundles(&self) -> impl Iterator<Item = &Bundle> {
        self.bundles.iter().map(|(_, bundle)| bundle)
    }

    /// Puts a renewed bundle in the place of the old one.
    pub fn renew(&mut self, role: &str, bundle: Bundle) {
        for (name, old) in &mut self.bundles {
            if name == role && old.name == bundle.name {
                *old = bundle.clone();
            }
        }
    }
}

/// systemd allows no colon and no control character in the name of a descriptor, and 255 bytes.
fn kept_name(name: &str, at: &At) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "-_./".contains(c) { c } else { '_' };
    format!("{KEPT}{name}@{}", at_text(at)).chars().take(250).map(letter).collect()
}

fn at_text(at: &At) -> String {
    match at {
        At::Tcp(address) => address.to_string(),
        At::Unix { path, .. } => path.display().to_string(),
    }
}

/// The control worker is a role like any other, with a user that owns nothing.
fn add_control(plan: &mut Plan, problems: &mut Problems) {
    let mut role = Role::new(control::ROLE);
    role.connections = 32;
    if let Some(path) = &plan.control {
        plan.listeners.push(Listen::unix(control::LISTENER, path, 0o600));
        role.listeners.push(control::LISTENER.to_owned());
    }
    if let Some(address) = plan.metrics {
        plan.listeners.push(Listen::tcp(control::METRICS_LISTENER, address));
        role.listeners.push(control::METRICS_LISTENER.to_owned());
    }
    if role.listeners.is_empty() {
        return;
    }
    if privileges::is_root() {
        role.account = nobody("control worker", problems);
    }
    plan.roles.push(role.with_settings(&nix::unistd::geteuid().as_raw()));
}

/// The user of our own workers: one that owns nothing.
pub(crate) fn nobody(of: &str, problems: &mut Problems) -> Option<Account> {
    match Account::named("theoris").or_else(|_| Account::named("nobody")) {
        Ok(account) => Some(account),
        Err(problem) => {
            problems.error(None, format!("{of}: {problem}"));
            None
        }
    }
}

/// The daemon's own mistakes: names that nothing stands behind.
fn check_names(plan: &Plan, problems: &mut Problems) {
    let has_role = |name: &str| plan.roles.iter().any(|role| role.name == name);
    for role in &plan.roles {
        for name in &role.listeners {
            if !plan.listeners.iter().any(|listen| listen.name == *name) {
                problems.error(None, format!("role {} has no listener {name}", role.name));
            }
        }
        if plan.roles.iter().filter(|other| other.name == role.name).count() > 1 {
            problems.error(None, format!("there are two roles {}", role.name));
        }
    }
    for link in &plan.links {
        for name in link.clients.iter().chain([&link.server]) {
            if !has_role(name) {
                problems.error(None, format!("link {} has no role {name}", link.name));
            }
        }
    }
}

fn read_bundles(plan: &Plan, problems: &mut Problems) -> Vec<(String, Bundle)> {
    let mut bundles = Vec::new();
    for role in &plan.roles {
        for wanted in &role.tls {
            match tls::read(wanted) {
                Ok(bundle) => bundles.push((role.name.clone(), bundle)),
                Err(error) => {
                    let place = wanted.identities.iter().find_map(|files| files.place.clone());
                    problems.error(place, error.to_string());
                }
            }
        }
    }
    bundles
}

fn bind_all(
    wanted: &[Listen],
    old: &Generation,
    dropped: &[Socket],
    problems: &mut Problems,
) -> Vec<Socket> {
    let mut sockets: Vec<Socket> = Vec::new();
    for listen in wanted {
        let ours = |(name, socket): &&(String, OwnedFd)| {
            *name == listen.name && is_unix(socket) == matches!(listen.at, At::Unix { .. })
        };
        let mut inherited = old.inherited.iter().filter(ours).peekable();
        if inherited.peek().is_some() {
            // The manager's sockets stand for all of this name and kind.
            let same_kind = |socket: &Socket| {
                socket.name == listen.name
                    && is_unix(&socket.descriptor) == matches!(listen.at, At::Unix { .. })
            };
            if sockets.iter().any(same_kind) {
                continue;
            }
            for (_, socket) in inherited {
                match socket.try_clone() {
                    Ok(descriptor) => {
                        let name = listen.name.clone();
                        sockets.push(Socket { name, at: None, descriptor, file: None });
                    }
                    Err(error) => {
                        problems.error(None, format!("{}: {error}", listen.name));
                    }
                }
            }
            continue;
        }
        match open(listen, old, dropped) {
            Ok(descriptors) => {
                sockets.extend(descriptors.into_iter().map(|(descriptor, file)| Socket {
                    name: listen.name.clone(),
                    at: Some(listen.at.clone()),
                    descriptor,
                    file,
                }));
            }
            Err(error) => {
                let place = at_text(&listen.at);
                problems.error(None, format!("{}: cannot listen on {place}: {error}", listen.name));
            }
        }
    }
    sockets
}

/// A descriptor, and what stood at its path when it was bound.
type Bound = (OwnedFd, Option<(u64, u64)>);

/// The sockets of one address: those of the old generation, else those that the last supervisor left
/// in the manager's keeping, an original held or a candidate has bound, else a new one.
fn open(listen: &Listen, old: &Generation, dropped: &[Socket]) -> io::Result<Vec<Bound>> {
    let bound = old.sockets.iter().filter(|socket| socket.at.as_ref() == Some(&listen.at));
    let bound: Vec<_> =
        bound.map(|socket| Ok((socket.descriptor.try_clone()?, socket.file))).collect();
    if !bound.is_empty() {
        let mut bound: Vec<Bound> = bound.into_iter().collect::<io::Result<_>>()?;
        if old.retakes && is_lost(&listen.at, &bound) {
            bound.insert(0, bind(&listen.at)?); // the old one stays for those in its queue
        }
        return Ok(bound);
    }
    let name = kept_name(&listen.name, &listen.at);
    let kept = old.inherited.iter().filter(|(kept, _)| *kept == name || kept == listen::TAKEN);
    let kept = kept.map(|(_, socket)| socket);
    match &listen.at {
        At::Tcp(address) => {
            let kept = kept.filter(|socket| listen::address(socket) == address.to_string());
            let dropped = dropped.iter().filter(|socket| socket.at.as_ref() == Some(&listen.at));
            match kept.chain(dropped.map(|socket| &socket.descriptor)).next() {
                Some(kept) => Ok(vec![(kept.try_clone()?, None)]),
                None => Ok(vec![bind(&listen.at)?]),
            }
        }
        // Somebody else may have taken the path since, so it is taken again; the old socket stays
        // open beside the new one for those who wait in its queue.
        At::Unix { .. } => {
            let kept = kept.filter(|socket| is_unix(socket));
            let kept = kept.map(|socket| Ok((socket.try_clone()?, None)));
            std::iter::once(bind(&listen.at)).chain(kept).collect()
        }
    }
}

fn bind(at: &At) -> io::Result<Bound> {
    let socket = listen::bind(at)?;
    let file = match at {
        At::Tcp(_) => None,
        At::Unix { path, .. } => listen::identity(path),
    };
    Ok((socket, file))
}

/// Whether a path leads to none of these sockets.
fn is_lost(at: &At, bound: &[Bound]) -> bool {
    let At::Unix { path, .. } = at else { return false };
    let there = listen::identity(path);
    there.is_none() || bound.iter().all(|(_, file)| *file != there)
}

fn is_unix(socket: &OwnedFd) -> bool {
    let address = rustix::net::getsockname(socket);
    address.is_ok_and(|address| address.address_family() == rustix::net::AddressFamily::UNIX)
}
