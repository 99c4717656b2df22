//! Where the host's files and our daemons are.

use std::path::{Path, PathBuf};

use super::arguments::{Arguments, Known};

/// The options that name files, for every subcommand that reads the host's configuration.
pub const OPTIONS: [Known; 6] = [
    ("-c", true),
    ("--dovecot", true),
    ("-x", true),
    ("--theoris", true),
    ("--daemons", true),
    ("--state", true),
];

/// Where packages put the daemons.
const INSTALLED: &str = "/usr/libexec/theoris";

/// A file, and whether the operator named it: one that was not named may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub path: PathBuf,
    pub by_operator: bool,
}

/// The places that a subcommand looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Postfix's configuration directory.
    pub postfix: Named,
    /// dovecot.conf
    pub dovecot: Named,
    /// opendkim.conf
    pub opendkim: Named,
    /// theoris.toml
    pub theoris: Named,
    /// The directory of our daemons.
    pub daemons: PathBuf,
    /// Where adopting remembers what is ours.
    pub state: PathBuf,
}

impl Paths {
    /// `-c`, `--dovecot`, `-x`, `--theoris` and `--daemons`, with the originals' own places as defaults.
    #[must_use]
    pub fn of(arguments: &Arguments) -> Self {
        let named = |option: &str, usual: &str| match arguments.value(option) {
            Some(path) => Named { path: path.into(), by_operator: true },
            None => Named { path: usual.into(), by_operator: false },
        };
        let mut postfix = named("-c", "/etc/postfix");
        if let (false, Some(path)) = (postfix.by_operator, std::env::var_os("MAIL_CONFIG")) {
            postfix = Named { path: path.into(), by_operator: true };
        }
        Self {
            postfix,
            dovecot: named("--dovecot", "/etc/dovecot/dovecot.conf"),
            opendkim: named("-x", "/etc/opendkim.conf"),
            theoris: named("--theoris", "/etc/theoris/theoris.toml"),
            daemons: arguments.value("--daemons").map_or_else(installed, PathBuf::from),
            state: arguments.value("--state").unwrap_or("/var/lib/theoris").into(),
        }
    }
}

/// Beside this program when the daemons are there, as in a build directory; else where packages put them.
fn installed() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    beside
        .filter(|directory| directory.join("queue-manager").is_file())
        .unwrap_or_else(|| PathBuf::from(INSTALLED))
}
