//! master(8) of Postfix: its sockets, its reload, and the way back.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use super::bound::file as file_of;
use super::hold::Held;
use super::marks::{self, Key};
use super::process::{self, Address, Listening};
use super::steps::{PULSE, Run, edit, until};
use super::{Mishap, ports, rewrite};

/// master answers a signal within a tenth of a second.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);
const QUEUE_MANAGER: &str = "qmgr";
/// How long the queue manager may be held until all deliveries have ended, and how often that is tried.
const QUIET: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(200);
/// So many looks in a row find no delivery.
const LOOKS: usize = 3;

/// Whose sockets are kept under a second name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// master of this queue directory.
    Master(PathBuf),
    /// Who listens at the path and has this name.
    Listener(String),
}

/// Sockets that go back to master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    pub configuration: PathBuf,
    pub queue: PathBuf,
    /// `private/smtp`, …
    pub sockets: Vec<String>,
    /// Their entries.
    pub keys: Vec<Key>,
    pub daemon: String,
}

impl Return {
    fn site(&self) -> Site<'_> {
        Site { queue: &self.queue, configuration: &self.configuration }
    }
}

/// The master that runs on this queue directory.
pub fn master(queue: &Path) -> Option<i32> {
    let text = fs::read_to_string(queue.join("pid/master.pid")).ok()?;
    let pid = text.trim().parse().ok()?;
    // The file outlives its process.
    (process::is_alive(pid) && process::command(pid) == "master").then_some(pid)
}

/// The name that master bound: it works in its queue directory.
fn bound(socket: &str) -> Address {
    Address::Unix(socket.into())
}

fn is_open(master: i32, socket: &str) -> bool {
    !process::listening(master, &bound(socket)).is_empty()
}

/// The second name of a socket, which says whose it is: a process that has ended gets nothing back.
fn kept(path: &Path, owner: i32) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    let started = process::started(owner)?;
    Some(path.with_file_name(format!(".theoris-{owner}.{started}-{name}")))
}

/// The original's listening socket that was bound at this path, whoever has the path now.
fn listens(path: &Path, of: &Holder) -> Option<Listening> {
    match of {
        Holder::Master(queue) => {
            let master = master(queue)?;
            let socket = path.strip_prefix(queue).ok()?.to_str()?;
            process::listening(master, &bound(socket)).into_iter().next()
        }
        Holder::Listener(name) => {
            let listeners = process::listeners(&Address::Unix(path.into()));
            listeners.into_iter().find(|listening| process::command(listening.pid) == *name)
        }
    }
}

/// Whether a path leads to this socket, as far as the kernel tells.
fn leads_to(path: &Path, socket: &Listening) -> Option<bool> {
    let file = file_of(socket.inode)?;
    Some(fs::symlink_metadata(path).is_ok_and(|found| found.ino() == file))
}

/// Gives each socket that an original listens on a second name.
pub fn keep(paths: &[PathBuf], of: &Holder) -> Result<(), Mishap> {
    for path in paths {
        let Some(socket) = listens(path, of) else { continue };
        let Some(second) = kept(path, socket.pid) else { continue };
        if second.exists() && leads_to(&second, &socket) != Some(false)
            || leads_to(path, &socket) == Some(false)
        {
            continue; // of an interrupted run: the path may be ours by now
        }
        let _ = fs::remove_file(&second);
        fs::hard_link(path, &second).map_err(|error| Mishap::file(path, &error))?;
    }
    Ok(())
}

/// Sees that the path leads to the original's socket, if that still listens. The second name stays, so that this can be
/// done again.
pub fn put_back(path: &Path, of: &Holder) -> Result<bool, Mishap> {
    let Some(socket) = listens(path, of) else { return Ok(false) };
    if leads_to(path, &socket) == Some(true) {
        return Ok(true);
    }
    // A run that was killed had started the original with this socket, and not put it in its place.
    let given = process::given_name(path);
    if leads_to(&given, &socket) == Some(true) {
        fs::rename(&given, path).map_err(|error| Mishap::file(&given, &error))?;
        return Ok(true);
    }
    let second = kept(path, socket.pid).filter(|second| second.exists());
    let Some(second) = second.filter(|second| leads_to(second, &socket) != Some(false)) else {
        return Ok(false);
    };
    let third = second.with_extension("back");
    let _ = fs::remove_file(&third);
    fs::hard_link(&second, &third)
        .and_then(|()| fs::rename(&third, path))
        .map_err(|error| Mishap::file(&second, &error))?;
    // Two names of one socket: rename(2) does nothing then.
    let _ = fs::remove_file(&third);
    Ok(true)
}

/// Takes all second names of these sockets away.
pub fn forget(paths: &[PathBuf]) -> Result<(), Mishap> {
    for path in paths {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let end = format!("-{}", name.to_string_lossy());
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".theoris-")
                && (name.ends_with(&end) || name.ends_with(&format!("{end}.back")))
            {
                rewrite::remove(&entry.path())
                    .map_err(|error| Mishap::file(&entry.path(), &error))?;
            }
        }
    }
    Ok(())
}

