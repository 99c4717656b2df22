//! At the end of an mbox file, under Postfix's locks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::delivery::{Message, reason, status_of};
use crate::task::{Failure, MboxTarget, Outcome};

pub fn deliver(target: &MboxTarget, message: &Message<'_>) -> Outcome {
    let failed = |status: &str, text: String| {
        let user = if target.user.is_empty() {
            String::new()
        } else {
            format!(" for user {}", target.user)
        };
        let text = format!("cannot update mailbox {}{user}. {text}", target.path.display());
        Outcome::Failed(Failure::new(status, text))
    };
    match append(target, message) {
        Ok(()) => Outcome::Saved { mailbox: "mailbox".to_owned(), instead_of: None },
        Err(Trouble::System(what, error)) => {
            failed(status_of(&error), format!("{what}: {}", reason(&error)))
        }
        Err(Trouble::Unfit(text)) => failed("4.2.0", text),
    }
}

enum Trouble {
    System(String, io::Error),
    Unfit(String),
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Trouble {
    let what = what.into();
    move |error| Trouble::System(what, error)
}

fn append(target: &MboxTarget, message: &Message<'_>) -> Result<(), Trouble> {
    let _dotlock = target.dotlock.then(|| DotLock::acquire(target)).transpose()?;
    let file = open(target)?;
    lock(&file, target)?;
    let size = file.metadata().map_err(system("stat"))?.len();
    let written = fill(&file, size, target, message);
    if let Err(error) = written {
        // Half a message would be glued to the next one.
        let _ = file.set_len(size);
        return Err(Trouble::System("error writing message".to_owned(), error));
    }
    Ok(())
}

/// Opens or creates the file; anything but the recipient's own plain file is refused.
fn open(target: &MboxTarget) -> Result<File, Trouble> {
    let path = &target.path;
    let file = OpenOptions::new()
        .append(true)
        .read(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(system(format!("cannot open file {}", path.display())))?;
    let metadata = file.metadata().map_err(system("stat"))?;
    if !metadata.is_file() {
        return Err(Trouble::Unfit("destination is not a regular file".to_owned()));
    }
    if metadata.nlink() != 1 {
        return Err(Trouble::Unfit(format!("file has {} hard links", metadata.nlink())));
    }
    if target.owned && metadata.uid() != nix::unistd::geteuid().as_raw() {
        let text = format!("destination {} is not owned by recipient", path.display());
        return Err(Trouble::Unfit(text));
    }
    Ok(file)
}

fn lock(file: &File, target: &MboxTarget) -> Result<(), Trouble> {
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    for attempt in 1.. {
        let mut taken: Result<(), io::Error> = Ok(());
        if target.fcntl {
            taken = fcntl(file, FcntlArg::F_SETLK(&whole)).map(|_| ()).map_err(io::Error::from);
        }
        if taken.is_ok() && target.flock {
            taken = file.try_lock().map_err(io::Error::from);
        }
        let Err(error) = taken else { return Ok(()) };
        let held = error.kind() == io::ErrorKind::WouldBlock
            || error.raw_os_error() == Some(Errno::EACCES as i32);
        if !held || attempt >= target.attempts.max(1) {
            return Err(Trouble::System("unable to lock for exclusive access".to_owned(), error));
        }
        thread::sleep(target.pause);
    }
    Ok(())
}

fn fill(file: &File, size: u64, target: &MboxTarget, message: &Message<'_>) -> io::Result<()> {
    let mut out = Lines { out: BufWriter::with_capacity(64 * 1024, file), line: true, size };
    let sender = if target.sender.is_empty() { "MAILER-DAEMON" } else { &target.sender };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = message::date::format_ctime(i64::try_from(now).unwrap_or(0));
    out.out.write_all(format!("From {sender}  {date}\n").as_bytes())?;
    let limit = if target.size_limit == 0 { u64::MAX } else { target.size_limit };
    let mut begins = true;
    message.for_each(|piece| {
        for line in piece.split_inclusive(|&octet| octet == b'\n') {
            if begins && line.starts_with(b"From ") {
                out.write(b">")?;
            }
            begins = line.ends_with(b"\n");
            out.write(line)?;
            if out.size > limit {
                return Err(io::Error::from(Errno::EFBIG));
            }
        }
        Ok(())
    })?;
    if !out.line {
        out.write(b"\n")?;
    }
    out.write(b"\n")?;
    out.out.flush()?;
    file.sync_all()
}

struct Lines<'f> {
    out: BufWriter<&'f File>,
    /// The last octet ended a line.
    line: bool,
    size: u64,
}

impl Lines<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.size += octets.len() as u64;
        self.line = octets.ends_with(b"\n");
        self.out.write_all(octets)
    }
}

