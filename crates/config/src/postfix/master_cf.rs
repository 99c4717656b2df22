//! The services of master.cf.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lines::logical_lines;
use super::main_cf;
use super::words::{blank_separated, without_braces};
use crate::text::{Sourced, Word};
use crate::{Place, Problems};

/// The mark that `theoris adopt` puts before each line of an entry that we serve: a comment for Postfix, live for us.
pub const ADOPTED: &str = "#theoris: ";

/// Services that Debian's postinst and `postfix upgrade-configuration` add again when they find no live line of theirs.
/// They are never marked: who takes one over holds its socket path while Postfix's line stays live.
pub const STAYS_LIVE: &[&str] = &[
    "flush",
    "relay",
    "trace",
    "verify",
    "anvil",
    "scache",
    "discard",
    "retry",
    "tlsmgr",
    "proxymap",
    "proxywrite",
    "postlog",
];

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    pub at: Place,
    /// `smtp`, `[127.0.0.1]:10025`, `cleanup`, …
    pub name: String,
    pub kind: ServiceType,
    pub private: Private,
    /// The program drops root.
    pub unprivileged: bool,
    /// The program's paths start at the queue directory ([`super::Host::path`]). `None`: the default, by compatibility level.
    pub chroot: Option<bool>,
    pub wakeup: Wakeup,
    /// The most processes; `Some(0)` is no limit, `None` the default.
    pub limit: Option<u32>,
    pub command: String,
    /// `-o name=value`, the last of a name wins.
    pub overrides: Vec<Override>,
    /// `-v` and its like, as written.
    pub flags: Vec<Argument>,
    /// What follows the options: `flags=… user=… argv=…` of pipe(8).
    pub operands: Vec<Argument>,
    /// Marked by `theoris adopt`: Postfix leaves it to us.
    pub adopted: bool,
    /// Somebody has added a second entry, which has no mark: Postfix will serve that.
    pub live_again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceType {
    Inet,
    Unix,
    UnixDgram,
    Fifo,
    Pass,
}

impl ServiceType {
    /// The word in master.cf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Unix => "unix",
            Self::UnixDgram => "unix-dgram",
            Self::Fifo => "fifo",
            Self::Pass => "pass",
        }
    }
}

/// Which directory holds a service's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Private {
    Public,
    Private,
}

/// How often master(8) would wake the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakeup {
    /// `None`: never.
    pub every: Option<Duration>,
    /// Only once the service has been used (`?`).
    pub once_used: bool,
}

/// An argument with its braces taken off.
pub type Argument = Word;

/// `-o name=value`.
#[derive(Clone, Debug)]
pub struct Override {
    pub name: String,
    pub value: Sourced,
    pub at: Place,
}

impl Service {
    /// The value of `-o name=…`.
    pub fn override_of(&self, name: &str) -> Option<&Override> {
        self.overrides.iter().rev().find(|known| known.name == name)
    }

    /// The path of a local service's socket below the queue directory: `private/smtp`.
    pub fn socket(&self) -> Option<String> {
        let directory = match self.private {
            Private::Private => "private",
            Private::Public => "public",
        };
        (self.kind != ServiceType::Inet).then(|| format!("{directory}/{}", self.name))
    }
}

/// Reads master.cf. A service of the same name and type given twice is an error, as Postfix takes the first with a warning.
pub fn read(path: &Path, content: &[u8], problems: &mut Problems) -> Vec<Service> {
    let (content, adopted) = without_marks(content);
    let mut services: Vec<Service> = Vec::new();
    for line in logical_lines(path, &content, problems) {
        let Some(at) = line.place().cloned() else { continue };
        let Some(mut service) = entry(&line, &at, problems) else { continue };
        service.adopted = adopted.contains(&at.line);
        let same = |known: &&mut Service| known.name == service.name && known.kind == service.kind;
        if let Some(first) = services.iter_mut().find(same) {
            first.live_again |= first.adopted && !service.adopted;
            problems
                .warning(
                    at.clone(),
                    format!(
                        "{} was already defined in line {}, which counts",
                        service.name, first.at.line
                    ),
                )
                .instead("keep one of the two");
            continue;
        }
        services.push(service);
    }
    services
}

/// The file with our marks taken off, and the lines that had one.
fn without_marks(content: &[u8]) -> (Vec<u8>, BTreeSet<usize>) {
    let mut adopted = BTreeSet::new();
    let mut plain = Vec::with_capacity(content.len());
    for (index, line) in content.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match line.strip_prefix(ADOPTED.as_bytes()) {
            Some(live) => {
                adopted.insert(index + 1);
                plain.extend_from_slice(live);
            }
            None => plain.extend_from_slice(line),
        }
    }
    (plain, adopted)
}