/// Waits until no child of master serves a client at these sockets, and none waits there.
pub fn agents_idle(queue: &Path, sockets: &[String], patience: Duration) -> Result<(), Mishap> {
    let Some(master) = master(queue) else { return Ok(()) };
    let at: Vec<Address> = sockets.iter().map(|socket| bound(socket)).collect();
    let idle = || process::served(&process::tree(master), &at) == 0;
    match until(patience, idle) {
        Ok(_) => Ok(()),
        Err(waited) => Err(Mishap(format!(
            "Postfix's own agents still deliver after {} s; try again later or with a longer --patience",
            waited.as_secs()
        ))),
    }
}

/// Holds Postfix's queue manager at an instant at which no agent delivers, for the moment of a reload; where some always
/// deliver, not at all. What it has asked an agent for, and the agent has not begun, the new queue manager would ask for
/// again: while the old one is held, agents come to an end with all they have. What they have ended stands in the queue
/// files, where the new one finds it. It goes on when the result is dropped, or this run killed.
fn hold_queue_manager(queue: &Path, master: i32) -> Vec<Held> {
    let active = queue.join("active");
    for _ in 0..ATTEMPTS {
        let managers = process::children(master, QUEUE_MANAGER);
        let held: Vec<Held> =
            managers.iter().filter_map(|pid| Held::first_thread(*pid).ok()).collect();
        let quiet = || is_quiet(&active) && !is_asking(queue, master);
        if held.is_empty() || until(QUIET, quiet).is_ok() {
            return held;
        }
        drop(held);
        std::thread::sleep(BETWEEN);
    }
    Vec::new()
}

/// No queue file is open, not even a moment later: between a request and the opening there is hardly any time.
fn is_quiet(active: &Path) -> bool {
    (0..LOOKS).all(|_| {
        std::thread::sleep(PULSE);
        !process::is_open_below(active)
    })
}

/// Services of Postfix that deliver nothing; all others below `private` are the queue manager's.
const NO_TRANSPORTS: [&str; 13] = [
    "anvil",
    "bounce",
    "defer",
    "dnsblog",
    "postlog",
    "proxymap",
    "proxywrite",
    "rewrite",
    "scache",
    "tlsmgr",
    "tlsproxy",
    "trace",
    "verify",
];

/// Whether a request is half made: an agent of master has been connected to, and knows no message yet.
fn is_asking(queue: &Path, master: i32) -> bool {
    let entries = fs::read_dir(queue.join("private")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let asked = names.filter(|name| {
        !name.starts_with('.') && !NO_TRANSPORTS.contains(&name.as_str()) && !name.contains("auth")
    });
    let at: Vec<Address> = asked.map(|name| bound(&format!("private/{name}"))).collect();
    process::served(&process::tree(master), &at) > 0
}

fn hang_up(master: i32) -> Result<(), Mishap> {
    kill(Pid::from_raw(master), Signal::SIGHUP)
        .map_err(|error| Mishap(format!("cannot signal master, pid {master}: {error}")))
}

/// Where a Postfix is: its queue directory and its configuration.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub queue: &'a Path,
    pub configuration: &'a Path,
}

/// A reload after which master has closed these sockets. master that does not run has.
///
/// # Errors
///
/// When it does not close them, or ends: what stands in master.cf has to be mended first then.
pub fn close(site: Site<'_>, sockets: &[String], run: &mut Run<'_>) -> Result<(), Mishap> {
    let Some(pid) = master(site.queue) else { return Ok(()) };
    if !sockets.iter().any(|socket| is_open(pid, socket)) {
        return Ok(());
    }
    let closed = || !sockets.iter().any(|socket| is_open(pid, socket));
    if reload(site, pid, closed, run)? {
        return Err(Mishap(format!(
            "Postfix's master, pid {pid}, has ended at the reload; see its log"
        )));
    }
    if closed() {
        Ok(())
    } else {
        Err(Mishap("Postfix does not close its sockets; see its log".into()))
    }
}

fn open(site: Site<'_>, pid: i32, sockets: &[String], run: &mut Run<'_>) -> Result<(), Mishap> {
    let opened = || sockets.iter().all(|socket| is_open(pid, socket));
    if reload(site, pid, opened, run)? || opened() {
        return Ok(()); // one that has been started anew has all of them
    }
    Err(Mishap("Postfix does not open its sockets; see its log".into()))
}

