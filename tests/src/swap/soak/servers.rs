//! Dovecot with imapd, pop3d and lmtp, and ours beside it on other ports: one configuration, one user.

use std::path::PathBuf;

use harness::client::Client;
use harness::dovecot::Dovecot;
use harness::{Daemon, Log, Scratch, ports, skip};

pub const USER: &str = "soak@example.org";

const EXTRA: &str = "\
mail_plugins = quota
mail_max_userip_connections = 100
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=1G
}
namespace inbox {
  separator = .
}
service auth {
  unix_listener auth-master {
    mode = 0600
    user = $default_internal_user
  }
}
";

/// What a line of a log holds that is no complaint: who came, what came, who went, and that a server is there.
const ORDINARY: &[&str] = &[
    ": Login: user=<",
    ": Disconnected: Logged out",
    ": Disconnected: Connection closed",
    ": Connect from local",
    ": Disconnect from local",
    ": saved mail to ",
    ": Dovecot v2.",
    " ready: generation 1, ",
];

/// Dovecot's warning of a message that was moved away and came back under its old file name, before the line of its old
/// UID was gone: it gets a new UID, as it has to. Dovecot says so with nobody else there: in four of five runs of 30 s
/// with `THEORIS_SOAK_ALONE` (seeds 201 to 204; not 34). Its text, with a number, a name and two UIDs between.
const CAME_BACK: [&str; 4] =
    ["Warning: /", "/dovecot-uidlist: Duplicate file entry at line ", " (uid ", " -> "];

/// The same where a process still has the old UID in its index: the mailbox's directory stands before it, and behind it
/// the old UID and the file.
const REAPPEARED: &str = ": Expunged message reappeared, giving a new UID (old uid=";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Theirs,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];
}

struct Doors {
    imap: u16,
    pop3: u16,
    lmtp: PathBuf,
}

pub struct Servers {
    ours: Doors,
    theirs: Doors,
    log: Log,
    _daemons: Vec<Daemon>,
    pub dovecot: Dovecot,
    /// The last to go.
    _scratch: Scratch,
}

impl Servers {
    pub fn start() -> Option<Self> {
        if !skip::can_run(true, &["dovecot"]) {
            return None;
        }
        let scratch = Scratch::new();
        let mut dovecot = Dovecot::lay(&scratch, &[(USER, "secret")], EXTRA);
        dovecot.start();
        let theirs = Doors { imap: dovecot.imap, pop3: dovecot.pop3, lmtp: dovecot.lmtp.clone() };
        let ours =
            Doors { imap: ports::free(), pop3: ports::free(), lmtp: scratch.join("our-lmtp") };
        let config = std::fs::read_to_string(dovecot.config()).unwrap();
        let config = config
            .replace(&format!("port = {}\n", theirs.imap), &format!("port = {}\n", ours.imap))
            .replace(&format!("port = {}\n", theirs.pop3), &format!("port = {}\n", ours.pop3))
            .replace("unix_listener lmtp {", &format!("unix_listener {} {{", ours.lmtp.display()));
        let config = scratch.write("ours/dovecot.conf", config).display().to_string();
        let log = Log::default();
        let start = |(name, option): (&str, &str)| {
            let directory = scratch.directory(&format!("ours/{name}"));
            Daemon::start_with(name, &directory, &[option, &config], log.clone(), |_| {})
        };
        let daemons = [("imapd", "-c"), ("pop3d", "-c"), ("lmtp-delivery", "--dovecot")].map(start);
        Some(Self { ours, theirs, log, _daemons: daemons.into(), dovecot, _scratch: scratch })
    }

    /// With `THEORIS_SOAK_ALONE` Dovecot does everything: what it complains of then is its own.
    pub fn is_dovecot(&self, side: Side) -> bool {
        side == Side::Theirs || std::env::var_os("THEORIS_SOAK_ALONE").is_some()
    }

    fn doors(&self, side: Side) -> &Doors {
        if self.is_dovecot(side) { &self.theirs } else { &self.ours }
    }

    /// A connection that has been greeted.
    pub fn imap(&self, side: Side) -> Client {
        let mut client = Client::tcp(self.doors(side).imap);
        assert!(client.line().starts_with("* OK "));
        client
    }

    pub fn pop3(&self, side: Side) -> Client {
        let mut client = Client::tcp(self.doors(side).pop3);
        assert!(client.line().starts_with("+OK "));
        client
    }

    pub fn lmtp(&self, side: Side) -> Client {
        let mut client = Client::unix(&self.doors(side).lmtp);
        client.reply();
        client.expect("LHLO client.example", "250");
        client
    }

    /// The files that Dovecot said to have given a new UID: the mailbox's directory, and the file's name without its flags.
    pub fn renumbered(&self) -> Vec<(PathBuf, String)> {
        let lines = self.dovecot.log.lines().into_iter().map(|line| line.text);
        lines.filter_map(|text| renumbered(&text)).collect()
    }

    /// Every line of both logs that is more than the ordinary.
    pub fn complaints(&self) -> Vec<String> {
        let said = |side: Side, log: &Log| -> Vec<String> {
            let lines = log.lines().into_iter().map(|line| line.text);
            let unusual = lines.filter(|text| {
                let renamed = has_in_order(text, &CAME_BACK) || text.contains(REAPPEARED);
                let came_back = side == Side::Theirs && renamed;
                !came_back && !ORDINARY.iter().any(|known| is_ordinary(text, known))
            });
            unusual.map(|text| format!("{side:?}: {text}")).collect()
        };
        [said(Side::Ours, &self.log), said(Side::Theirs, &self.dovecot.log)].concat()
    }
}

/// Whatever stopped the test: what the servers said of it.
impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the logs: {:#?}", self.complaints());
        }
    }
}

fn renumbered(line: &str) -> Option<(PathBuf, String)> {
    let (front, behind) = line.split_once(REAPPEARED)?;
    let (_, directory) = front.split_once("Warning: Maildir ")?;
    let (_, file) = behind.split_once("file=")?;
    Some((PathBuf::from(directory), file.split([':', ')']).next()?.to_owned()))
}

fn has_in_order(line: &str, parts: &[&str]) -> bool {
    let after = |rest: &'_ str, part: &&str| rest.find(part).map(|at| at + part.len());
    let mut at = 0;
    parts.iter().all(|part| after(&line[at..], part).map(|end| at += end).is_some())
}

fn is_ordinary(line: &str, known: &str) -> bool {
    let bad = ["Debug: ", "Warning: ", "Error: ", "Fatal: ", "Panic: "];
    line.contains(known) && !bad.iter().any(|level| line.contains(level))
}

#[test]
fn what_dovecot_says_of_a_new_uid_names_the_file() {
    let line = "imap(a)<7><b>: Warning: Maildir /v/Maildir/.Shared: Expunged message reappeared, giving a new UID \
                (old uid=3, file=1.M2P3.vm,S=7,W=8:2,S)";
    let wanted = (PathBuf::from("/v/Maildir/.Shared"), "1.M2P3.vm,S=7,W=8".to_owned());
    assert_eq!(renumbered(line), Some(wanted));
    assert_eq!(
        renumbered("imap(a)<7><b>: Warning: Maildir /v/Maildir: Synchronization took 100 seconds"),
        None
    );
}
