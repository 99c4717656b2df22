//! `postdrop`: the small set-gid program that puts a submission into `maildrop`.
//!
//! Its input comes from any local user, so it takes only the records and attributes that a
//! submission may have, within bounds, and its own clock; what is not finished leaves no file.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use mail_types::{Clock, SystemClock};
use nix::unistd::{getegid, geteuid, getgid};
use protocol::postfix::cleanup::{CleanupStatus, Outcome};
use protocol::postfix::record::{Record, RecordType, write, write_attribute};
use protocol::postfix::submission::drop_greeting;
use protocol::postfix::trigger::WAKEUP;
use queue::{NewFile, Queue};

use super::options::{Word, parse};
use super::{Caller, DEFAULT_DIRECTORY, Fatal, Site, code, config_directory, why};

const ATTRIBUTES: &[&str] = &[
    "encoding",
    "envelope_id",
    "notify_flags",
    "ret_flags",
    "dsn_orig_rcpt",
    "create_time",
    "rewrite_context",
    "trace_flags",
];
/// Readable for pickup, which is not the owner.
const READABLE: u32 = 0o044;

/// # Errors
///
/// [`Fatal`], as the original ends.
pub fn run(words: Vec<String>) -> Result<(), Fatal> {
    let (options, operands) = parse(&words, "c:rv");
    let mut directory = None;
    for option in options {
        match option {
            Word::Value('c', value) => directory = Some(value),
            Word::Flag('r' | 'v') => {}
            _ => return Err(Fatal::new(1, "usage: postdrop [-c config_dir] [-v]")),
        }
    }
    if !operands.is_empty() {
        return Err(Fatal::new(1, "usage: postdrop [-c config_dir] [-v]"));
    }
    let directory = config_directory(directory.as_deref());
    trusted(&directory)?;
    let site = Site::read(&directory, 1)?;
    let caller = Caller::this();
    if !caller.is_allowed(&site.may_submit, &site.mail_owner) {
        let text = format!("User {}({}) is not allowed to submit mail", caller.name, caller.uid);
        return Err(Fatal::new(code::NO_PERMISSION, text));
    }
    let outcome = take(&site, caller.uid, &mut io::stdin().lock(), &mut io::stdout().lock())?;
    let _ = outcome;
    Ok(())
}

/// With the rights of a group that the caller does not have, only configurations that the default
/// main.cf names may be used: another one could name any directory as the queue.
fn trusted(directory: &Path) -> Result<(), Fatal> {
    let privileged = getegid() != getgid() && !geteuid().is_root();
    if !privileged || directory == Path::new(DEFAULT_DIRECTORY) {
        return Ok(());
    }
    let text = std::fs::read_to_string(Path::new(DEFAULT_DIRECTORY).join("main.cf"));
    let text = text.unwrap_or_default();
    let named = ["alternate_config_directories", "multi_instance_directories"].iter().any(|name| {
        text.lines()
            .filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
            .flat_map(|list| list.split([',', ' ', '\t']))
            .any(|word| !word.is_empty() && Path::new(word) == directory)
    });
    if named {
        return Ok(());
    }
    let shown = directory.display();
    Err(Fatal::new(
        1,
        format!(
            "specify \"alternate_config_directories = {shown}\" in {DEFAULT_DIRECTORY}/main.cf"
        ),
    ))
}

