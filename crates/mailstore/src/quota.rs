//! Quota: Dovecot's `maildirsize` file, or counting.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::control_files;
use crate::error::{At, StoreError, present};
use crate::file_name;
use crate::host;
use crate::permissions::Inherited;
use crate::store::Store;

/// Recalculated when it grows beyond this.
const LONGEST_FILE: u64 = 5120;
/// While over quota it is recalculated when older than this.
const OLD: Duration = Duration::from_secs(15 * 60);

/// A user's quota (`quota = BACKEND:NAME`, `quota_rule = *:storage=1G:messages=1000`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub backend: Backend,
    /// The root's name, as clients see it.
    pub name: String,
    /// Octets.
    pub storage: Option<u64>,
    pub messages: Option<u64>,
    /// How far a delivery may go beyond a quota that is not full yet, in percent of `storage`
    /// (`quota_grace`).
    pub grace_percent: u64,
    /// The same in octets, added to that (`quota_grace = 10M`).
    pub grace_octets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The sum stands in `maildirsize`.
    Maildir,
    /// Counted from the file names, with virtual sizes.
    Count,
}

/// What a user's mailboxes hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub octets: u64,
    pub messages: u64,
}

/// Whether `quota_grace` applies: only to deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    None,
    Delivery,
}

/// Quota settings that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    #[error("quota backend {0:?} is not supported, only maildir and count")]
    Backend(String),
    #[error("quota rule {0:?} is not understood")]
    Rule(String),
}

impl Quota {
    /// From `quota = maildir:User quota`, its rules (`*:storage=1G:messages=1000`; a later one for
    /// the same limit counts) and `quota_grace = 10%`.
    ///
    /// # Errors
    ///
    /// [`QuotaError`], for the operator. Rules for single mailboxes are among what is not understood.
    pub fn from_settings(root: &str, rules: &[&str], grace: &str) -> Result<Self, QuotaError> {
        let mut fields = root.split(':');
        let backend = match fields.next() {
            Some("maildir") => Backend::Maildir,
            Some("count") => Backend::Count,
            other => return Err(QuotaError::Backend(other.unwrap_or_default().to_owned())),
        };
        let name = fields.next().unwrap_or_default().to_owned();
        let (grace_percent, grace_octets) = match (grace.strip_suffix('%'), amount(grace, 1)) {
            (None, Some(octets)) => (0, octets),
            (percent, _) => (percent.and_then(|percent| percent.parse().ok()).unwrap_or(10), 0),
        };
        let mut quota =
            Self { backend, name, storage: None, messages: None, grace_percent, grace_octets };
        for rule in rules {
            quota.add_rule(rule).ok_or_else(|| QuotaError::Rule((*rule).to_owned()))?;
        }
        Ok(quota)
    }

    fn add_rule(&mut self, rule: &str) -> Option<()> {
        let (mailbox, limits) = rule.split_once(':')?;
        if !matches!(mailbox, "*" | "?") {
            return None;
        }
        for limit in limits.split(':') {
            let (key, value) = limit.split_once('=')?;
            let (slot, unit) = match key {
                "storage" => (&mut self.storage, 1024),
                "bytes" => (&mut self.storage, 1),
                "messages" => (&mut self.messages, 1),
                _ => return None,
            };
            let limit = amount(value, unit)?;
            *slot = (limit > 0).then_some(limit); // 0 is no limit
        }
        Some(())
    }
    fn allows(&self, used: Usage, octets: u64, grace: Grace) -> bool {
        let messages = self.messages.is_none_or(|limit| used.messages < limit);
        let storage = self.storage.is_none_or(|limit| {
            let spare = match grace {
                Grace::Delivery if used.octets < limit => {
                    (limit / 100 * self.grace_percent).saturating_add(self.grace_octets)
                }
                _ => 0,
            };
            used.octets.saturating_add(octets) <= limit.saturating_add(spare)
        });
        messages && storage
    }

