//! Services of a running master(8) taken out and put back by the harness, as `docs/swapping.md` says that it is done.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::log::eventually;
use crate::postfix::Postfix;

/// A service of master.cf: its name and its type.
pub type Service<'a> = (&'a str, &'a str);

/// What the queue-manager stands in for.
pub const QUEUE: &[Service<'static>] = &[
    ("pickup", "unix"),
    ("cleanup", "unix"),
    ("qmgr", "unix"),
    ("rewrite", "unix"),
    ("bounce", "unix"),
    ("defer", "unix"),
    ("error", "unix"),
    ("showq", "unix"),
];

/// Goes with it and is never marked, since an upgrade of Postfix would add it again: its sockets are held instead.
pub const HELD: &[&str] = &["public/flush", "private/trace", "private/retry", "private/discard"];

impl Postfix {
    /// Marks these services and returns when master has closed their sockets and their last process has ended: who comes
    /// next is alone.
    #[track_caller]
    pub fn close(&self, services: &[Service<'_>]) {
        let commands = self.commands(services);
        self.without(services);
        let master = self.reload();
        let sockets = sockets(services);
        eventually("master to close its sockets", || {
            let open = listening(master);
            sockets.iter().all(|socket| !open.contains(socket)).then_some(())
        });
        eventually("the last process of those services", || {
            let left = children(master);
            left.iter().all(|(_, name)| !commands.contains(name)).then_some(())
        });
    }

    /// Takes the marks away and returns when master listens on the sockets.
    #[track_caller]
    pub fn open(&self, services: &[Service<'_>]) {
        self.with(services);
        let master = self.reload();
        let sockets = sockets(services);
        eventually("master to open its sockets", || {
            let open = listening(master);
            sockets.iter().all(|socket| open.contains(socket)).then_some(())
        });
    }

    /// Keeps the sockets that go with the queue and stay live, under second names.
    pub fn keep_held(&self) {
        for socket in HELD {
            keep(&self.queue().join(socket));
        }
    }

    /// Puts them back in their places: master has listened on them all the time.
    pub fn put_held_back(&self) {
        for socket in HELD {
            put_back(&self.queue().join(socket));
        }
    }

    /// Tells master to read its files, which it does a little later. Gives its pid.
    fn reload(&self) -> i32 {
        let master = self.master_pid();
        kill(Pid::from_raw(master), Signal::SIGHUP).unwrap();
        master
    }

    /// The programs that serve these and nothing else.
    fn commands(&self, services: &[Service<'_>]) -> Vec<String> {
        let text = fs::read_to_string(self.config().join("master.cf")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with([' ', '\t', '#']));
        let (mut theirs, mut others) = (Vec::new(), Vec::new());
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (&[name, kind, ..], Some(command)) = (&words[..], words.get(7)) else { continue };
            let of = if services.contains(&(name, kind)) { &mut theirs } else { &mut others };
            of.push((*command).to_owned());
        }
        theirs.retain(|command| !others.contains(command));
        theirs
    }
}

/// The sockets of Unix services, as master names them.
pub fn sockets(services: &[Service<'_>]) -> Vec<String> {
    let public = ["pickup", "cleanup", "qmgr", "flush", "showq"];
    let unix = services.iter().filter(|(_, kind)| *kind == "unix");
    unix.map(|(name, _)| match public.contains(name) {
        true => format!("public/{name}"),
        false => format!("private/{name}"),
    })
    .collect()
}

fn second_name(socket: &Path) -> PathBuf {
    let name = socket.file_name().unwrap().to_string_lossy();
    socket.with_file_name(format!(".kept-{name}"))
}

/// Gives a socket a second name, under which it outlives whoever takes its place.
pub fn keep(socket: &Path) {
    let second = second_name(socket);
    let _ = fs::remove_file(&second);
    fs::hard_link(socket, second).unwrap();
}

/// Puts it back, over whatever is there now: there is no instant without a socket.
pub fn put_back(socket: &Path) {
    fs::rename(second_name(socket), socket).unwrap();
}

/// The Unix sockets that a process listens on, by the names that it gave them.
pub fn listening(pid: i32) -> Vec<String> {
    let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let named = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (flags, inode, path) = (words.get(3)?, words.get(6)?, words.get(7)?);
        let listens = *flags == "00010000" && open.contains(&format!("socket:[{inode}]"));
        listens.then(|| (*path).to_owned())
    };
    table.lines().filter_map(named).collect()
}

/// The processes that `parent` started, with their names.
pub fn children(parent: i32) -> Vec<(i32, String)> {
    let child = |path: &Path| {
        let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let (front, rest) = stat.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let of: i32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some((pid, name))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| child(&entry.path())).collect()
}
