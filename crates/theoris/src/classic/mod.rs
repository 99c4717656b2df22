//! Postfix's own commands: `sendmail`, `mailq`, `postqueue`, `postsuper`, `postcat`, `postdrop`.
//!
//! Each is a small binary that calls one function here; words, output and exit codes are the
//! originals'.

pub mod listing;
pub mod options;
pub mod postcat;
pub mod postdrop;
pub mod postqueue;
pub mod postsuper;
pub mod sendmail;
mod showq;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::files::Disk;
use config::postfix::{self, Host};
use config::{Files as _, Problems};
use protocol::postfix::Dialect;
use queue::QueueDirectory;

pub const DEFAULT_DIRECTORY: &str = "/etc/postfix";

/// sysexits that the originals use.
pub mod code {
    pub const UNAVAILABLE: u8 = 69;
    pub const TEMPORARY: u8 = 75;
    pub const NO_PERMISSION: u8 = 77;
}

/// What ends a command: `NAME: fatal: TEXT` on standard error, and this exit code.
#[derive(Debug)]
pub struct Fatal {
    pub text: String,
    pub code: u8,
}

impl Fatal {
    pub fn new(code: u8, text: impl Display) -> Self {
        Self { text: text.to_string(), code }
    }
}

/// Runs a command and tells how it ended.
pub fn main(name: &str, run: impl FnOnce(Vec<String>) -> Result<(), Fatal>) -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    match run(words.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            eprintln!("{name}: fatal: {}", fatal.text);
            ExitCode::from(fatal.code)
        }
    }
}

/// What the commands take from main.cf.
#[derive(Clone, Debug)]
pub struct Site {
    pub config: PathBuf,
    pub queue: QueueDirectory,
    pub dialect: Dialect,
    pub myorigin: String,
    pub message_size_limit: u64,
    pub line_length: usize,
    pub command_directory: PathBuf,
    pub mail_owner: String,
    /// Sockets: `public/showq`, `public/pickup`.
    pub showq: PathBuf,
    pub pickup: PathBuf,
    pub listing: queue::ListingOptions,
    pub may_submit: Vec<postfix::Match>,
    pub may_list: Vec<postfix::Match>,
    pub may_flush: Vec<postfix::Match>,
}

impl Site {
    /// Reads `directory`'s main.cf. What is wrong in it is the daemons' to tell, but for a file
    /// that cannot be read.
    ///
    /// # Errors
    ///
    /// [`Fatal`] with `code` if there is no main.cf.
    pub fn read(directory: &Path, code: u8) -> Result<Self, Fatal> {
        let path = directory.join("main.cf");
        if let Err(error) = Disk.read(&path) {
            return Err(Fatal::new(code, format!("open {}: {}", path.display(), why(&error))));
        }
        let mut none = Problems::default();
        let host = Host::read(&Disk, directory, &mut none);
        let main = host.main();
        let depth: i64 = main.get(postfix::HASH_QUEUE_DEPTH, &mut none);
        let root = PathBuf::from(main.get(postfix::QUEUE_DIRECTORY, &mut none));
        let showq = main.get(postfix::SHOWQ_SERVICE_NAME, &mut none);
        let pickup = main.get(postfix::PICKUP_SERVICE_NAME, &mut none);
        let hashed = main.get(postfix::HASH_QUEUE_NAMES, &mut none);
        let duplicates = main.get(postfix::DUPLICATE_FILTER_LIMIT, &mut none);
        let version = main.get(postfix::MAIL_VERSION, &mut none);
        let line_length = main.get(postfix::LINE_LENGTH_LIMIT, &mut none);
        Ok(Self {
            config: directory.to_owned(),
            queue: QueueDirectory {
                root: root.clone(),
                hashed: hashed.into_iter().map(|word| word.text).collect(),
                depth: usize::try_from(depth).unwrap_or(1),
                long_ids: main.get(postfix::ENABLE_LONG_QUEUE_IDS, &mut none),
            },
            dialect: Dialect::of_version(&version).unwrap_or_default(),
            myorigin: main.get(postfix::MYORIGIN, &mut none),
            message_size_limit: main.get(postfix::MESSAGE_SIZE_LIMIT, &mut none),
            line_length: usize::try_from(line_length).unwrap_or(2048),
            command_directory: main.get(postfix::COMMAND_DIRECTORY, &mut none).into(),
            showq: root.join("public").join(showq),
            pickup: root.join("public").join(pickup),
            mail_owner: main.get(postfix::MAIL_OWNER, &mut none),
            listing: queue::ListingOptions {
                empty_address: main.get(postfix::EMPTY_ADDRESS_RECIPIENT, &mut none),
                duplicates: usize::try_from(duplicates).unwrap_or(usize::MAX),
            },
            may_submit: main.get(postfix::AUTHORIZED_SUBMIT_USERS, &mut none),
            may_list: main.get(postfix::AUTHORIZED_MAILQ_USERS, &mut none),
            may_flush: main.get(postfix::AUTHORIZED_FLUSH_USERS, &mut none),
        })
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.queue.root.join(name)
    }
}

