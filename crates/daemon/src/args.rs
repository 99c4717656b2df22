//! The command line that all daemons share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where theoris.toml stands when nothing else is said; it may be missing.
pub const THEORIS_TOML: &str = "/etc/theoris/theoris.toml";

/// What the operator, or the unit, wrote behind the daemon's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `-c PATH`, or `MAIL_CONFIG`: Postfix's configuration directory or Dovecot's file.
    pub config: Option<PathBuf>,
    /// `--dovecot FILE`, for a daemon that reads both: `-c` is then Postfix's directory.
    pub dovecot: Option<PathBuf>,
    /// `-x FILE`: OpenDKIM's file.
    pub opendkim: Option<PathBuf>,
    /// `--theoris FILE`.
    pub theoris: Option<PathBuf>,
    /// `--set NAME=VALUE`, each over theoris.toml.
    pub sets: Vec<String>,
    /// `--check`: read everything, say what is wrong, change nothing.
    pub check: bool,
    /// `--plan`: print what would be run, as JSON, and end.
    pub plan: bool,
    /// `--json`: the answer of `--check` for programs.
    pub json: bool,
}

impl Args {
    pub(crate) const USAGE: &str = "[-c PATH] [--dovecot FILE] [-x FILE] [--theoris FILE] [--set NAME=VALUE]... \
                                    [--check [--json]] [--plan]";

    pub(crate) fn from_env() -> Result<Self, String> {
        let mut args = Self::parse(std::env::args_os().skip(1))?;
        if args.config.is_none() {
            args.config = std::env::var_os("MAIL_CONFIG").map(PathBuf::from);
        }
        Ok(args)
    }

    /// Reads the words behind the program's name.
    ///
    /// # Errors
    ///
    /// A sentence that says which word is wrong.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = |option: &str, what: &str| {
                let value = words.next().filter(|value| !value.is_empty());
                value.ok_or_else(|| format!("{option} needs {what}"))
            };
            let mut path = |option: &str| value(option, "a path").map(PathBuf::from);
            match word.to_str() {
                Some("-c") => args.config = Some(path("-c")?),
                Some("--dovecot") => args.dovecot = Some(path("--dovecot")?),
                Some("-x") => args.opendkim = Some(path("-x")?),
                Some("--theoris") => args.theoris = Some(path("--theoris")?),
                Some("--set") => {
                    args.sets.push(value("--set", "NAME=VALUE")?.to_string_lossy().into_owned())
                }
                Some("--check") => args.check = true,
                Some("--plan") => args.plan = true,
                Some("--json") => args.json = true,
                _ => return Err(format!("unknown argument: {}", word.to_string_lossy())),
            }
        }
        Ok(args)
    }

    /// The configuration that was named, or `default`.
    pub fn config_or(&self, default: &str) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(default))
    }

    /// theoris.toml, and whether it has to exist because it was named.
    pub fn theoris_toml(&self) -> (&Path, bool) {
        self.theoris.as_deref().map_or((Path::new(THEORIS_TOML), false), |path| (path, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn words_are_read_and_unknown_ones_refused() {
        let args = parse(&["-c", "/etc/postfix", "--check", "--json"]).unwrap();
        assert_eq!(args.config_or("/x"), PathBuf::from("/etc/postfix"));
        assert!(args.check && args.json && !args.theoris_toml().1);
        assert_eq!(parse(&["-c"]).unwrap_err(), "-c needs a path");
        assert_eq!(parse(&["--chek"]).unwrap_err(), "unknown argument: --chek");
    }

    #[test]
    fn the_usage_names_every_word() {
        let source = include_str!("args.rs");
        let read = source.lines().filter_map(|line| line.trim().strip_prefix("Some(\"-"));
        let words: Vec<&str> = read.filter_map(|line| line.split('"').next()).collect();
        assert!(words.len() >= 8, "{words:?}");
        for word in words {
            let word = format!("[-{word}");
            let named = Args::USAGE.split(' ').any(|usage| usage.trim_end_matches(']') == word);
            assert!(named, "{word}: {}", Args::USAGE);
        }
    }
}