/// `FILE.lock`, created exclusively.
struct DotLock(PathBuf);

/// A lock file that has stood this long belongs to nobody (`stale_lock_time`).
const STALE: u64 = 500;

impl DotLock {
    fn acquire(target: &MboxTarget) -> Result<Self, Trouble> {
        let mut name = target.path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        for attempt in 1.. {
            let created = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
            match created {
                Ok(mut file) => {
                    let _ = write!(file, "{}", std::process::id());
                    return Ok(Self(path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_stale(&path);
                    if attempt >= target.attempts.max(1) {
                        return Err(unable(&path)(Errno::EAGAIN.into()));
                    }
                }
                Err(error) => return Err(unable(&path)(error)),
            }
            thread::sleep(target.pause);
        }
        Err(unable(&path)(Errno::EAGAIN.into()))
    }
}

fn unable(path: &Path) -> impl FnOnce(io::Error) -> Trouble {
    system(format!("unable to create lock file {}", path.display()))
}

fn remove_stale(path: &Path) {
    let changed = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
    if age.is_some_and(|age| age.as_secs() > STALE) {
        let _ = fs::remove_file(path);
    }
}

impl Drop for DotLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Source;
    use std::time::Duration;

    fn target(path: PathBuf) -> MboxTarget {
        MboxTarget {
            path,
            user: "info".into(),
            sender: "a@b.example".into(),
            dotlock: true,
            fcntl: true,
            flock: false,
            attempts: 1,
            pause: Duration::ZERO,
            size_limit: 0,
            owned: true,
        }
    }

    #[test]
    fn messages_are_separated_and_quoted() {
        let root = tempfile::tempdir().unwrap();
        let target = target(root.path().join("info"));
        for _ in 0..2 {
            let message = Message::new(Source::Nothing, "Subject: x\n\nFrom here\nend", None);
            assert!(matches!(deliver(&target, &message), Outcome::Saved { .. }));
        }
        let text = fs::read_to_string(&target.path).unwrap();
        let messages: Vec<&str> = text.split_inclusive("end\n\n").collect();
        assert_eq!(messages.len(), 2);
        for message in messages {
            assert!(message.starts_with("From a@b.example  "));
            assert!(message.ends_with("\nSubject: x\n\n>From here\nend\n\n"));
        }
        assert!(!root.path().join("info.lock").exists());
    }

    #[test]
    fn what_cannot_be_written_leaves_the_file_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let mut target = target(root.path().join("info"));
        fs::write(&target.path, "before\n").unwrap();
        target.size_limit = 20;
        let message = Message::new(Source::Nothing, "Subject: too large\n\n", None);
        let Outcome::Failed(failure) = deliver(&target, &message) else { panic!() };
        assert_eq!(failure.status, "5.2.2");
        assert_eq!(fs::read_to_string(&target.path).unwrap(), "before\n");
        // Somebody else's lock.
        fs::write(root.path().join("info.lock"), "1").unwrap();
        let Outcome::Failed(failure) = deliver(&target, &message) else { panic!() };
        assert!(failure.text.contains("unable to create lock file"), "{}", failure.text);
        // A link is not followed.
        fs::remove_file(root.path().join("info.lock")).unwrap();
        target.path = root.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &target.path).unwrap();
        assert!(matches!(deliver(&target, &message), Outcome::Failed(_)));
    }
}
