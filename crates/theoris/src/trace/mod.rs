//! `theoris trace`: the life of a message as one time line over all daemons, ours and theirs, from the journal or mail.log,
//! and why it waits if it does.

mod line;
mod search;
mod sources;
pub mod timeline;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::command::arguments::{Arguments, Known};
use crate::command::shown::{self, escaped};
use crate::command::{Command, code};
use search::{MOST_LINES, Search};
use sources::Source;
use timeline::Event;
use waiting::Waiting;

pub const COMMAND: Command = Command {
    name: "trace",
    usage: "QUEUE-ID|MESSAGE-ID|ADDRESS [--since AGE] [--log FILE…] [--json] [-c DIRECTORY]",
    about: "tells the life of a message, from the logs of all daemons, and why it waits",
    run,
};

const OPTIONS: [Known; 4] = [("--since", true), ("--log", true), ("--json", false), ("-c", true)];
/// As long as Postfix keeps a message.
const USUAL_AGE: Duration = Duration::from_secs(5 * 86_400);
/// How often a log is read to follow a message from one queue id to the next.
const MOST_READINGS: usize = 8;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
struct Found {
    /// Where the lines come from.
    log: String,
    queue_ids: Vec<String>,
    lines: Vec<Told>,
    /// Lines that were too many to keep.
    lines_left_out: usize,
    /// Messages of an address that were too many to follow: older ones.
    messages_left_out: usize,
    waiting: Vec<Waiting>,
}

#[derive(Clone, Debug, Serialize)]
struct Told {
    /// Microseconds since the epoch.
    at: i64,
    host: String,
    source: String,
    text: String,
}

fn run(words: &[String]) -> Result<u8, String> {
    let arguments = Arguments::read(words, &OPTIONS)?;
    let [wanted] = arguments.operands.as_slice() else {
        return Err("name one queue id, Message-ID or address".to_owned());
    };
    let age = match arguments.value("--since") {
        Some(text) => sources::duration(text)
            .ok_or_else(|| format!("--since {text}: write 90m, 12h, 5d or 2w"))?,
        None => USUAL_AGE,
    };
    let now = SystemTime::now();
    let since = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let named: Vec<PathBuf> = arguments.values("--log").map(PathBuf::from).collect();
    let directory = crate::classic::config_directory(arguments.value("-c"));
    let sources = match named.is_empty() {
        true => Source::of_host(since, &directory),
        // A log that was named is read from its beginning, unless its age was named too.
        false => vec![Source::Files {
            paths: named,
            since: arguments.value("--since").map_or(SystemTime::UNIX_EPOCH, |_| since),
        }],
    };
    let search = Search::new(wanted)?;
    let found = match look(&search, &sources, &directory) {
        Ok(found) => found,
        Err(why) => {
            eprintln!("theoris trace: {}", escaped(&why));
            return Ok(code::CRITICAL);
        }
    };
    if arguments.has("--json") {
        let text = serde_json::to_string(&found).map_err(|error| error.to_string())?;
        shown::print(&format!("{text}\n"));
    } else {
        shown::print(&text(&found, wanted, now));
    }
    Ok(if found.lines.is_empty() && found.waiting.is_empty() { code::WARNING } else { code::FINE })
}

/// Reads the logs until nothing more is learned; the first source that knows the message is enough.
fn look(search: &Search, sources: &[Source], directory: &Path) -> Result<Found, String> {
    let mut why = None;
    let mut found = Found::default();
    let mut ids = search.clone();
    for source in sources {
        let mut search = search.clone();
        match follow(&mut search, source) {
            Ok(one) if !one.lines.is_empty() => {
                found = one;
                ids = search;
                why = None;
                break;
            }
            Ok(one) => found.log = one.log,
            Err(error) => why = why.or(Some(error)),
        }
    }
    found.queue_ids = ids.ids().map(str::to_owned).collect();
    found.waiting = waiting::find(directory, ids.ids());
    match why {
        Some(why) if found.waiting.is_empty() => Err(why),
        _ if sources.is_empty() && found.waiting.is_empty() => {
            Err("there is neither a journal nor a mail.log here: name a log with --log".to_owned())
        }
        _ => Ok(found),
    }
}

fn follow(search: &mut Search, source: &Source) -> Result<Found, String> {
    let mut found = Found { log: source.name(), ..Found::default() };
    for _ in 0..MOST_READINGS {
        (found.lines, found.lines_left_out) = (Vec::new(), 0);
        source.each(|line| {
            if !search.takes(&line) {
                return;
            }
            if found.lines.len() >= MOST_LINES {
                found.lines_left_out += 1;
                return;
            }
            found.lines.push(Told {
                at: line.at,
                host: line.host,
                source: line.source,
                text: line.text,
            });
        })?;
        if !search.has_grown() {
            break;
        }
    }
    // Of several files.
    found.lines.sort_by_key(|line| line.at);
    found.messages_left_out = search.left_out;
    Ok(found)
}

