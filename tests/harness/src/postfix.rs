//! A private Postfix: Debian's programs with a configuration, a queue and a log of their own.
//!
//! The same directory serves our daemons: `smtpd -c CONFIG` of ours and master(8) of theirs read one main.cf.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Log, Scratch, ports};

/// The services of Debian's master.cf that take part in ordinary mail, without chroot.
const SERVICES: &str = "\
pickup    unix  n  -  n  60    1  pickup
cleanup   unix  n  -  n  -     0  cleanup
qmgr      unix  n  -  n  300   1  qmgr
tlsmgr    unix  -  -  n  1000? 1  tlsmgr
rewrite   unix  -  -  n  -     -  trivial-rewrite
bounce    unix  -  -  n  -     0  bounce
defer     unix  -  -  n  -     0  bounce
trace     unix  -  -  n  -     0  bounce
verify    unix  -  -  n  -     1  verify
flush     unix  n  -  n  1000? 0  flush
proxymap  unix  -  -  n  -     -  proxymap
proxywrite unix -  -  n  -     1  proxymap
smtp      unix  -  -  n  -     -  smtp
relay     unix  -  -  n  -     -  smtp
showq     unix  n  -  n  -     -  showq
error     unix  -  -  n  -     -  error
retry     unix  -  -  n  -     -  error
discard   unix  -  -  n  -     -  discard
local     unix  -  n  n  -     -  local
virtual   unix  -  n  n  -     -  virtual
lmtp      unix  -  -  n  -     -  lmtp
anvil     unix  -  -  n  -     1  anvil
scache    unix  -  -  n  -     1  scache
postlog   unix-dgram n - n -   1  postlogd
";

/// In front of each line of a service that is taken out.
const MARK: &str = "#theoris: ";

/// A Postfix configuration in a scratch directory; [`Postfix::start`] runs Debian's master on it.
#[derive(Debug)]
pub struct Postfix {
    root: PathBuf,
    /// The port of its `smtpd`.
    pub port: u16,
    pub log: Log,
    running: bool,
    /// What it sees as /etc/resolv.conf and /etc/hosts.
    names: Option<(PathBuf, PathBuf)>,
}

impl Postfix {
    /// Lays out `postfix/` and `spool/` in `scratch`: example.com is local, everything else as Debian ships it.
    /// `main` is appended to main.cf.
    #[track_caller]
    pub fn lay(scratch: &Scratch, main: &str) -> Self {
        let root = scratch.path().to_owned();
        let port = ports::free();
        let shown = root.display();
        scratch.directory("spool");
        let data = scratch.directory("data");
        if nix::unistd::geteuid().is_root() {
            let owner = nix::unistd::User::from_name("postfix").unwrap().expect("no user postfix");
            nix::unistd::chown(&data, Some(owner.uid), Some(owner.gid)).unwrap();
        }
        let ordinary = format!(
            "\
compatibility_level = 3.6
queue_directory = {shown}/spool
data_directory = {shown}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {shown}/maillog
maillog_file_prefixes = {shown}
myhostname = mail.example.com
mydomain = example.com
myorigin = $mydomain
mydestination = $myhostname, localhost.$mydomain, localhost, example.com
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
smtpd_peername_lookup = no
"
        );
        // Postfix warns of a name that stands twice.
        let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let own: Vec<String> = main.lines().map(name).collect();
        let mut text = String::new();
        for line in ordinary.lines().filter(|line| !own.contains(&name(line))) {
            text.extend([line, "\n"]);
        }
        scratch.write("postfix/main.cf", text + main + "\n");
        scratch.write(
            "postfix/master.cf",
            format!("127.0.0.1:{port} inet n - n - - smtpd\n{SERVICES}"),
        );
        Self { root, port, log: Log::default(), running: false, names: None }
    }

    /// The configuration directory, for `-c`.
    pub fn config(&self) -> PathBuf {
        self.root.join("postfix")
    }

