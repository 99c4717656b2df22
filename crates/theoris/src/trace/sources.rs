//! Where log lines come from: the journal, or log files. They are read as a stream, one line at a time, each bounded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::line::{FIELDS, Line};

/// A longer line is cut; the rest of it is passed over.
const LONGEST_LINE: usize = 64 * 1024;
/// Where syslog daemons write mail's lines, and what logrotate leaves beside them.
const FILES: [&str; 4] =
    ["/var/log/mail.log.1", "/var/log/mail.log", "/var/log/maillog.1", "/var/log/maillog"];

/// One place with log lines, to be read as often as is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Journal { since: SystemTime },
    Files { paths: Vec<PathBuf>, since: SystemTime },
}

impl Source {
    /// What there is on this host, the better first.
    pub fn of_host(since: SystemTime) -> Vec<Self> {
        let mut sources = Vec::new();
        if ["/var/log/journal", "/run/log/journal"].iter().any(|path| Path::new(path).is_dir()) {
            sources.push(Self::Journal { since });
        }
        let paths: Vec<PathBuf> =
            FILES.iter().map(PathBuf::from).filter(|path| path.is_file()).collect();
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
            Self::Journal { since } => journal(*since, &mut tell),
            Self::Files { paths, since } => {
                let since = micros(*since);
                for path in paths {
                    let failed = |error: io::Error| {
                        format!("{}: {}", path.display(), crate::classic::why(&error))
                    };
                    let file = File::open(path).map_err(failed)?;
                    let newest =
                        file.metadata().and_then(|facts| facts.modified()).map_err(failed)?;
                    lines(file, |line| {
                        if let Some(line) = Line::of_syslog(line, micros(newest) / 1_000_000)
                            && line.at >= since
                        {
                            tell(line);
                        }
                    })
                    .map_err(failed)?;
                }
                Ok(())
            }
        }
    }
}

fn journal(since: SystemTime, tell: &mut dyn FnMut(Line)) -> Result<(), String> {
    let mut command = Command::new("journalctl");
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
}
