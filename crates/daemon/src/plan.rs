//! What a daemon wants to run: made from the configuration, carried out by the supervisor.
//!
//! A plan is complete: a worker gets its sockets, its keys and its settings from the supervisor
//! and never reads the host's files again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::postfix::TableFile;
use config::{Place, Problems};
use serde::{Deserialize, Serialize};

use crate::privileges::{self, Account};
use crate::sandbox::{self, Needs};
use crate::tls;

/// Everything the supervisor has to set up for one generation of workers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    pub listeners: Vec<Listen>,
    pub roles: Vec<Role>,
    pub links: Vec<Link>,
    pub log: Log,
    /// The control socket; `None` means no control worker either.
    pub control: Option<PathBuf>,
    /// Where Prometheus may ask over HTTP (`GET /metrics`), beside the control socket.
    pub metrics: Option<SocketAddr>,
    /// Where `theoris adopt` offers the sockets of an original while it starts this daemon.
    pub taken_over: Option<PathBuf>,
    /// Whose the ports are.
    pub lent: Lent,
    /// A change of one of these files counts as a SIGHUP.
    pub watch: Vec<PathBuf>,
    /// How often files are looked at for changes; `None` is every five seconds.
    pub watch_every: Option<Duration>,
    /// Which users a worker may be started for (`OnDemand` roles).
    pub users: UserRange,
    pub grace: Grace,
    /// What becomes of a worker that does what its role does not need.
    pub sandbox: sandbox::Mode,
    /// Warnings found on the way; logged at each start and reload.
    pub problems: Problems,
}

/// Whose a daemon's ports are. An original that finds one taken when it wants it back may end, as Postfix's master does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Lent {
    /// No original asks for them.
    #[default]
    No,
    /// An original leaves them to us in this file: as soon as it does not any more, they are closed.
    By(PathBuf),
    /// By this file they belong to an original that runs.
    Returned(PathBuf),
}

/// One listening socket. Several may share a name: a worker's listener accepts from all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// Also the name under which a service manager may pass the socket (`LISTEN_FDNAMES`).
    pub name: String,
    pub at: At,
}

impl Listen {
    pub fn tcp(name: impl Into<String>, at: SocketAddr) -> Self {
        Self { name: name.into(), at: At::Tcp(at) }
    }

