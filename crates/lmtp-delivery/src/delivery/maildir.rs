//! Into a Maildir as Postfix does it: `SECONDS.VdevIinodeMmicros.host`, no sizes, no UID list.
//! A Dovecot or a Theoris that reads the Maildir gives the UID.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::delivery::{Message, reason, status_of};
use crate::task::{Failure, Outcome};

pub fn deliver(path: &Path, host: &str, message: &Message<'_>) -> Outcome {
    match save(path, host, message) {
        Ok(()) => Outcome::Saved { mailbox: "maildir".to_owned(), instead_of: None },
        Err((what, error)) => {
            let text = format!("maildir delivery failed: {what}: {}", reason(&error));
            Outcome::Failed(Failure::new(status_of(&error), text))
        }
    }
}

fn save(path: &Path, host: &str, message: &Message<'_>) -> Result<(), (String, io::Error)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}.P{}Q{count}.{host}", now.as_secs(), process::id());
    let temporary = path.join("tmp").join(name);
    let creating = |error| (format!("create maildir file {}", temporary.display()), error);
    let file = match create(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directories(path).map_err(creating)?;
            create(&temporary)
        }
        other => other,
    };
    let file = file.map_err(creating)?;
    let done = fill(&file, message)
        .map_err(|error| ("error writing message".to_owned(), error))
        .and_then(|()| {
            let metadata = file.metadata().map_err(|error| ("fstat".to_owned(), error))?;
            let (device, inode) = (metadata.dev(), metadata.ino());
            let (seconds, micros) = (now.as_secs(), now.subsec_micros());
            let name = format!("{seconds}.V{device:x}I{inode:x}M{micros}.{host}");
            settle(path, &temporary, &name)
        });
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

fn create(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

fn make_directories(path: &Path) -> io::Result<()> {
    for name in ["tmp", "new", "cur"] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(name))?;
    }
    Ok(())
}

fn fill(file: &File, message: &Message<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    message.for_each(|piece| out.write_all(piece))?;
    out.flush()?;
    file.sync_all()
}

/// Renames into `new`; success is said after the directory is on disk too.
fn settle(path: &Path, temporary: &Path, name: &str) -> Result<(), (String, io::Error)> {
    let new = path.join("new");
    fs::rename(temporary, new.join(name))
        .map_err(|error| (format!("rename {} to {}", temporary.display(), new.display()), error))?;
    File::open(&new)
        .and_then(|directory| directory.sync_data())
        .map_err(|error| (format!("fsync {}", new.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Source;

    #[test]
    fn a_maildir_is_made_and_filled() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/Maildir");
        for prefix in ["Subject: one\n\nx\n", "Subject: two\n\ny\n"] {
            let message = Message::new(Source::Nothing, prefix, None);
            let saved = Outcome::Saved { mailbox: "maildir".into(), instead_of: None };
            assert_eq!(deliver(&path, "mx.example.com", &message), saved);
        }
        let names: Vec<String> = fs::read_dir(path.join("new"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| name.contains(".V") && name.ends_with(".mx.example.com")));
        assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_refused_directory_defers_in_postfix_words() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let message = Message::new(Source::Nothing, "x\n", None);
        let outcome = deliver(&root.path().join("file"), "h", &message);
        let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.status, "4.2.0");
        assert!(failure.text.starts_with("maildir delivery failed: create maildir file "));
        assert!(failure.text.ends_with(": Not a directory"), "{}", failure.text);
    }
}
