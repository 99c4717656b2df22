//! Dovecot's passwd-file: `user:password:uid:gid:gecos:home:shell:extra fields`.
//!
//! A file is read whole and read again when its modification time or size changes. Lines that cannot
//! be understood are skipped and told.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A line of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub password: String,
    pub uid: String,
    pub gid: String,
    pub home: String,
    /// Space separated: `userdb_…` for the userdb, the others for the passdb.
    pub extra: Vec<(String, Option<String>)>,
}

/// The users of one file, in its order.
#[derive(Debug, Default)]
pub struct Users {
    entries: HashMap<String, Entry>,
    order: Vec<String>,
}

/// A file of more than this is no password file.
const MAX_SIZE: u64 = 256 * 1024 * 1024;

impl Users {
    /// Reads the text of a file; of a user who stands there twice, the last line counts.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut users = Self::default();
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if line.is_empty() || line.starts_with([':', '#']) || line.trim().is_empty() {
                continue;
            }
            // without a colon the line is a user without a password: he cannot log in, but exists
            let (name, rest) = line.split_once(':').unwrap_or((line, ""));
            if users.entries.insert(name.to_owned(), Entry::parse(rest)).is_none() {
                users.order.push(name.to_owned());
            }
        }
        users
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }
}

impl Entry {
    /// Reads what follows the name. Missing fields are empty: guides print `user:{SCHEME}hash`.
    fn parse(rest: &str) -> Self {
        let mut fields = rest.splitn(7, ':');
        let mut next = || fields.next().unwrap_or_default().to_owned();
        let (password, uid, gid) = (next(), next(), next());
        let (_gecos, home, _shell, extra) = (next(), next(), next(), next());
        // libpam-pwdfile's suffix: 34 is MD5-CRYPT, 13 DES-CRYPT
        let password = match password.strip_suffix("[34]") {
            Some(hash) => format!("{{MD5-CRYPT}}{hash}"),
            None => password,
        };
        let words = extra.split(' ').filter(|word| !word.is_empty());
        let extra = words.map(|word| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.to_owned(), None),
        });
        Self { password, uid, gid, home, extra: extra.collect() }
    }
}

/// What tells that a file has changed.
type Stamp = (Option<SystemTime>, u64, u64);

/// The files that were read, as long as they stay the same.
#[derive(Debug, Default)]
pub struct Files(Mutex<HashMap<PathBuf, (Stamp, Arc<Users>)>>);

/// Files kept in memory; `%d` in a path makes a file per domain.
const MAX_FILES: usize = 1024;

impl Files {
    /// The users of a file, read anew if it has changed. Blocks for a file's reading.
    ///
    /// # Errors
    ///
    /// The error of opening or reading it.
    pub fn users(&self, path: &Path) -> io::Result<Arc<Users>> {
        let stamp = stamp(&std::fs::metadata(path)?);
        if let Some((known, users)) = self.lock().get(path)
            && *known == stamp
        {
            return Ok(Arc::clone(users));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.len() > MAX_SIZE || !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a password file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_SIZE).read_to_end(&mut bytes)?;
        let users = Arc::new(Users::parse(&String::from_utf8_lossy(&bytes)));
        let mut known = self.lock();
        if known.len() >= MAX_FILES {
            known.clear();
        }
        known.insert(path.to_owned(), (self::stamp(&metadata), Arc::clone(&users)));
        Ok(users)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Stamp, Arc<Users>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    (metadata.modified().ok(), metadata.len(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_up_to_eight_fields() {
        let users = Users::parse(
            "# comment\n\nbob@example.com:{SHA512-CRYPT}$6$x:5000:5000::/var/vmail/bob::userdb_quota_rule=*:storage=2M allow_nets=10.0.0.0/8 nologin\n\
             short@example.com:{PLAIN}pw\r\nnaked\nold:abc[34]::::::\nbob@example.com:{PLAIN}second::::::\n",
        );
        let names: Vec<&str> = users.names().collect();
        assert_eq!(names, ["bob@example.com", "short@example.com", "naked", "old"]);
        assert_eq!(users.get("bob@example.com").unwrap().password, "{PLAIN}second");
        let short = users.get("short@example.com").unwrap();
        assert_eq!((short.password.as_str(), short.uid.as_str()), ("{PLAIN}pw", ""));
        assert_eq!(users.get("old").unwrap().password, "{MD5-CRYPT}abc");
        let full = Entry::parse("p:5000:5001::/h::userdb_quota_rule=*:storage=2M nologin");
        assert_eq!(
            (full.uid.as_str(), full.gid.as_str(), full.home.as_str()),
            ("5000", "5001", "/h")
        );
        assert_eq!(
            full.extra,
            [("userdb_quota_rule".into(), Some("*:storage=2M".into())), ("nologin".into(), None),]
        );
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let files = Files::default();
        assert!(files.users(&path).is_err());
        std::fs::write(&path, "a:{PLAIN}x\n").unwrap();
        let first = files.users(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &files.users(&path).unwrap()));
        std::fs::write(&path, "a:{PLAIN}x\nb:{PLAIN}y\n").unwrap();
        assert!(files.users(&path).unwrap().get("b").is_some());
        assert!(files.users(directory.path()).is_err());
    }
}