    pub fn unix(name: impl Into<String>, path: impl Into<PathBuf>, mode: u32) -> Self {
        Self {
            name: name.into(),
            at: At::Unix { path: path.into(), mode, owner: Owner::default() },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum At {
    Tcp(SocketAddr),
    Unix { path: PathBuf, mode: u32, owner: Owner },
}

/// Owner of a socket file; `None` leaves what the supervisor has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// One kind of worker.
#[derive(Clone, Debug, Serialize)]
pub struct Role {
    pub name: String,
    /// Whom its processes become; `None` keeps the supervisor's user, and an `OnDemand` role gets
    /// the user of each hand-over instead.
    pub account: Option<Account>,
    pub processes: Processes,
    /// Threads of the runtime; 1 is a current-thread runtime.
    pub threads: usize,
    /// Connections that one process serves at a time; more wait in the listen queue.
    pub connections: usize,
    /// Names of the listeners it accepts from.
    pub listeners: Vec<String>,
    /// The role's own settings, typed on both sides.
    pub settings: serde_json::Value,
    pub tls: Vec<tls::Plan>,
    /// Files that only the supervisor may open, by the name the worker asks for. They are opened
    /// for reading, and passed again when they change.
    pub files: Vec<(String, PathBuf)>,
    /// Lookup tables that its processes may not open themselves. They are passed when the role starts and
    /// when they change; one that is not there yet is passed when it comes. See [`Self::opens_tables`].
    pub tables: Vec<TableFile>,
    /// Two processes of this role must not work at once: a new one waits in [`Worker::alone`]
    /// until the older ones have gone.
    ///
    /// [`Worker::alone`]: crate::Worker::alone
    pub alone: bool,
    /// At a stop its processes end before all others are told to: who works with the others' help.
    pub ends_first: bool,
    /// What its processes can reach beyond what they were given. `None` is no sandbox at all: only for
    /// what starts foreign programs or loads foreign code, such as the runner of `|command` and the
    /// backends that ask PAM.
    pub sandbox: Option<Needs>,
    /// Which roles may hand over to its workers (`OnDemand`); nobody else. A role that meets
    /// strangers must not be among them where that would let it choose a user.
    pub hand_over_from: Vec<String>,
}

impl Role {
    /// A role with one single-threaded process, 1000 connections and nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            account: None,
            processes: Processes::Fixed(1),
            threads: 1,
            connections: 1000,
            listeners: Vec::new(),
            settings: serde_json::Value::Null,
            tls: Vec::new(),
            files: Vec::new(),
            tables: Vec::new(),
            alone: false,
            ends_first: false,
            sandbox: Some(Needs::default()),
            hand_over_from: Vec::new(),
        }
    }

    /// What it needs inside its sandbox; a role outside comes in.
    pub fn needs(&mut self) -> &mut Needs {
        self.sandbox.get_or_insert_default()
    }

    /// Lets the role read these lookup tables: from their directories, where its user may; the others
    /// are opened by the supervisor, as are those in /etc, where too much else stands.
    pub fn opens_tables(&mut self, tables: impl IntoIterator<Item = TableFile>) {
        for table in tables {
            let directory = table.text.parent().unwrap_or(Path::new("/")).to_owned();
            let alone = directory == Path::new("/") || directory == Path::new("/etc");
            if alone || !privileges::may_read(self.account.as_ref(), &table.text) {
                if !self.tables.contains(&table) {
                    self.tables.push(table);
                }
            } else if !self.needs().read.contains(&directory) {
                self.needs().read.push(directory);
            }
        }
    }

    /// Gives the role its settings. A value that JSON cannot hold is the daemon's mistake and
    /// shows when the worker reads it.
    #[must_use]
    pub fn with_settings<T: Serialize>(mut self, settings: &T) -> Self {
        self.settings = serde_json::to_value(settings).unwrap_or_default();
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Processes {
    /// Always this many.
    Fixed(usize),
    /// One per uid, started by a hand-over, gone when it was idle this long; at most `max`.
    OnDemand { max: usize, idle: Duration },
}

/// A way for workers to ask other workers: each request reaches one free server process and
/// carries its own answer descriptor. It outlives reloads and the processes at both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    pub name: String,
    /// Names of the roles that ask.
    pub clients: Vec<String>,
    /// Name of the role that answers.
    pub server: String,
}

/// Which users a hand-over may name. The supervisor checks it, and never allows 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserRange {
    pub first_uid: u32,
    /// 0 is no upper limit, as in Dovecot.
    pub last_uid: u32,
    pub first_gid: u32,
    pub last_gid: u32,
    /// Extra groups that a worker may be given.
    pub groups: Vec<u32>,
}

/// Dovecot's defaults.
impl Default for UserRange {
    fn default() -> Self {
        Self { first_uid: 500, last_uid: 0, first_gid: 1, last_gid: 0, groups: Vec::new() }
    }
}

/// How long the old ones may take to finish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grace {
    /// After a reload.
    pub reload: Duration,
    /// After SIGTERM.
    pub stop: Duration,
    /// Old generations that may live at once; one more ends the oldest.
    pub generations: usize,
}

impl Default for Grace {
    fn default() -> Self {
        Self { reload: Duration::from_secs(3600), stop: Duration::from_secs(10), generations: 4 }
    }
}

/// Where log lines go and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// SYSLOG_IDENTIFIER of lines that name none; empty means the daemon's name.
    pub ident: String,
    /// Also debugging lines.
    pub debug: bool,
    /// SYSLOG_FACILITY; 2 is mail.
    pub facility: u8,
    /// Files in the journal's place: a line goes to the first that takes it, and to the journal if none does.
    pub files: Vec<LogFile>,
}

impl Default for Log {
    fn default() -> Self {
        Self { ident: String::new(), debug: false, facility: 2, files: Vec::new() }
    }
}

/// A file that log lines are appended to. The supervisor opens it, and again at each reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// `/dev/stdout` and `/dev/stderr` are the daemon's own, whatever they are connected to.
    pub path: PathBuf,
    pub style: LogStyle,
    /// Only lines of this identifier; empty is any.
    pub ident: String,
    /// Only lines of these priorities, as syslog numbers them.
    pub priorities: (u8, u8),
    /// Permissions of a file that has to be made.
    pub mode: u32,
    /// The setting that names it.
    pub place: Option<Place>,
}

/// What a line of a log file looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStyle {
    /// `Nov 22 06:14:12 HOST postfix/smtpd[31816]: connect from …`
    Postfix { host: String },
    /// `Nov 22 06:14:12 imap-login: Info: Login: …`, the time in this form of strftime(3).
    Dovecot { time: String },
}
