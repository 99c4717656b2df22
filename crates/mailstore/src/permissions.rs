//! Modes and groups of new files, taken from the mailbox directory as Dovecot takes them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, chown, getegid};

/// What new files and directories beside a given directory get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    mode: u32,
    gid: Option<u32>,
}

impl Inherited {
    /// For a directory that is not there yet: private.
    pub const PRIVATE: Self = Self { mode: 0o700, gid: None };

    /// Copies the mode of `directory`, and its group if the group has access and is not ours.
    #[must_use]
    pub fn from(directory: &Path) -> Self {
        let Ok(metadata) = fs::metadata(directory) else { return Self::PRIVATE };
        let mode = metadata.mode() & 0o777;
        let gid =
            (mode & 0o070 != 0 && metadata.gid() != getegid().as_raw()).then_some(metadata.gid());
        Self { mode, gid }
    }

    fn file_mode(self) -> u32 {
        self.mode & 0o666
    }

    /// Creates a file that must not exist yet. Its mode is exact whatever the umask.
    ///
    /// # Errors
    ///
    /// The system's, `AlreadyExists` among them.
    pub fn create_file(self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        self.apply(path, self.file_mode(), 0o600)?;
        Ok(file)
    }

    /// Creates a directory that must not exist yet.
    ///
    /// # Errors
    ///
    /// The system's, `AlreadyExists` among them.
    pub fn create_new_directory(self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        self.apply(path, self.mode, 0o700)
    }

    /// Creates a directory; one that is there already is as good.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn create_directory(self, path: &Path) -> io::Result<()> {
        match self.create_new_directory(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn apply(self, path: &Path, mode: u32, created: u32) -> io::Result<()> {
        if let Some(gid) = self.gid {
            // Refused when we are not a member of the group: the file then stays with ours.
            let _ = chown(path, None, Some(Gid::from_raw(gid)));
        }
        if mode == created {
            Ok(())
        } else {
            fs::set_permissions(path, Permissions::from_mode(mode))
        }
    }
}

/// Makes what a directory lists durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_data()
}

/// The name of a directory entry as a path component of its directory.
pub(crate) fn entry(directory: &Path, name: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    directory.join(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_follow_the_directory() {
        let root = tempfile::tempdir().unwrap();
        for (directory, file) in [(0o700, 0o600), (0o755, 0o644), (0o770, 0o660)] {
            fs::set_permissions(root.path(), Permissions::from_mode(directory)).unwrap();
            let inherited = Inherited::from(root.path());
            let path = root.path().join(format!("f{directory:o}"));
            inherited.create_file(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, file);
            let path = root.path().join(format!("d{directory:o}"));
            inherited.create_directory(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, directory);
        }
        assert!(Inherited::from(root.path()).create_file(&root.path().join("f700")).is_err());
    }
}