    /// The first line of `maildirsize`.
    fn limits(&self) -> String {
        let storage = self.storage.map(|limit| format!("{limit}S"));
        let messages = self.messages.map(|limit| format!("{limit}C"));
        storage.into_iter().chain(messages).collect::<Vec<_>>().join(",")
    }
}

impl Store {
    /// What the user's mailboxes hold; `None` without a quota.
    ///
    /// # Errors
    ///
    /// What keeps us from counting.
    pub fn quota_usage(&self) -> Result<Option<Usage>, StoreError> {
        let Some(quota) = &self.options().quota else { return Ok(None) };
        match quota.backend {
            Backend::Maildir => self.maildirsize(quota).map(Some),
            Backend::Count => self.count(b'W').map(Some),
        }
    }

    /// Whether a message of this size may come in.
    ///
    /// # Errors
    ///
    /// [`StoreError::OverQuota`], or what keeps us from counting.
    pub fn check_quota(&self, physical: u64, wire: u64, grace: Grace) -> Result<(), StoreError> {
        let (Some(quota), Some(used)) = (&self.options().quota, self.quota_usage()?) else {
            return Ok(());
        };
        let octets = if quota.backend == Backend::Maildir { physical } else { wire };
        if quota.allows(used, octets, grace) { Ok(()) } else { Err(StoreError::OverQuota) }
    }

    /// Tells `maildirsize` what came in or went. What cannot be told costs accuracy, not mail, which has come or gone already:
    /// the file is recalculated.
    pub(crate) fn quota_changed(&self, octets: i64, messages: i64) {
        let counted = self.options().quota.as_ref().is_some_and(|q| q.backend == Backend::Maildir);
        if !counted || (octets, messages) == (0, 0) {
            return;
        }
        let path = self.maildirsize_path();
        let opened = fs::OpenOptions::new().append(true).custom_flags_nofollow().open(&path);
        let line = format!("{octets} {messages}\n");
        match opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => drop(fs::remove_file(&path)),
            _ => {}
        }
    }

    fn maildirsize_path(&self) -> PathBuf {
        self.location().control_root().join("maildirsize")
    }

    fn maildirsize(&self, quota: &Quota) -> Result<Usage, StoreError> {
        let path = self.maildirsize_path();
        if let Some(metadata) = present(fs::metadata(&path)).at("stat", &path)?
            && metadata.len() <= LONGEST_FILE
            && let Some((text, _)) = control_files::read(&path, LONGEST_FILE)?
            && let Some(used) = parse(&text, &quota.limits())
        {
            let age =
                metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if quota.allows(used, 0, Grace::None) || age.is_none_or(|age| age < OLD) {
                return Ok(used);
            }
        }
        self.recalculate(quota, &path)
    }

    fn recalculate(&self, quota: &Quota, path: &Path) -> Result<Usage, StoreError> {
        let used = self.count(b'S')?;
        if self.location().control_root().is_dir() {
            let text = format!("{}\n{} {}\n", quota.limits(), used.octets, used.messages);
            let suffix = format!(".{}", host::unique_name(&self.options().hostname));
            let temporary = control_files::suffixed(path, &suffix);
            let inherited = Inherited::from(self.location().control_root());
            control_files::replace(path, &temporary, text.as_bytes(), inherited)?;
        }
        Ok(used)
    }

    /// Adds up all mailboxes from the sizes that file names state.
    fn count(&self, key: u8) -> Result<Usage, StoreError> {
        let mut used = Usage::default();
        for folder in self.list()?.into_iter().filter(|folder| folder.selectable) {
            let mail = self.place(&folder.name)?.mail;
            for directory in ["new", "cur"].map(|name| mail.join(name)) {
                add_directory(&directory, key, &mut used)?;
            }
        }
        Ok(used)
    }
}

fn add_directory(directory: &Path, key: u8, used: &mut Usage) -> Result<(), StoreError> {
    let Some(entries) = present(fs::read_dir(directory)).at("opendir", directory)? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry.at("readdir", directory)?;
        let name = entry.file_name();
        if !file_name::is_message(name.as_bytes()) {
            continue;
        }
        let stated = file_name::stated_size(file_name::base(name.as_bytes()), key);
        let size = stated.or_else(|| entry.metadata().ok().map(|metadata| metadata.size()));
        used.octets = used.octets.saturating_add(size.unwrap_or(0));
        used.messages += 1;
    }
    Ok(())
}