    pub fn queue(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Adds lines to master.cf (before the start, or followed by [`Postfix::command`] `reload`).
    pub fn add_services(&self, lines: &str) {
        self.edit_master(|text| format!("{text}{lines}\n"));
    }

    /// Takes services out of master.cf by name and type, as an adopted plank is: `("cleanup", "unix")`.
    /// The name of the SMTP server is `127.0.0.1:PORT`, type `inet`.
    pub fn without(&self, services: &[(&str, &str)]) {
        let named = |line: &str| {
            let mut words = line.split_whitespace();
            let (name, kind) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            services.contains(&(name, kind))
        };
        self.edit_master(|text| {
            let mut ours = false;
            let mut changed = String::new();
            for line in text.lines() {
                if !line.starts_with([' ', '\t']) {
                    ours = named(line);
                }
                let mark = if ours { MARK } else { "" };
                changed.extend([mark, line, "\n"]);
            }
            changed
        });
    }

    /// Takes the marks of [`Postfix::without`] away.
    pub fn with(&self, services: &[(&str, &str)]) {
        self.edit_master(|text| {
            let mut theirs = false;
            let mut changed = String::new();
            for line in text.lines() {
                let bare = line.strip_prefix(MARK).unwrap_or(line);
                if !bare.starts_with([' ', '\t']) {
                    let mut words = bare.split_whitespace();
                    let (name, kind) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                    theirs = services.contains(&(name, kind));
                }
                changed.extend([if theirs { bare } else { line }, "\n"]);
            }
            changed
        });
    }

    fn edit_master(&self, change: impl FnOnce(String) -> String) {
        let path = self.config().join("master.cf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }

    /// From its start, this Postfix sees these texts as `/etc/resolv.conf` and `/etc/hosts`: it gets a mount namespace of its own.
    pub fn sees(&mut self, resolv_conf: &str, hosts: &str) {
        let paths = (self.root.join("resolv.conf"), self.root.join("hosts"));
        std::fs::write(&paths.0, resolv_conf).unwrap();
        std::fs::write(&paths.1, hosts).unwrap();
        self.names = Some(paths);
    }

    /// Makes the queue directories with their owners, as `postfix check` does, without starting anything.
    #[track_caller]
    pub fn check(&self) {
        self.command(&["postfix", "-c", self.config().to_str().unwrap(), "check"]);
    }

    /// Starts master and waits until it listens.
    #[track_caller]
    pub fn start(&mut self) {
        // Not output(): the daemon keeps what it inherits.
        let mut command = match &self.names {
            None => Command::new("postfix"),
            Some((resolv_conf, hosts)) => {
                let mut command = Command::new("unshare");
                let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/hosts \
                              && shift 2 && exec postfix \"$@\"";
                command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
                command.arg(resolv_conf).arg(hosts);
                command
            }
        };
        command
            .arg("-c")
            .arg(self.config())
            .arg("start")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        assert!(
            command.stderr(Stdio::null()).status().unwrap().success(),
            "Postfix does not start"
        );
        self.running = true;
        let path = self.root.join("maillog");
        crate::log::eventually("Postfix's log", || path.exists().then_some(()));
        self.log.follow_file(&path, self.master_pid());
        self.log.wait_for("daemon started");
    }

    pub fn master_pid(&self) -> i32 {
        std::fs::read_to_string(self.queue().join("pid/master.pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Runs one of Postfix's programs and returns its standard output; stops the test when it fails.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        let output = Command::new(words[0])
            .args(&words[1..])
            .env("MAIL_CONFIG", self.config())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{words:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            std::fs::read_to_string(self.root.join("maillog")).unwrap_or_default()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends master and its children.
    pub fn stop(&mut self) {
        if self.running {
            self.running = false;
            let pid = self.master_pid();
            let _ = Command::new("postfix").arg("-c").arg(self.config()).arg("stop").output();
            crate::log::eventually("master to end", || {
                (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
            });
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.stop();
    }
}
