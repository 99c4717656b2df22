//! Debian 13's `doveconf`, which `cargo xtask test` unpacks under the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip::skip;

/// The unpacked packages.
#[derive(Debug)]
pub struct ModernDovecot(PathBuf);

impl ModernDovecot {
    /// `None`, noted as a skip, where they are not.
    #[must_use]
    pub fn find() -> Option<Self> {
        let me = std::env::current_exe().unwrap();
        let found = me
            .ancestors()
            .map(|directory| directory.join("peers/dovecot-2.4"))
            .find(|root| root.join("usr/bin/doveconf").exists());
        if found.is_none() {
            skip("needs Dovecot 2.4, which cargo xtask test fetches");
        }
        found.map(Self)
    }

    /// The files that the package ships in `/usr/share/dovecot`.
    #[must_use]
    pub fn shipped(&self) -> PathBuf {
        self.0.join("usr/share/dovecot")
    }

    /// What `doveconf -c FILE WORDS` prints, or why it refuses the file. It runs with its own libraries.
    ///
    /// # Errors
    ///
    /// Its last words.
    pub fn doveconf(&self, words: &[&str], file: &Path) -> Result<String, String> {
        let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/dovecot"]
            .map(|directory| self.0.join(directory).display().to_string());
        let output = Command::new(self.0.join("usr/lib64/ld-linux-x86-64.so.2"))
            .args(["--library-path", &libraries.join(":")])
            .arg(self.0.join("usr/bin/doveconf"))
            .arg("-c")
            .arg(file)
            .args(words)
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().last().unwrap_or_default().to_owned())
    }
}