/// `1G`, `500M`, or a plain number of `unit`.
fn amount(text: &str, unit: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => unit,
        "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

/// The sum of a file whose limits are still the configured ones.
fn parse(text: &[u8], limits: &str) -> Option<Usage> {
    let text = std::str::from_utf8(text).ok()?;
    let (first, lines) = text.split_once('\n')?;
    if first != limits {
        return None;
    }
    let (mut octets, mut messages) = (0_i64, 0_i64);
    for line in lines.lines() {
        let mut fields = line.split_whitespace();
        octets = octets.checked_add(fields.next()?.parse().ok()?)?;
        messages = messages.checked_add(fields.next()?.parse().ok()?)?;
    }
    Some(Usage { octets: u64::try_from(octets).ok()?, messages: u64::try_from(messages).ok()? })
}

trait NoFollow {
    fn custom_flags_nofollow(&mut self) -> &mut Self;
}

impl NoFollow for fs::OpenOptions {
    fn custom_flags_nofollow(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(nix::libc::O_NOFOLLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(storage: Option<u64>, messages: Option<u64>) -> Quota {
        Quota {
            backend: Backend::Maildir,
            name: "User quota".into(),
            storage,
            messages,
            grace_percent: 10,
            grace_octets: 0,
        }
    }

    #[test]
    fn the_file_is_believed_only_for_the_same_limits() {
        let text = b"2097152S\n2130426 2\n-1065186 -1\n";
        let used = Usage { octets: 1_065_240, messages: 1 };
        assert_eq!(parse(text, &quota(Some(2_097_152), None).limits()), Some(used));
        assert_eq!(parse(text, &quota(Some(5), None).limits()), None);
        assert_eq!(parse(b"5S\n-1 0\n", "5S"), None);
        assert_eq!(parse(b"5S\nx\n", "5S"), None);
        assert_eq!(quota(Some(5), Some(7)).limits(), "5S,7C");
    }

    #[test]
    fn rules_are_read() {
        let read = |rules: &[&str]| Quota::from_settings("maildir:User quota", rules, "10%");
        let quota = read(&["*:storage=1G:messages=7", "*:bytes=5M"]).unwrap();
        assert_eq!((quota.storage, quota.messages), (Some(5 << 20), Some(7)));
        assert_eq!((quota.name.as_str(), quota.grace_percent), ("User quota", 10));
        assert_eq!(read(&["*:storage=2"]).unwrap().storage, Some(2048));
        assert_eq!(read(&["*:storage=0"]).unwrap().storage, None);
        for bad in ["Trash:storage=+10%", "*:storage=many", "storage=1G"] {
            assert_eq!(read(&[bad]), Err(QuotaError::Rule(bad.to_owned())));
        }
        for (written, percent, octets) in [("20%", 20, 0), ("10M", 0, 10 << 20), ("", 10, 0)] {
            let quota = Quota::from_settings("count:x", &[], written).unwrap();
            assert_eq!((quota.grace_percent, quota.grace_octets), (percent, octets), "{written}");
        }
        assert!(Quota::from_settings("dict:x", &[], "").is_err());
    }

    #[test]
    fn grace_is_for_deliveries_into_a_quota_that_is_not_full() {
        let quota = quota(Some(1000), Some(3));
        for (octets, messages, size, grace, allowed) in [
            (500, 1, 500, Grace::None, true),
            (500, 1, 501, Grace::None, false),
            (500, 1, 600, Grace::Delivery, true),
            (500, 1, 601, Grace::Delivery, false),
            (1000, 1, 1, Grace::Delivery, false),
            (0, 3, 0, Grace::None, false),
        ] {
            let used = Usage { octets, messages };
            assert_eq!(quota.allows(used, size, grace), allowed, "{octets} {messages} {size}");
        }
    }
}