fn text(found: &Found, wanted: &str, now: SystemTime) -> String {
    let mut text = String::new();
    if found.lines.is_empty() {
        let log = if found.log.is_empty() { "the logs" } else { &found.log };
        text.push_str(&format!("nothing about {} in {}\n", escaped(wanted), escaped(log)));
    }
    let events = found.lines.iter().map(|line| Event {
        at: line.at,
        host: line.host.clone(),
        text: format!("{}: {}", line.source, line.text),
    });
    text.push_str(&timeline::text(events.collect(), None, true));
    if found.lines_left_out > 0 {
        text.push_str(&format!("{} more lines are not shown\n", found.lines_left_out));
    }
    if found.messages_left_out > 0 {
        text.push_str(&format!(
            "{} older messages are not shown; name one by its queue id\n",
            found.messages_left_out
        ));
    }
    for waiting in &found.waiting {
        text.push('\n');
        text.push_str(&waiting.text(now));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::QueueId;
    use std::os::unix::fs::PermissionsExt as _;

    /// The lines that an administrator's guide shows, in both kinds of stamps, between others.
    const LOG: &str = "\
2026-04-10T09:29:59.000000+00:00 mail postfix/smtpd[1]: connect from unknown[192.168.1.100]
2026-04-10T09:30:00.000000+00:00 mail postfix/smtpd[12345]: A1B2C3D4E5: client=unknown[192.168.1.100]
2026-04-10T09:30:00.010000+00:00 mail postfix/cleanup[12346]: A1B2C3D4E5: message-id=<abc@example.com>
2026-04-10T09:30:00.020000+00:00 mail opendkim[99]: A1B2C3D4E5: DKIM-Signature field added (s=x, d=example.com)
2026-04-10T09:30:01.000000+00:00 mail postfix/qmgr[12347]: A1B2C3D4E5: from=<sender@example.com>, size=2048, nrcpt=1 (queue active)
2026-04-10T09:30:02.500000+00:00 mail postfix/smtp[12348]: A1B2C3D4E5: to=<recipient@example.org>, relay=mx.example.org[203.0.113.20]:25, delay=2, delays=0.5/0.1/1/0.4, dsn=2.0.0, status=sent (250 2.0.0 Ok: \x1b[2J queued)
2026-04-10T09:30:02.600000+00:00 mail postfix/qmgr[12347]: A1B2C3D4E5: removed
2026-04-10T09:30:03.000000+00:00 mail postfix/qmgr[12347]: B1B2C3D4E5: removed
";

    fn traced(log: &str, wanted: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mail.log");
        std::fs::write(&path, log.replace("\\x1b", "\u{1b}")).unwrap();
        let sources = [Source::Files { paths: vec![path], since: SystemTime::UNIX_EPOCH }];
        let found = look(&Search::new(wanted).unwrap(), &sources, directory.path()).unwrap();
        let text = text(&found, wanted, SystemTime::UNIX_EPOCH);
        text.replace(&directory.path().display().to_string(), "")
    }

    #[test]
    fn a_message_is_shown_as_one_time_line() {
        let all = traced(LOG, "A1B2C3D4E5");
        let shown: String =
            all.lines().map(|line| format!("{}\n", line.get(25..).unwrap_or_default())).collect();
        insta::assert_snapshot!(shown);
        for wanted in
            ["<abc@example.com>", "abc@example.com", "Recipient@example.org", "sender@example.com"]
        {
            assert_eq!(traced(LOG, wanted), all, "{wanted}");
        }
        assert_eq!(
            traced(LOG, "nobody@example.com"),
            "nothing about nobody@example.com in /mail.log\n"
        );
    }

    #[test]
    fn a_message_that_waits_says_why_and_until_when() {
        let root = tempfile::tempdir().unwrap();
        for name in
            ["incoming", "active", "deferred", "hold", "maildrop", "defer", "bounce", "trace"]
        {
            std::fs::create_dir_all(root.path().join("q").join(name)).unwrap();
        }
        let main =
            format!("queue_directory = {}/q\nqueue_run_delay = 300s\n", root.path().display());
        std::fs::write(root.path().join("main.cf"), main).unwrap();
        std::fs::write(root.path().join("master.cf"), "").unwrap();
        let directory = queue::QueueDirectory::new(root.path().join("q"));
        let id = waiting_message(&directory);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_327_200);
        directory.set_time(queue::Queue::Deferred, &id, now + Duration::from_secs(600)).unwrap();
        let waiting = waiting::find(root.path(), [id.to_string().as_str(), "FFFFFF1"].into_iter());
        assert_eq!(waiting.len(), 1);
        let text = waiting[0].text(now);
        assert!(text.contains(" is deferred, "), "{text}");
        assert!(
            text.contains(
                "  tmp@sink.test: connect to mx.example.org[192.0.2.1]:25: Connection timed out"
            ),
            "{text}"
        );
        assert!(
            text.contains("(in 10 min 0 s); the queue is looked through every 5 min 0 s"),
            "{text}"
        );
        assert!(text.contains("given back to its sender after "), "{text}");
    }

    /// A message for tmp@sink.test that could not be delivered.
    fn waiting_message(directory: &queue::QueueDirectory) -> QueueId {
        const MESSAGE: &[u8] =
            include_bytes!("../../../queue/tests/fixtures/two-recipients-one-done");
        let id: QueueId = "958619A4924".parse().unwrap();
        let path = directory.path(queue::Queue::Deferred, &id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, MESSAGE).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut entry = queue::LogEntry::default();
        entry.recipient.address = "tmp@sink.test".into();
        entry.dsn.reason = "connect to mx.example.org[192.0.2.1]:25: Connection timed out".into();
        directory.append_log(queue::LogKind::Defer, &id, &entry, true).unwrap();
        id
    }
}