/// Has master read its configuration, until `done` or the time is over. It ends when a port of its entries is taken, whoever
/// wrote them: where that is seen before, it is not told to, and else it is started again, and the result is true.
fn reload(
    site: Site<'_>,
    pid: i32,
    done: impl Fn() -> bool,
    run: &mut Run<'_>,
) -> Result<bool, Mishap> {
    if let Some(taken) = ports::taken(site.configuration, pid).into_iter().next() {
        return Err(Mishap(taken));
    }
    let unit = process::unit(pid).filter(|unit| unit.starts_with("postfix"));
    let held = hold_queue_manager(site.queue, pid);
    hang_up(pid)?;
    let _ = until(RELOAD_LIMIT, || done() || !process::is_alive(pid));
    settle(pid); // what ends it may stand behind what was waited for
    drop(held);
    if process::is_alive(pid) {
        return Ok(false);
    }
    start(site, unit.as_deref(), run).map(|()| true)
}

/// Waits until master has done what it was told: somebody may have called for a reload a moment ago, or a run that was
/// killed, and what is open is not decided before its end. One that is about to end sleeps a second before it does.
fn settle(master: i32) {
    let at_rest = || {
        (0..LOOKS).all(|_| {
            std::thread::sleep(PULSE);
            process::is_at_rest(master)
        })
    };
    let _ = until(RELOAD_LIMIT, || at_rest() || !process::is_alive(master));
}

/// The way back; see [`Return`]. The marks have been taken away before.
pub fn give_back(back: &Return, run: &mut Run<'_>) -> Result<(), Mishap> {
    let Some(pid) = master(&back.queue) else { return Ok(()) }; // it binds them when it starts
    let site = back.site();
    settle(pid);
    let of = Holder::Master(back.queue.clone());
    let path = |socket: &String| back.queue.join(socket);
    let closed: Vec<String> =
        back.sockets.iter().filter(|socket| !is_open(pid, socket)).cloned().collect();
    if !closed.is_empty() {
        forget(&closed.iter().map(path).collect::<Vec<_>>())?; // they lead nowhere
        open(site, pid, &closed, run)?;
    }
    let mut lost = Vec::new();
    for socket in &back.sockets {
        if !put_back(&path(socket), &of)? && !closed.contains(socket) {
            lost.push(socket.clone()); // master has it open, but its name leads to us
        }
    }
    if !lost.is_empty() && run.services.process(&back.daemon).is_some() {
        reopen(back, pid, &lost, run)?;
    }
    Ok(())
}

/// master binds a socket only when its entry is new to it.
fn reopen(back: &Return, pid: i32, sockets: &[String], run: &mut Run<'_>) -> Result<(), Mishap> {
    let file = back.configuration.join("master.cf");
    let named =
        |key: &&Key| sockets.iter().any(|socket| socket.ends_with(&format!("/{}", key.name)));
    let keys: Vec<Key> = back.keys.iter().filter(named).cloned().collect();
    edit(&file, |text| marks::mark(text, &keys))?;
    let closed = close(back.site(), sockets, run);
    edit(&file, |text| marks::unmark(text, &keys))?;
    closed?;
    open(back.site(), pid, sockets, run)
}

/// Debian's unit does not start a master that has died.
fn start(site: Site<'_>, unit: Option<&str>, run: &mut Run<'_>) -> Result<(), Mishap> {
    run.notes.push("Postfix's master has ended at the reload and is started again".into());
    if let Some(unit) = unit {
        return run.services.start_original(unit);
    }
    let mut command = std::process::Command::new("postfix");
    command.arg("-c").arg(site.configuration).arg("start").stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Mishap(format!(
            "Postfix's master has ended at the reload; postfix start: {status}"
        ))),
        Err(error) => {
            Err(Mishap(format!("Postfix's master has ended at the reload; postfix start: {error}")))
        }
    }
}

/// Who listens behind a socket path: the process that would answer. Only for sockets that should be ours: an agent of
/// Postfix complains of a client that says nothing.
pub fn answers(path: &Path) -> Option<i32> {
    let directory = fs::File::open(path.parent()?).ok()?;
    let short = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), path.file_name()?.to_str()?);
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    );
    let socket = socket.ok()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(short.as_str()).ok()?).ok()?;
    let peer = sockopt::socket_peercred(&socket).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planks::lingering::Lingering;

    /// A reload takes master a tenth of a second, in which the socket is still its own.
    #[test]
    fn the_next_step_waits_until_master_has_closed_its_socket() {
        let queue = tempfile::tempdir().unwrap();
        for name in ["private", "pid", "active"] {
            fs::create_dir(queue.path().join(name)).unwrap();
        }
        let theirs = Lingering::start(queue.path(), "master", "private/smtp");
        let file = queue.path().join("pid/master.pid");
        fs::write(file, format!("{:>10}\n", theirs.pid())).unwrap();
        assert_eq!(master(queue.path()), Some(theirs.pid()));
        let directory = queue.path().to_owned();
        theirs.awaited_by(move |run| {
            let site = Site { queue: &directory, configuration: &directory };
            close(site, &["private/smtp".to_owned()], run)
        });
    }
}
