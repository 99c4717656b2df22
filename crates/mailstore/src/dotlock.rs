//! Lock files as Dovecot makes them: created exclusively, holding `pid:host`.
//!
//! A lock whose process is gone from this host is overridden at once, any other after it and the
//! file it protects have stood unchanged for two minutes.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::error::{At, StoreError, present};
use crate::permissions::Inherited;

const STALE_AFTER: Duration = Duration::from_secs(120);
const TOUCH_EVERY: Duration = Duration::from_secs(10);
/// A lock younger than this may not hold its owner's number yet.
const SETTLING: Duration = Duration::from_secs(3);

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct DotLock {
    path: PathBuf,
    file: File,
    touched: Instant,
}

impl DotLock {
    /// Takes `protected`'s lock, waiting at most `patience`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another process holds it for longer, or the system's error.
    pub fn acquire(
        protected: &Path,
        host: &str,
        inherited: Inherited,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let mut path = protected.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        loop {
            match inherited.create_file(&path) {
                Ok(file) => {
                    // Held from here on: dropped, it is removed, also when a full disk takes no text.
                    let mut lock = Self { path, file, touched: Instant::now() };
                    let written = write!(lock.file, "{}:{host}", process::id());
                    written.at("write", &lock.path)?;
                    return Ok(lock);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if override_stale(&path, protected, host).at("rename", &path)? {
                        continue;
                    }
                }
                Err(error) => return Err(error).at("open", &path),
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Locked);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Tells waiters that this lock's holder still works. To be called in long loops.
    pub fn keep(&mut self) {
        if self.touched.elapsed() >= TOUCH_EVERY {
            // A failed touch costs us the lock at worst after two minutes; the work goes on.
            let _ = self.file.set_modified(SystemTime::now());
            self.touched = Instant::now();
        }
    }
}

impl Drop for DotLock {
    fn drop(&mut self) {
        let ours = self.file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let there = fs::symlink_metadata(&self.path).ok().map(|there| (there.dev(), there.ino()));
        if ours.is_some() && ours == there {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a stale lock. Whoever removes it first has done it for all.
fn override_stale(path: &Path, protected: &Path, host: &str) -> io::Result<bool> {
    let Some(metadata) = present(fs::symlink_metadata(path))? else { return Ok(true) };
    if !is_stale(path, &metadata, protected, host)? {
        return Ok(false);
    }
    // Moved aside first: if it is not the file we judged, another process was quicker and this
    // is its fresh lock, which goes back.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", crate::host::unique_name(host)));
    let aside = PathBuf::from(aside);
    if present(fs::rename(path, &aside))?.is_none() {
        return Ok(true);
    }
    let moved = fs::symlink_metadata(&aside)?;
    if (moved.dev(), moved.ino()) != (metadata.dev(), metadata.ino()) {
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside)?;
    Ok(true)
}

fn is_stale(path: &Path, lock: &Metadata, protected: &Path, host: &str) -> io::Result<bool> {
    let age = |metadata: &Metadata| {
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        SystemTime::now().duration_since(changed).unwrap_or_default()
    };
    if age(lock) >= SETTLING
        && let Some(owner) = owner(path, host)?
        && kill(owner, None) == Err(Errno::ESRCH)
    {
        return Ok(true);
    }
    let protected_age = present(fs::metadata(protected))?.as_ref().map_or(STALE_AFTER, age);
    Ok(age(lock) >= STALE_AFTER && protected_age >= STALE_AFTER)
}

/// The process that holds the lock, when it runs on this host.
fn owner(path: &Path, host: &str) -> io::Result<Option<Pid>> {
    let Some(file) = present(File::open(path))? else { return Ok(None) };
    let mut text = String::new();
    if file.take(512).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    Ok(text.split_once(':').and_then(|(pid, at)| {
        let pid: i32 = pid.parse().ok().filter(|&pid| pid > 0)?;
        (at == host).then(|| Pid::from_raw(pid))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "mx1.example.com";

    fn acquire(protected: &Path) -> Result<DotLock, StoreError> {
        DotLock::acquire(protected, HOST, Inherited::PRIVATE, Duration::ZERO)
    }

    fn age(path: &Path, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn one_holder_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let protected = root.path().join("dovecot-uidlist");
        let lock = acquire(&protected).unwrap();
        let text = fs::read_to_string(root.path().join("dovecot-uidlist.lock")).unwrap();
        assert_eq!(text, format!("{}:{HOST}", process::id()));
        assert!(matches!(acquire(&protected), Err(StoreError::Locked)));
        drop(lock);
        assert!(acquire(&protected).is_ok());
    }

    #[test]
    fn a_dead_process_loses_its_lock() {
        let root = tempfile::tempdir().unwrap();
        let protected = root.path().join("list");
        let path = root.path().join("list.lock");
        // A pid above the kernel's limit belongs to nobody.
        for (text, seconds, taken) in [
            (format!("4194305:{HOST}"), 5, true),
            (format!("4194305:{HOST}"), 0, false), // still settling
            ("4194305:elsewhere".to_owned(), 60, false),
            ("4194305:elsewhere".to_owned(), 121, true),
            (format!("{}:{HOST}", process::id()), 60, false),
            (String::new(), 10, false),
            (String::new(), 121, true),
            ("\u{0}garbage".to_owned(), 121, true),
        ] {
            fs::write(&path, &text).unwrap();
            age(&path, seconds);
            assert_eq!(acquire(&protected).is_ok(), taken, "{text:?} {seconds}");
            let _ = fs::remove_file(&path);
        }
    }
}
