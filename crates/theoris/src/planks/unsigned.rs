//! Mail that Postfix let pass while no filter listened: with `milter_default_action = accept` it goes on unsigned.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Mishap;
use super::process::Address;
use super::services::run;
use super::steps::PULSE;

const LONGEST: u64 = 16 << 20;
/// How far Postfix's log may be behind.
const LAG: Duration = Duration::from_millis(200);
/// What Postfix says of a filter that it cannot reach, or that has gone.
const MISSED: [&str; 2] = ["warning: connect to Milter service ", "warning: milter "];
/// How long the journal may take to answer.
const QUESTION: Duration = Duration::from_secs(5);
const LONGEST_SESSION: Duration = Duration::from_secs(15);

/// A place in Postfix's log: in its file, where there is one and somebody writes it, else in the journal.
#[derive(Clone, Debug)]
pub struct Mark {
    log: Option<PathBuf>,
    offset: u64,
    /// Seconds since 1970.
    at: u64,
}

impl Mark {
    /// The end of the log, now.
    pub fn here(log: Option<&Path>) -> Self {
        let offset = log.and_then(|log| std::fs::metadata(log).ok()).map_or(0, |facts| facts.len());
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { log: log.map(Path::to_owned), offset, at }
    }

    /// What has passed the filter by since, for the operator. A client that came while nobody listened has no filter to
    /// the end of its session, so those sessions are waited for.
    pub fn unfiltered(&self, at: &Address) -> Vec<String> {
        let begin = Instant::now();
        let seen = loop {
            let seen = match self.read() {
                Ok(text) => queue_ids(&String::from_utf8_lossy(&text)),
                Err(why) => return vec![format!("{why}: cannot tell what passed unsigned")],
            };
            // The log itself may be a moment behind.
            let waited = begin.elapsed();
            if (seen.sessions.is_empty() && waited >= LAG) || waited >= LONGEST_SESSION {
                break seen;
            }
            std::thread::sleep(PULSE * 10);
        };
        let mut told = Vec::new();
        if seen.ids.is_empty() {
            told.push(format!("{at}: no message passed it by"));
        } else {
            let (count, named) = (seen.ids.len(), seen.ids.join(" "));
            told.push(format!(
                "{at}: {count} messages had no filter, and are unsigned if they went out: {named}"
            ));
        }
        for session in seen.sessions {
            told.push(format!("{at}: {session} goes on without a filter until its client goes"));
        }
        told
    }

    fn read(&self) -> Result<Vec<u8>, Mishap> {
        let mut text = Vec::new();
        if let Some(log) = &self.log {
            let mut read = || {
                let mut file = File::open(log)?;
                file.seek(SeekFrom::Start(self.offset))?;
                file.take(LONGEST).read_to_end(&mut text)
            };
            read().map_err(|error| Mishap::file(log, &error))?;
        }
        if !text.is_empty() {
            return Ok(text);
        }
        let mut journal = Command::new("journalctl");
        journal.args(["--quiet", "--no-pager", "-o", "short", "--facility=mail"]);
        journal.arg(format!("--since=@{}", self.at));
        match run(&mut journal, QUESTION) {
            Ok(lines) => Ok(lines.into_bytes()),
            Err(_) if self.log.is_some() => Ok(text),
            Err(why) => Err(why),
        }
    }
}

/// What the log tells of a time without a filter.
#[derive(Debug, Default)]
struct Seen {
    ids: Vec<String>,
    /// Processes of Postfix that still work without.
    sessions: BTreeSet<String>,
}

/// Queue ids of the processes that could not reach their filter, from that line on until the client went. A message that
/// was refused has none.
fn queue_ids(log: &str) -> Seen {
    let mut seen = Seen::default();
    for line in log.lines() {
        let Some((tag, said)) = tagged(line) else { continue };
        if MISSED.iter().any(|warning| said.starts_with(warning)) {
            seen.sessions.insert(tag.to_owned());
        } else if said.starts_with("disconnect from ") || said.starts_with("connect from ") {
            seen.sessions.remove(tag);
        } else if seen.sessions.contains(tag)
            && let Some((id, rest)) = said.split_once(": ")
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && (rest.starts_with("client=") || rest.starts_with("message-id="))
        {
            if rest.starts_with("message-id=") {
                seen.sessions.remove(tag); // cleanup connects anew for each message
            }
            if !seen.ids.iter().any(|known| known == id) {
                seen.ids.push(id.to_owned());
            }
        }
    }
    seen
}

/// `… postfix/smtpd[123]: text`.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let (head, said) = line.split_at_checked(line.find("]: ")? + 1)?;
    let start = head.rfind(' ').map_or(0, |space| space + 1);
    Some((head.get(start..)?, said.strip_prefix(": ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_without_a_filter_are_named() {
        let log = "\
Nov 22 07:00:00 mail postfix/smtpd[1]: connect from a[192.0.2.1]
Nov 22 07:00:00 mail postfix/smtpd[1]: warning: connect to Milter service unix:/x: No such file or directory
Nov 22 07:00:00 mail postfix/smtpd[2]: 4AAA: client=b[192.0.2.2]
Nov 22 07:00:00 mail postfix/smtpd[1]: 4BBB: client=a[192.0.2.1]
Nov 22 07:00:00 mail postfix/cleanup[3]: 4BBB: message-id=<1@a>
Nov 22 07:00:00 mail postfix/smtpd[1]: 4CCC: client=a[192.0.2.1]
Nov 22 07:00:00 mail postfix/smtpd[1]: disconnect from a[192.0.2.1] ehlo=1
Nov 22 07:00:00 mail postfix/smtpd[1]: 4DDD: client=c[192.0.2.3]
Nov 22 07:00:00 mail postfix/cleanup[4]: warning: connect to Milter service inet:127.0.0.1:8891: Connection refused
Nov 22 07:00:00 mail postfix/cleanup[4]: 4EEE: message-id=<2@a>
Nov 22 07:00:00 mail postfix/cleanup[4]: 4FFF: message-id=<3@a>
";
        let seen = queue_ids(log);
        assert_eq!(seen.ids, ["4BBB", "4CCC", "4EEE"]);
        assert!(seen.sessions.is_empty(), "{seen:?}");
        let begun = queue_ids(
            "Nov 22 07:00:00 mail postfix/smtpd[1]: warning: connect to Milter service x\n",
        );
        assert_eq!(begun.sessions.first().map(String::as_str), Some("postfix/smtpd[1]"));
    }
}