const FIELDS: &str = "write: name type private unpriv chroot wakeup maxproc command arguments";

fn entry(line: &Sourced, at: &Place, problems: &mut Problems) -> Option<Service> {
    let words = blank_separated(line);
    let [name, kind, private, unpriv, chroot, wakeup, limit, command, arguments @ ..] =
        words.as_slice()
    else {
        problems
            .error(at.clone(), format!("{} fields where a service has at least 8", words.len()))
            .instead(FIELDS);
        return None;
    };
    let mut bad = |word: &Word, field: &str, instead: &str| {
        problems
            .error(at.clone(), format!("{}: bad {field} \"{word}\"", name.text))
            .instead(instead);
    };
    let kind = match kind.as_str() {
        "inet" => ServiceType::Inet,
        "unix" => ServiceType::Unix,
        "unix-dgram" => ServiceType::UnixDgram,
        "fifo" => ServiceType::Fifo,
        "pass" => ServiceType::Pass,
        _ => {
            bad(kind, "type", "write inet, unix, unix-dgram, fifo or pass");
            return None;
        }
    };
    let mut flag = |word: &Word, field: &str| match word.as_str() {
        "y" => Some(Some(true)),
        "n" => Some(Some(false)),
        "-" => Some(None),
        _ => {
            bad(word, field, "write y, n or -");
            None
        }
    };
    let (private, unpriv, chroot) =
        (flag(private, "private")?, flag(unpriv, "unprivileged")?, flag(chroot, "chroot")?);
    let Some(wakeup) = wakeup_of(wakeup.as_str()) else {
        bad(wakeup, "wakeup time", "write seconds, seconds with ?, or -");
        return None;
    };
    let limit = match limit.as_str() {
        "-" => None,
        number => match number.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                bad(limit, "process limit", "write a number or -");
                return None;
            }
        },
    };
    if kind == ServiceType::Inet && private.unwrap_or(true) {
        bad(&Word { text: "y".into(), at: None }, "private", "an inet service must have n");
        return None;
    }
    let mut service = Service {
        at: at.clone(),
        name: name.text.clone(),
        kind,
        private: if private.unwrap_or(true) { Private::Private } else { Private::Public },
        unprivileged: unpriv.unwrap_or(true),
        chroot,
        wakeup,
        limit,
        command: command.text.clone(),
        overrides: Vec::new(),
        flags: Vec::new(),
        operands: Vec::new(),
        adopted: false,
        live_again: false,
    };
    read_arguments(&mut service, line, arguments, problems);
    Some(service)
}

fn wakeup_of(text: &str) -> Option<Wakeup> {
    if text == "-" {
        return Some(Wakeup::default());
    }
    let seconds = text.strip_suffix('?').unwrap_or(text);
    let seconds: u32 = seconds.parse().ok()?;
    let every = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    Some(Wakeup { every, once_used: text.ends_with('?') })
}

/// The options that take a value, beside `-o`.
const VALUED: &str = "imnrst";

fn read_arguments(service: &mut Service, line: &Sourced, words: &[Word], problems: &mut Problems) {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let text = without_braces(&word.text);
        let Some(option) = text.strip_prefix('-').filter(|option| !option.is_empty()) else {
            service.operands.extend(std::iter::once(word).chain(rest).map(bare));
            return;
        };
        if let Some(joined) = option.strip_prefix('o') {
            let argument = if joined.is_empty() {
                rest.next().map(|next| without_braces(&next.text))
            } else {
                Some(joined.trim_ascii())
            };
            let at = word.at.clone().or_else(|| line.place().cloned());
            add_override(service, argument, at, problems);
            continue;
        }
        service.flags.push(bare(word));
        if option.len() == 1 && VALUED.contains(option) {
            service.flags.extend(rest.next().map(bare));
        }
    }
}

fn bare(word: &Word) -> Argument {
    Word { text: without_braces(&word.text).to_owned(), at: word.at.clone() }
}

fn add_override(
    service: &mut Service,
    argument: Option<&str>,
    at: Option<Place>,
    problems: &mut Problems,
) {
    let at = at.unwrap_or_else(|| service.at.clone());
    let argument = argument.unwrap_or_default();
    match main_cf::split(&Sourced::new(argument, &at)) {
        Ok((name, value)) => service.overrides.push(Override { name, value, at }),
        Err(what) => {
            let what = format!("{}: -o {}: {what}", service.name, main_cf::shortened(argument));
            problems
                .error(at.clone(), what)
                .instead("write -o name=value, or -o { name = value } when it holds blanks");
        }
    }
}
