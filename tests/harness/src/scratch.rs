//! A private directory with a short name: Unix socket paths end at 107 bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A directory of one test; it goes when this is dropped, unless `THEORIS_KEEP` is set.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes `/tmp/th-XXXXXX`, mode 0755, so that unprivileged workers can pass through it.
    pub fn new() -> Self {
        let mut directory = tempfile::Builder::new()
            .prefix("th-")
            .tempdir_in("/tmp")
            .expect("no scratch directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        directory.disable_cleanup(std::env::var_os("THEORIS_KEEP").is_some());
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a directory below this one, with its parents.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file below this directory, making its parents.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
