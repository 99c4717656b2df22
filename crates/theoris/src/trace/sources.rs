//! Where log lines come from: the journal, or log files, also those that logrotate has compressed. They are read as a
//! stream, one line at a time, each bounded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::files::Disk;
use config::postfix::Host;
use config::{Files as _, Problems};

use super::line::{FIELDS, Line};

/// A longer line is cut; the rest of it is passed over.
const LONGEST_LINE: usize = 64 * 1024;
/// Where syslog daemons write mail's lines.
const FILES: [&str; 2] = ["/var/log/mail.log", "/var/log/maillog"];
/// Older files than so many are not read.
const MOST_FILES: usize = 100;

/// One place with log lines, to be read as often as is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Journal { since: SystemTime },
    Files { paths: Vec<PathBuf>, since: SystemTime },
}

impl Source {
    /// What there is on this host, the better first; the file that main.cf in `directory` names is one of them.
    pub fn of_host(since: SystemTime, directory: &Path) -> Vec<Self> {
        let mut sources = Vec::new();
        if ["/var/log/journal", "/run/log/journal"].iter().any(|path| Path::new(path).is_dir()) {
            sources.push(Self::Journal { since });
        }
        let own = maillog_file(directory);
        let files = own.into_iter().chain(FILES.map(PathBuf::from));
        let paths: Vec<PathBuf> = files.flat_map(|path| with_rotated(&path, since)).collect();
        if !paths.is_empty() {
            sources.push(Self::Files { paths, since });
        }
        sources
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Journal { .. } => "the journal".to_owned(),
            Self::Files { paths, .. } => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Gives every line to `tell`, in the order of the log.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a journalctl that cannot be started.
    pub fn each(&self, mut tell: impl FnMut(Line)) -> Result<(), String> {
        match self {
            Self::Journal { since } => journal(Command::new("journalctl"), *since, &mut tell),
            Self::Files { paths, since } => {
                let since = micros(*since);
                for path in paths {
                    let failed = |error: io::Error| {
                        format!("{}: {}", path.display(), crate::classic::why(&error))
                    };
                    let file = File::open(path).map_err(failed)?;
                    let newest =
                        file.metadata().and_then(|facts| facts.modified()).map_err(failed)?;
                    let tell = |line: &[u8]| {
                        if let Some(line) = Line::of_syslog(line, micros(newest) / 1_000_000)
                            && line.at >= since
                        {
                            tell(line);
                        }
                    };
                    match path.extension().is_some_and(|end| end == "gz") {
                        true => compressed(file, tell).map_err(failed)?,
                        false => lines(file, tell).map_err(failed)?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Where Postfix's lines go instead of to syslog, if it is a file that can be read again.
fn maillog_file(directory: &Path) -> Option<PathBuf> {
    if !Disk.is_file(&directory.join("main.cf")) {
        return None;
    }
    let mut quiet = Problems::default();
    let named = Host::read(&Disk, directory, &mut quiet).main().text("maillog_file", &mut quiet)?;
    let path = PathBuf::from(named.as_str());
    (path.is_file() && !path.starts_with("/dev")).then_some(path)
}

/// A log file and what logrotate has made of it before (`mail.log.1`, `mail.log.2.gz`, `maillog-20260412.gz`), the oldest
/// first; none that was finished before `since`.
fn with_rotated(path: &Path, since: SystemTime) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let is_rotated = |other: &str| {
        let end = other.strip_prefix(name).and_then(|rest| rest.strip_prefix(['.', '-']));
        let number = end.map(|end| end.strip_suffix(".gz").unwrap_or(end));
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        })
    };
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let finished = entry.metadata().and_then(|facts| facts.modified());
        if let (Some(true), Ok(finished)) = (entry.file_name().to_str().map(is_rotated), finished)
            && finished >= since
        {
            found.push((finished, entry.path()));
        }
    }
    found.sort();
    let newest = found.len().saturating_sub(MOST_FILES);
    let mut paths: Vec<PathBuf> = found.into_iter().skip(newest).map(|(_, path)| path).collect();
    paths.extend(Some(path.to_owned()).filter(|path| path.is_file()));
    paths
}

/// The lines of a file that gzip has compressed.
fn compressed(file: File, tell: impl FnMut(&[u8])) -> io::Result<()> {
    let mut command = Command::new("gzip");
    command.arg("-dc").stdin(file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Ended(command.spawn()?);
    if let Some(out) = child.0.stdout.take() {
        lines(out, tell)?;
    }
    // 2 is a warning, such as rubbish behind the end.
    match child.0.wait()?.code() {
        Some(0 | 2) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "gzip cannot read it")),
    }
}

/// `command` is journalctl, without arguments.
fn journal(
    mut command: Command,
    since: SystemTime,
    tell: &mut dyn FnMut(Line),
) -> Result<(), String> {
    command
        .args([
            "--output=json",
            "--no-pager",
            "--quiet",
            "--all",
            &format!("--output-fields={FIELDS}"),
        ])
        .arg(format!("--since=@{}", micros(since) / 1_000_000))
        // LOG_MAIL: Postfix, Dovecot, OpenDKIM and our daemons write there.
        .arg("SYSLOG_FACILITY=2")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let failed = |error: io::Error| format!("journalctl: {}", crate::classic::why(&error));
    let mut child = Ended(command.spawn().map_err(failed)?);
    if let Some(out) = child.0.stdout.take() {
        lines(out, |line| {
            if let Some(line) = Line::of_journal(line) {
                tell(line);
            }
        })
        .map_err(failed)?;
    }
    Ok(())
}

/// A child that does not outlive its reader.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each line without its end, cut at [`LONGEST_LINE`].
fn lines(source: impl Read, mut tell: impl FnMut(&[u8])) -> io::Result<()> {
    let mut source = BufReader::with_capacity(256 * 1024, source);
    let mut line = Vec::new();
    loop {
        let found = source.fill_buf()?;
        if found.is_empty() {
            if !line.is_empty() {
                tell(&line);
            }
            return Ok(());
        }
        let end = found.iter().position(|octet| *octet == b'\n');
        let part = &found[..end.unwrap_or(found.len())];
        let room = LONGEST_LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let taken = part.len() + usize::from(end.is_some());
        source.consume(taken);
        if end.is_some() {
            tell(&line);
            line.clear();
        }
    }
}

/// Microseconds since the epoch.
pub fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// `90m`, `12h`, `5d`, `2w`; a bare number is seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_the_next_ones_read() {
        let text = format!("{}\nsecond\n\nlast", "x".repeat(3 * LONGEST_LINE));
        let mut found = Vec::new();
        lines(text.as_bytes(), |line| found.push((line.len(), line.first().copied()))).unwrap();
        assert_eq!(
            found,
            [(LONGEST_LINE, Some(b'x')), (6, Some(b's')), (0, None), (4, Some(b'l'))]
        );
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("90m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("2w"), Some(Duration::from_secs(14 * 86_400)));
        assert_eq!(duration("30"), Some(Duration::from_secs(30)));
        for wrong in ["", "d", "5y", "-1d", "99999999999999999999d", "18446744073709551615w"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_is_read_from_a_moment_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mail.log");
        std::fs::write(
            &path,
            "2026-04-10T00:00:00Z h p: old\nrubbish\n2026-04-12T00:00:00Z h p: new\n",
        )
        .unwrap();
        let since = UNIX_EPOCH + Duration::from_secs(1_775_865_600); // 2026-04-11
        let mut found = Vec::new();
        Source::Files { paths: vec![path], since }.each(|line| found.push(line.text)).unwrap();
        assert_eq!(found, ["new"]);
        let missing = Source::Files { paths: vec!["/none".into()], since };
        assert_eq!(missing.each(|_| ()).unwrap_err(), "/none: No such file or directory");
    }

    #[test]
    fn the_journal_is_asked_for_mails_lines_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (script, asked) = (directory.path().join("journalctl"), directory.path().join("asked"));
        let entry = r#"{"__REALTIME_TIMESTAMP":"1775781000000001","MESSAGE":"TEXT","SYSLOG_IDENTIFIER":"dovecot","_HOSTNAME":"h"}"#;
        let lines = format!(
            "{}\nrubbish\n{}\n",
            entry.replace("TEXT", "one"),
            entry.replace("TEXT", "two")
        );
        let text = format!("echo \"$@\" > {}\ncat <<'END'\n{lines}END\n", asked.display());
        std::fs::write(&script, text).unwrap();
        let mut shell = Command::new("sh");
        shell.arg(&script);
        let since = UNIX_EPOCH + Duration::from_secs(1_775_781_000);
        let mut found = Vec::new();
        journal(shell, since, &mut |line| found.push(format!("{}: {}", line.source, line.text)))
            .unwrap();
        assert_eq!(found, ["dovecot: one", "dovecot: two"]);
        let asked = std::fs::read_to_string(asked).unwrap();
        assert!(asked.contains("--since=@1775781000 SYSLOG_FACILITY=2"), "{asked}");
        let none = journal(Command::new("/none/journalctl"), since, &mut |_| ());
        assert_eq!(none.unwrap_err(), "journalctl: No such file or directory");
    }

    #[test]
    fn the_file_that_main_cf_names_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("postfix.log");
        let main = |file: &str| {
            std::fs::write(directory.path().join("main.cf"), format!("maillog_file = {file}\n"))
                .unwrap();
            maillog_file(directory.path())
        };
        assert_eq!(maillog_file(directory.path()), None);
        std::fs::write(&log, "").unwrap();
        assert_eq!(main(&log.display().to_string()), Some(log));
        assert_eq!((main("/dev/stdout"), main("")), (None, None));
    }

