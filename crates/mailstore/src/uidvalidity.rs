//! `dovecot-uidvalidity`: the highest UIDVALIDITY of all of a user's mailboxes, so that a mailbox
//! that is made again never repeats one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mail_types::UidValidity;

use crate::control_files;
use crate::error::{At, StoreError, present};
use crate::host;
use crate::permissions::Inherited;

const NAME: &str = "dovecot-uidvalidity";

/// Takes the next value. `directory` is the namespace's control directory.
///
/// The empty file `dovecot-uidvalidity.HEX` is what counts: renaming it to the next value is how
/// one process among several gets it.
pub(crate) fn next(directory: &Path, inherited: Inherited) -> Result<UidValidity, StoreError> {
    for _ in 0..1000 {
        let Some(highest) = highest(directory)? else {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let stated = stated(directory)?.map_or(0, |value| value.saturating_add(1));
            let first = u32::try_from(now.as_secs()).unwrap_or(1).max(stated).max(1);
            match create(directory, first, inherited) {
                Ok(()) => return finish(directory, first, inherited),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).at("open", &marker(directory, first)),
            }
        };
        let stated = stated(directory)?.unwrap_or(0);
        let value = highest.max(stated).saturating_add(1);
        let (from, to) = (marker(directory, highest), marker(directory, value));
        if present(fs::rename(&from, &to)).at("rename", &from)?.is_some() {
            return finish(directory, value, inherited);
        }
    }
    Err(StoreError::Locked)
}

fn finish(directory: &Path, value: u32, inherited: Inherited) -> Result<UidValidity, StoreError> {
    let path = directory.join(NAME);
    // Of this call alone: sessions of one process may do this at once.
    let temporary = directory.join(format!("{NAME}.tmp.{}", host::unique_name("")));
    control_files::replace(&path, &temporary, format!("{value:08x}").as_bytes(), inherited)?;
    UidValidity::new(value).ok_or(StoreError::NoUidsLeft)
}

fn marker(directory: &Path, value: u32) -> PathBuf {
    directory.join(format!("{NAME}.{value:08x}"))
}

fn create(directory: &Path, value: u32, inherited: Inherited) -> io::Result<()> {
    let path = marker(directory, value);
    inherited.create_file(&path)?.set_permissions(fs::Permissions::from_mode(0o444))
}

fn stated(directory: &Path) -> Result<Option<u32>, StoreError> {
    let text = control_files::read(&directory.join(NAME), 64)?;
    Ok(text.and_then(|(text, _)| hex(std::str::from_utf8(&text).ok()?)))
}

/// The highest marker; lower ones, left by a race, are removed.
fn highest(directory: &Path) -> Result<Option<u32>, StoreError> {
    let Some(entries) = present(fs::read_dir(directory)).at("opendir", directory)? else {
        return Ok(None);
    };
    let mut values: Vec<u32> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            hex(name.to_str()?.strip_prefix(NAME)?.strip_prefix('.')?)
        })
        .collect();
    values.sort_unstable();
    let highest = values.pop();
    for lower in values {
        let _ = fs::remove_file(marker(directory, lower));
    }
    Ok(highest)
}

fn hex(text: &str) -> Option<u32> {
    let right = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right { u32::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_rise_and_never_repeat() {
        let root = tempfile::tempdir().unwrap();
        let take = || next(root.path(), Inherited::PRIVATE).unwrap().get();
        let first = take();
        assert!(first > 1_700_000_000);
        assert_eq!(take(), first + 1);
        // Two markers: the higher one counts, the lower one goes.
        fs::write(marker(root.path(), 0xf000_0000), "").unwrap();
        assert_eq!(take(), 0xf000_0001);
        assert_eq!(fs::read_to_string(root.path().join(NAME)).unwrap(), "f0000001");
        let markers = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(markers, 2);
        // Without a marker the file still keeps values from coming again.
        fs::remove_file(marker(root.path(), 0xf000_0001)).unwrap();
        assert_eq!(take(), 0xf000_0002);
    }
}