/// The directory that `-c`, `MAIL_CONFIG` or nobody named.
#[must_use]
pub fn config_directory(named: Option<&str>) -> PathBuf {
    named
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("MAIL_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY))
}

/// The system's own words for an error, as the originals print them.
#[must_use]
pub fn why(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

/// Who runs the command.
#[derive(Clone, Debug)]
pub struct Caller {
    pub uid: u32,
    /// The login name, or nothing if the uid has none.
    pub name: String,
    pub gecos: String,
}

impl Caller {
    #[must_use]
    pub fn this() -> Self {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        let (name, gecos) = user.map_or_else(Default::default, |user| {
            (user.name, user.gecos.to_string_lossy().into_owned())
        });
        Self { uid: uid.as_raw(), name, gecos }
    }

    /// Whether a list such as `authorized_submit_users` allows this. root and the mail owner
    /// always may; a table that these small programs cannot ask allows nobody.
    #[must_use]
    pub fn is_allowed(&self, list: &[postfix::Match], owner: &str) -> bool {
        if self.uid == 0 || self.name == owner {
            return true;
        }
        for item in list {
            let matches = match &item.pattern {
                postfix::Pattern::Text(name) => *name == self.name,
                postfix::Pattern::Table(table) => table.kind == "static",
                _ => false,
            };
            if matches {
                return !item.negated;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::postfix::{Match, Pattern, Table};

    #[test]
    fn lists_of_users_decide_in_their_order() {
        let caller = Caller { uid: 1001, name: "eve".into(), gecos: String::new() };
        let text =
            |name: &str, negated| Match { negated, pattern: Pattern::Text(name.into()), at: None };
        let anyone = Match {
            negated: false,
            pattern: Pattern::Table(Table {
                kind: "static".into(),
                name: "anyone".into(),
                at: None,
            }),
            at: None,
        };
        assert!(caller.is_allowed(std::slice::from_ref(&anyone), "postfix"));
        assert!(!caller.is_allowed(&[text("eve", true), anyone], "postfix"));
        assert!(!caller.is_allowed(&[text("adam", false)], "postfix"));
        assert!(caller.is_allowed(&[], "eve"));
    }

    #[test]
    fn who_may_do_what_is_read_from_main_cf() {
        let directory = std::env::temp_dir().join(format!("th-classic-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let read = |line: &str| {
            std::fs::write(directory.join("master.cf"), "").unwrap();
            std::fs::write(directory.join("main.cf"), line).unwrap();
            let site = super::Site::read(&directory, 1).unwrap_or_else(|_| unreachable!());
            format!(
                "{:?}",
                (site.may_submit, site.may_list, site.may_flush, site.showq, site.pickup)
            )
        };
        let plain = read("");
        for line in [
            "authorized_submit_users = x",
            "authorized_mailq_users = x",
            "authorized_flush_users = x",
            "showq_service_name = x",
            "pickup_service_name = x",
        ] {
            assert_ne!(read(line), plain, "{line}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
