//! Writing a file of the host: a new file beside it with the old one's owner, mode and label, then rename(2). A reader
//! sees the old text or the new one, also after a power cut.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Labels that say who may open a file; other attributes are the file system's or the user's own.
const LABELS: &[&str] = &["security.selinux", "security.SMACK64", "system.posix_acl_access"];
const LONGEST_LABEL: usize = 64 * 1024;

/// Writes `text` in the place of `path`. Owner, mode and label stay; a new file is root's, mode 0644.
///
/// # Errors
///
/// The system's. The old file is then untouched and nothing is left behind.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let real = target(path)?;
    let temporary = beside(&real);
    let written = write(&temporary, &real, text).and_then(|()| fs::rename(&temporary, &real));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_directory(&real)
}

/// Whether `text` could be written in the place of `path`: writes it beside it and takes it away again.
///
/// # Errors
///
/// The system's: a read-only file system, no space, no right to.
pub fn rehearse(path: &Path, text: &[u8]) -> io::Result<()> {
    let real = target(path)?;
    let temporary = beside(&real);
    let written = write(&temporary, &real, text);
    let removed = match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    written.and(removed)
}

/// Takes a file of our own away.
///
/// # Errors
///
/// The system's; one that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(path),
    }
}

/// A link stays one: etckeeper and stow have master.cf elsewhere.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        found => found,
    }
}

/// A leading dot: no include pattern of the originals takes it in.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.theoris-new"))
}

fn write(temporary: &Path, model: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    // What an interrupted run left under this name is ours, and is written anew.
    let _ = fs::remove_file(temporary);
    let mut file = options.write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(text)?;
    match File::open(model) {
        Ok(model) => {
            let facts = model.metadata()?;
            fchown(&file, Some(facts.uid()), Some(facts.gid()))?;
            file.set_permissions(fs::Permissions::from_mode(facts.mode() & 0o7777))?;
            copy_labels(&model, &file)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        Err(error) => return Err(error),
    }
    file.sync_all()
}

fn copy_labels(from: &File, to: &File) -> io::Result<()> {
    for name in LABELS {
        let mut value = vec![0; LONGEST_LABEL];
        let length = match rustix::fs::fgetxattr(from, *name, &mut value) {
            Ok(length) => length,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error.into()),
        };
        let value = value.get(..length).unwrap_or_default();
        rustix::fs::fsetxattr(to, *name, value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Makes a rename or a removal last.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_mode_and_links_stay_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.cf");
        let link = directory.path().join("link.cf");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("master.cf", &link).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(7), Some(8)).unwrap();
        }
        let before = fs::metadata(&path).unwrap();
        rehearse(&link, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&link, b"new").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (before.mode(), before.uid(), before.gid()),
            (after.mode(), after.uid(), after.gid())
        );
        assert_ne!(before.ino(), after.ino(), "written by rename");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn access_lists_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.cf");
        fs::write(&path, "old").unwrap();
        // The file's own ACL: user::rw- user:7:r-- group::r-- mask::r-- other::---
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 4, 7), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let name = "system.posix_acl_access";
        if rustix::fs::setxattr(&path, name, &list, XattrFlags::empty()).is_err() {
            return; // the file system has none
        }
        replace(&path, b"new").unwrap();
        let mut kept = vec![0; 1024];
        let length = rustix::fs::getxattr(&path, name, &mut kept).unwrap();
        assert_eq!(&kept[..length], &list[..]);
    }

    /// A confined Postfix may read what has its label, and nothing else of /etc.
    #[test]
    fn the_label_of_selinux_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.cf");
        fs::write(&path, "old").unwrap();
        let (name, label) = ("security.selinux", b"system_u:object_r:postfix_etc_t:s0\0");
        if rustix::fs::setxattr(&path, name, label, XattrFlags::empty()).is_err() {
            return; // not root, or a policy that does not know this type
        }
        replace(&path, b"new").unwrap();
        let mut kept = vec![0; 1024];
        let length = rustix::fs::getxattr(&path, name, &mut kept).unwrap();
        assert_eq!(&kept[..length], label);
    }
}