/// Takes one submission. The caller hears on `output` the queue id first and the outcome last.
///
/// # Errors
///
/// [`Fatal`] if it is none that may be taken; then nothing is left.
pub fn take(
    site: &Site,
    uid: u32,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<Outcome, Fatal> {
    let failed = |error: io::Error| Fatal::new(1, format!("uid={uid}: {}", why(&error)));
    let clock = SystemClock;
    let created = NewFile::create(&site.queue, Queue::Maildrop, &clock);
    let mut file = created.map_err(|error| {
        Fatal::new(
            code::TEMPORARY,
            format!("mail_queue_enter: create file maildrop: {}", why(&error)),
        )
    })?;
    let greeting = drop_greeting(site.dialect, file.id());
    output.write_all(&greeting).and_then(|()| output.flush()).map_err(failed)?;
    let now = clock.timestamp();
    let mut pending = Vec::new();
    write(&mut pending, RecordType::TIME, format!("{} {}", now.seconds, now.micros).as_bytes());
    let copied = copy(site, uid, input, &mut file, pending)?;
    let outcome = if copied.is_ok() {
        match file.complete(Queue::Maildrop, READABLE) {
            Ok(_) => copied,
            Err(error) => return Err(failed(error)),
        }
    } else {
        copied
    };
    let outcome = Outcome { status: outcome, reason: String::new() };
    output.write_all(&outcome.encode()).and_then(|()| output.flush()).map_err(failed)?;
    if outcome.status.is_ok() {
        wake(&site.pickup);
    }
    Ok(outcome)
}

/// Copies the three segments; the status tells a message that is too big.
fn copy(
    site: &Site,
    uid: u32,
    input: &mut impl Read,
    file: &mut NewFile,
    mut pending: Vec<u8>,
) -> Result<CleanupStatus, Fatal> {
    let bad = |what: &dyn std::fmt::Display| Fatal::new(1, format!("uid={uid}: {what}"));
    let (mut buffer, mut segment, mut written) = (BytesMut::new(), 0, 0_u64);
    let mut status = CleanupStatus::OK;
    loop {
        let Some(record) = Record::take(&mut buffer, site.line_length)
            .map_err(|error| bad(&format!("unexpected record: {error}")))?
        else {
            let mut chunk = [0; 16 * 1024];
            match input.read(&mut chunk) {
                Ok(0) => return Err(bad(&"unexpected end of input")),
                Ok(count) => buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(bad(&why(&error))),
            }
            continue;
        };
        let allowed: &[u8] = match segment {
            0 => b"MFSRVAinT",
            1 => b"XLN",
            _ => b"EAR",
        };
        if !allowed.contains(&record.kind.0) {
            return Err(bad(&format!("unexpected record type: {:?}", record.kind)));
        }
        let ends = match (segment, record.kind) {
            (0, RecordType::MESSAGE) | (1, RecordType::EXTRACTED) => {
                segment += 1;
                false
            }
            (2, RecordType::END) => true,
            _ => false,
        };
        keep(&record, &mut pending);
        if pending.len() >= 64 * 1024 || ends {
            written += pending.len() as u64;
            if site.message_size_limit > 0 && written > site.message_size_limit {
                status.add(CleanupStatus::SIZE); // the rest is read and dropped
            }
            if status.is_ok() {
                file.append(&pending).map_err(|error| bad(&format!("write: {}", why(&error))))?;
            }
            pending.clear();
        }
        if ends {
            return Ok(status);
        }
    }
}

/// A submission brings no time of its own, and only attributes that mean no harm.
fn keep(record: &Record, to: &mut Vec<u8>) {
    match record.kind {
        RecordType::TIME => {}
        RecordType::ATTRIBUTE => {
            let text = String::from_utf8_lossy(&record.data);
            let Some((name, value)) = text.split_once('=') else { return };
            let valid = match name {
                "encoding" => matches!(value, "7bit" | "8bit" | ""),
                "rewrite_context" => matches!(value, "local" | "remote"),
                _ => ATTRIBUTES.contains(&name),
            };
            if valid && !value.is_empty() {
                write_attribute(to, name, value);
            }
        }
        kind => write(to, kind, &record.data),
    }
}

/// pickup looks by itself every minute, so nobody waits for it here.
fn wake(socket: &Path) {
    if let Ok(mut stream) = UnixStream::connect(socket) {
        let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
        let _ = stream.write_all(WAKEUP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn site() -> (tempfile::TempDir, Site) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("maildrop")).unwrap();
        let main =
            format!("queue_directory = {}\nmessage_size_limit = 200000\n", root.path().display());
        std::fs::write(root.path().join("main.cf"), main).unwrap();
        std::fs::write(root.path().join("master.cf"), "").unwrap();
        let site = Site::read(root.path(), 1).unwrap();
        (root, site)
    }

    fn submission(records: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, data) in records {
            write(&mut bytes, RecordType(*kind), data);
        }
        bytes
    }

    fn files(root: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
        let read = std::fs::read_dir(root.path().join("maildrop")).unwrap();
        read.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_submission_is_kept_with_our_time_and_harmless_attributes() {
        let (root, site) = site();
        let input = submission(&[
            (b'T', b"1 1"),
            (b'A', b"rewrite_context=local"),
            (b'A', b"log_client_name=forged"),
            (b'S', b"joe"),
            (b'R', b"bob"),
            (b'M', b""),
            (b'N', b"Subject: x"),
            (b'X', b""),
            (b'E', b""),
        ]);
        let mut output = Vec::new();
        let outcome = take(&site, 1000, &mut &input[..], &mut output).unwrap();
        assert!(outcome.status.is_ok());
        assert!(output.starts_with(b"protocol\0postdrop_protocol\0queue_id\0"));
        assert!(output.ends_with(b"status\x000\0reason\0\0\0"));
        let files = files(&root);
        let mode = std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o7777;
        let text = String::from_utf8_lossy(&std::fs::read(&files[0]).unwrap()).into_owned();
        assert_eq!((files.len(), mode), (1, 0o744));
        assert!(text.contains("rewrite_context=local") && !text.contains("forged"));
        assert!(!text.contains("T\u{3}1 1"));
    }

    #[test]
    fn what_may_not_be_or_is_cut_leaves_nothing() {
        let (root, site) = site();
        for records in [
            &[(b'S', &b"joe"[..]), (b'C', b"1"), (b'M', b"")][..],
            &[(b'S', b"joe"), (b'p', b"0")],
            &[(b'S', b"joe"), (b'M', b""), (b'R', b"bob")],
            &[(b'S', b"joe"), (b'M', b""), (b'N', b"x")],
            &[],
        ] {
            let input = submission(records);
            assert!(take(&site, 1000, &mut &input[..], &mut Vec::new()).is_err());
            assert!(files(&root).is_empty());
        }
        let long = submission(&[(b'S', &[b'x'; 2049])]);
        assert!(take(&site, 1000, &mut &long[..], &mut Vec::new()).is_err());
        let mut big = vec![(b'S', &b"joe"[..]), (b'R', b"bob"), (b'M', b"")];
        big.extend(std::iter::repeat_n((b'N', &[b'x'; 1000][..]), 300));
        big.extend([(b'X', &b""[..]), (b'E', b"")]);
        let outcome = take(&site, 1000, &mut &submission(&big)[..], &mut Vec::new()).unwrap();
        assert_eq!(outcome.status, CleanupStatus::SIZE);
        assert!(files(&root).is_empty());
    }
}