    #[test]
    fn rotated_and_compressed_files_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // 2026-04-01 and on, a day each.
        let day = |number: u64| UNIX_EPOCH + Duration::from_secs(1_775_001_600 + number * 86_400);
        for (name, text, number) in [
            ("mail.log.10", "ten", 0),
            ("mail.log.3", "three", 2),
            ("mail.log.2", "two", 3),
            ("mail.log.1", "one", 4),
            ("mail.log", "newest", 5),
            ("mail.log.old", "another", 5),
            ("mail.logs", "another", 5),
        ] {
            let line = format!("2026-04-0{}T00:00:00Z h p: {text}\n", number + 1);
            std::fs::write(at(name), line).unwrap();
            let file = File::options().append(true).open(at(name)).unwrap();
            file.set_modified(day(number) + Duration::from_secs(60)).unwrap();
        }
        for name in ["mail.log.3", "mail.log.2"] {
            assert!(Command::new("gzip").arg(at(name)).status().unwrap().success());
        }
        let read = |since: SystemTime| {
            let paths = with_rotated(&at("mail.log"), since);
            let mut found = Vec::new();
            Source::Files { paths, since }.each(|line| found.push(line.text)).unwrap();
            found
        };
        assert_eq!(read(UNIX_EPOCH), ["ten", "three", "two", "one", "newest"]);
        assert_eq!(read(day(3)), ["two", "one", "newest"]);
        assert_eq!(with_rotated(&at("maillog"), UNIX_EPOCH), Vec::<PathBuf>::new());
        std::fs::write(at("mail.log.2.gz"), "no gzip").unwrap();
        let broken = Source::Files { paths: vec![at("mail.log.2.gz")], since: UNIX_EPOCH };
        assert!(broken.each(|_| ()).unwrap_err().ends_with("mail.log.2.gz: gzip cannot read it"));
    }
}
