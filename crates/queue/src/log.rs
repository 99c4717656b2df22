//! The logs beside a message: `defer/`, `bounce/` and `trace/`, one text file for each message.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use mail_types::{QueueId, quote_822, unquote_822};
use protocol::postfix::{Dsn, Recipient};
use rustix::fs::FlockOperation;

use crate::directory::{QueueDirectory, with_parent};

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogKind {
    Defer,
    Bounce,
    Trace,
}

/// One recipient's report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    pub recipient: Recipient,
    pub dsn: Dsn,
}

/// A log larger than this is read only so far.
const LARGEST_LOG: u64 = 64 << 20;

impl LogKind {
    pub const ALL: [Self; 3] = [Self::Defer, Self::Bounce, Self::Trace];

    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Defer => "defer",
            Self::Bounce => "bounce",
            Self::Trace => "trace",
        }
    }
}

impl QueueDirectory {
    /// Appends a report and has it on disk when it returns.
    ///
    /// `old_style` also writes the `<address>: reason` line (`backwards_bounce_logfile_compatibility`).
    ///
    /// # Errors
    ///
    /// As open(2), write(2) and fsync(2); the log is then as it was before.
    pub fn append_log(
        &self,
        kind: LogKind,
        id: &QueueId,
        entry: &LogEntry,
        old_style: bool,
    ) -> io::Result<()> {
        let path = self.path_in(kind.directory(), id);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = with_parent(&path, || options.open(&path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let before = file.metadata()?.len();
        write_entry(&file, &entry.print(old_style)).inspect_err(|_| {
            let _ = file.set_len(before);
        })
    }

    /// The reports of a message; none if there is no log.
    ///
    /// # Errors
    ///
    /// As open(2) and read(2), but for a log that is not there.
    pub fn read_log(&self, kind: LogKind, id: &QueueId) -> io::Result<Vec<LogEntry>> {
        let path = self.path_in(kind.directory(), id);
        let mut file = match OpenOptions::new().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        rustix::fs::flock(&file, FlockOperation::LockShared)?;
        file.rewind()?;
        let mut text = Vec::new();
        file.take(LARGEST_LOG).read_to_end(&mut text)?;
        Ok(LogEntry::read_all(&String::from_utf8_lossy(&text)))
    }

    /// Removes a log; it need not be there.
    ///
    /// # Errors
    ///
    /// As unlink(2).
    pub fn remove_log(&self, kind: LogKind, id: &QueueId) -> io::Result<()> {
        match fs::remove_file(self.path_in(kind.directory(), id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn write_entry(mut file: &File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl LogEntry {
    fn print(&self, old_style: bool) -> String {
        use std::fmt::Write as _;
        let (recipient, dsn) = (&self.recipient, &self.dsn);
        let address = if recipient.address.is_empty() {
            String::new()
        } else {
            quote_822(&recipient.address)
        };
        let mut text = String::from("\n");
        if old_style {
            let _ = writeln!(text, "<{}>: {}", one_line(&address), one_line(&dsn.reason));
        }
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name}={}", one_line(value));
        };
        line("recipient", if address.is_empty() { "<>" } else { &address });
        let original = &recipient.original;
        if !original.is_empty() && !original.eq_ignore_ascii_case(&recipient.address) {
            line("original_recipient", &quote_822(original));
        }
        if recipient.offset > 0 {
            line("offset", &recipient.offset.to_string());
        }
        let mut given = |name: &str, value: &str| {
            if !value.is_empty() {
                line(name, value);
            }
        };
        given("dsn_orig_rcpt", &recipient.dsn_original);
        if recipient.notify != 0 {
            given("notify_flags", &recipient.notify.to_string());
        }
        given("status", &dsn.status);
        given("action", &dsn.action);
        for (name, kind, value_name, value) in [
            ("diag_type", &dsn.diag_type, "diag_text", &dsn.diag_text),
            ("mta_type", &dsn.mta_type, "mta_mname", &dsn.mta_name),
        ] {
            if !kind.is_empty() && !value.is_empty() {
                given(name, kind);
                given(value_name, value);
            }
        }
        given("reason", &dsn.reason);
        text.push('\n');
        text
    }

    /// Reads every entry that is complete enough to name a recipient; the rest is skipped.
    #[must_use]
    pub fn read_all(text: &str) -> Vec<Self> {
        text.split("\n\n").filter_map(Self::read).collect()
    }

    fn read(block: &str) -> Option<Self> {
        let mut entry = Self::default();
        let mut known = false;
        for line in block.lines() {
            if let Some((address, reason)) =
                line.strip_prefix('<').and_then(|rest| rest.split_once(">: "))
            {
                known = true;
                entry.recipient.address = unquote_822(address);
                reason.clone_into(&mut entry.dsn.reason);
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { continue };
            let (recipient, dsn) = (&mut entry.recipient, &mut entry.dsn);
            let field = match name {
                "recipient" => {
                    known = true;
                    recipient.address =
                        if value == "<>" { String::new() } else { unquote_822(value) };
                    continue;
                }
                "original_recipient" => {
                    recipient.original = unquote_822(value);
                    continue;
                }
                "offset" => {
                    recipient.offset = value.parse().unwrap_or(0);
                    continue;
                }
                "notify_flags" => {
                    recipient.notify = value.parse().unwrap_or(0);
                    continue;
                }
                "dsn_orig_rcpt" => &mut recipient.dsn_original,
                "status" => &mut dsn.status,
                "action" => &mut dsn.action,
                "diag_type" => &mut dsn.diag_type,
                "diag_text" => &mut dsn.diag_text,
                "mta_type" => &mut dsn.mta_type,
                "mta_mname" => &mut dsn.mta_name,
                "reason" => &mut dsn.reason,
                _ => continue,
            };
            value.clone_into(field);
        }
        known.then_some(entry)
    }
}

/// Reasons come from remote hosts: what could begin a new line becomes `?`, as Postfix does.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = "\n\
        <tmp@sink.test>: host 127.0.0.1[127.0.0.1] said: 450 4.2.0 try again later (in reply to RCPT TO command)\n\
        recipient=tmp@sink.test\n\
        offset=740\n\
        dsn_orig_rcpt=rfc822;tmp@sink.test\n\
        notify_flags=4\n\
        status=4.2.0\n\
        action=delayed\n\
        diag_type=smtp\n\
        diag_text=450 4.2.0 try again later\n\
        mta_type=dns\n\
        mta_mname=127.0.0.1\n\
        reason=host 127.0.0.1[127.0.0.1] said: 450 4.2.0 try again later (in reply to RCPT TO command)\n\
        \n";

    #[test]
    fn a_captured_log_is_read_and_printed_back() {
        let entries = LogEntry::read_all(CAPTURED);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].recipient.offset, 740);
        assert_eq!(entries[0].print(true), CAPTURED);
        assert_eq!(LogEntry::read_all(&CAPTURED.repeat(3)).len(), 3);
    }

    #[test]
    fn old_logs_and_damaged_ones_give_what_they_hold() {
        let old =
            LogEntry::read_all("\n<a b@c>: because\n\nrubbish\n\nstatus=4.0.0\n\nrecipient=x@y");
        assert_eq!(old.len(), 2);
        assert_eq!(
            (old[0].recipient.address.as_str(), old[0].dsn.reason.as_str()),
            ("a b@c", "because")
        );
    }

    #[test]
    fn a_reason_cannot_forge_a_recipient() {
        let entry = LogEntry {
            recipient: Recipient { address: "a@b".into(), ..Recipient::default() },
            dsn: Dsn::local("4.0.0", "delayed", "no\n\nrecipient=x@y\noffset=1"),
        };
        let read = LogEntry::read_all(&entry.print(true));
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].recipient.address, "a@b");
        assert_eq!(read[0].recipient.offset, 0);
    }

    #[test]
    fn logs_grow_in_their_hashed_place() {
        let root = tempfile::tempdir().unwrap();
        let directory = QueueDirectory::new(root.path());
        let id = QueueId::parse("640A99A4A51").unwrap();
        let entry = LogEntry::read_all(CAPTURED).remove(0);
        assert_eq!(directory.read_log(LogKind::Defer, &id).unwrap(), []);
        directory.append_log(LogKind::Defer, &id, &entry, true).unwrap();
        directory.append_log(LogKind::Defer, &id, &entry, false).unwrap();
        assert!(root.path().join("defer/6/640A99A4A51").exists());
        assert_eq!(directory.read_log(LogKind::Defer, &id).unwrap(), [entry.clone(), entry]);
        directory.remove_log(LogKind::Defer, &id).unwrap();
        directory.remove_log(LogKind::Defer, &id).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text: String) {
            let _ = LogEntry::read_all(&text);
        }
    }
}
