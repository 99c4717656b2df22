//! Lines in a file, each as the program that we stand in for would have written it there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use config::{Place, Problems};

use crate::journal::{Entry, everything_to_stderr};
use crate::plan::{Log, LogFile, LogStyle};

/// What stands in front of a line of Dovecot's that is no mere information.
const LEVELS: [&str; 5] = ["Debug: ", "Warning: ", "Error: ", "Fatal: ", "Panic: "];

/// Opens the files of `log`, in their order; none where everything goes to stderr.
pub(crate) fn open_all(log: &mut Log, problems: &mut Problems) -> Vec<OwnedFd> {
    if everything_to_stderr() {
        log.files.clear();
    }
    let mut opened = Vec::new();
    for file in &log.files {
        match open(file) {
            Ok(descriptor) => opened.push(descriptor),
            Err(error) => {
                let place = file.place.clone().unwrap_or_else(|| Place::file(&file.path));
                let path = file.path.display();
                problems.error(place, format!("cannot open the log file {path}: {error}"));
            }
        }
    }
    opened
}

fn open(file: &LogFile) -> io::Result<OwnedFd> {
    if file.path == Path::new("/dev/stdout") {
        return io::stdout().as_fd().try_clone_to_owned();
    }
    if file.path == Path::new("/dev/stderr") {
        return io::stderr().as_fd().try_clone_to_owned();
    }
    let opened: File =
        OpenOptions::new().append(true).create(true).mode(file.mode).open(&file.path)?;
    Ok(opened.into())
}

impl LogFile {
    pub(crate) fn takes(&self, entry: &Entry) -> bool {
        let (first, last) = self.priorities;
        (first..=last).contains(&entry.priority)
            && (self.ident.is_empty() || self.ident == entry.ident)
    }
}

impl LogStyle {
    pub(crate) fn line(&self, entry: &Entry) -> Vec<u8> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or_default();
        self.line_at(now, std::process::id(), entry).into_bytes()
    }

    fn line_at(&self, now: i64, pid: u32, entry: &Entry) -> String {
        match self {
            Self::Postfix { host } => {
                let time = local_time("%b %e %H:%M:%S", now);
                format!("{time} {host} {}[{pid}]: {}\n", entry.ident, entry.message)
            }
            Self::Dovecot { time } => {
                format!("{}{}\n", local_time(time, now), levelled(&entry.message, entry.priority))
            }
        }
    }
}

fn local_time(form: &str, now: i64) -> String {
    message::date::format_as(form, now).unwrap_or_default()
}

/// Dovecot writes the level behind the prefix that says who speaks: `imap-login: Info: Login: …`. Our lines have it there
/// already, but for information, which syslog's lines do not name.
fn levelled(message: &str, priority: u8) -> String {
    let (prefix, text) = match message.split_once(": ") {
        Some((prefix, text)) if !prefix.contains(' ') && !is_level(prefix) => (prefix, text),
        _ => ("", message),
    };
    let level = match priority {
        _ if LEVELS.iter().any(|level| text.starts_with(level)) => "",
        7 => "Debug: ",
        5 | 6 => "Info: ",
        4 => "Warning: ",
        _ => "Error: ",
    };
    let text = text.strip_prefix("warning: ").unwrap_or(text);
    match prefix {
        "" => format!("master: {level}{text}"),
        prefix => format!("{prefix}: {level}{text}"),
    }
}

/// `warning` and the like are no name of a speaker.
fn is_level(word: &str) -> bool {
    ["warning", "fatal", "panic", "error"].contains(&word)
        || LEVELS.iter().any(|level| level.trim_end_matches(": ") == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Sink, Target};
    use std::sync::Arc;
    use std::time::Duration;

    fn entry(ident: &str, priority: u8, message: &str) -> Entry {
        Entry {
            priority,
            facility: 2,
            ident: ident.to_owned(),
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    /// As postlogd wrote it, but for the hour, which is the machine's.
    #[test]
    fn a_line_as_postfix_writes_it() {
        let style = LogStyle::Postfix { host: "mail".into() };
        let connect = entry("postfix/smtpd", 6, "connect from localhost[127.0.0.1]");
        let line = style.line_at(1_793_620_800, 31816, &connect);
        let (time, rest) = line.split_at(15);
        assert_eq!(rest, " mail postfix/smtpd[31816]: connect from localhost[127.0.0.1]\n");
        assert!(time.starts_with("Nov  2 ") || time.starts_with("Nov  1 "), "{line}");
    }

    /// As Dovecot's log process wrote them.
    #[test]
    fn lines_as_dovecot_writes_them() {
        let style = LogStyle::Dovecot { time: "%Y ".into() };
        for (priority, message, written) in [
            (6, "imap-login: Login: user=<a>", "imap-login: Info: Login: user=<a>"),
            (6, "imap(a@b)<7><x>: Logged out in=1", "imap(a@b)<7><x>: Info: Logged out in=1"),
            (3, "imap: Error: no: mail", "imap: Error: no: mail"),
            (4, "auth: Warning: slow", "auth: Warning: slow"),
            (7, "auth: asked", "auth: Debug: asked"),
            (6, "imapd 0.1.0 ready: 3", "master: Info: imapd 0.1.0 ready: 3"),
            (4, "warning: a: b", "master: Warning: a: b"),
            (3, "/etc/x:3: bad", "/etc/x:3: Error: bad"),
        ] {
            let line = style.line_at(1_793_620_800, 1, &entry("dovecot", priority, message));
            assert_eq!(line, format!("2026 {written}\n"), "{message}");
        }
    }

    #[test]
    fn each_line_goes_to_the_first_file_that_takes_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, ident: &str, priorities| LogFile {
            path: directory.path().join(name),
            style: LogStyle::Postfix { host: "mail".into() },
            ident: ident.to_owned(),
            priorities,
            mode: 0o600,
            place: None,
        };
        let files = [
            file("errors", "dovecot", (0, 4)),
            file("info", "dovecot", (5, 7)),
            file("rest", "", (0, 7)),
        ];
        let opened = files.map(|file| {
            let descriptor = open(&file).unwrap();
            (file, Arc::new(File::from(descriptor)))
        });
        let sink = Sink::start(Target::Stderr);
        sink.redirect(opened.into());
        for (ident, priority) in [("dovecot", 3), ("dovecot", 6), ("postfix/smtpd", 3)] {
            sink.write(entry(ident, priority, &format!("{ident} {priority}")));
        }
        sink.flush(Duration::from_secs(5));
        for (name, line) in
            [("errors", "dovecot 3\n"), ("info", "dovecot 6\n"), ("rest", "postfix/smtpd 3\n")]
        {
            let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
            assert!(text.ends_with(line) && text.lines().count() == 1, "{name}: {text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_with_its_setting() {
        let place = Place::new("/etc/postfix/main.cf", 7);
        let mut log = Log { files: Vec::new(), ..Log::default() };
        log.files.push(LogFile {
            path: "/nowhere/maillog".into(),
            style: LogStyle::Postfix { host: "mail".into() },
            ident: String::new(),
            priorities: (0, 7),
            mode: 0o600,
            place: Some(place),
        });
        let mut problems = Problems::default();
        assert!(open_all(&mut log, &mut problems).is_empty());
        let told = problems.to_string();
        assert!(
            told.starts_with("/etc/postfix/main.cf:7: cannot open the log file /nowhere/maillog"),
            "{told}"
        );
    }
}
