//! What a program needs of the system's libraries, as its dynamic section says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::run::{command, failed};

/// Shared libraries, and the newest version of their symbols that is asked for, by their prefix (`GLIBC`, `GCC`).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub libraries: BTreeSet<String>,
    pub newest: BTreeMap<String, Vec<u32>>,
}

impl Needs {
    /// Reads a program.
    ///
    /// # Errors
    ///
    /// What objdump said of a file that is no program.
    pub fn of(program: &Path) -> Result<Self, String> {
        let mut objdump = command("objdump");
        objdump.arg("-p").arg(program);
        let output = objdump.output().map_err(|error| failed(&objdump, error))?;
        if !output.status.success() {
            return Err(failed(&objdump, String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Self::read(&String::from_utf8_lossy(&output.stdout)))
    }

    fn read(text: &str) -> Self {
        let mut needs = Self::default();
        let mut versions = false;
        for line in text.lines() {
            versions = (versions || line.starts_with("Version References:"))
                && !line.starts_with("Version definitions:");
            let mut words = line.split_whitespace();
            match (words.next(), words.next_back()) {
                (Some("NEEDED"), Some(library)) => {
                    needs.libraries.insert(library.to_owned());
                }
                // 0x06969194 0x00 12 GLIBC_2.34
                (Some(hash), Some(symbol)) if versions && hash.starts_with("0x") => {
                    needs.symbol(symbol)
                }
                _ => {}
            }
        }
        needs
    }

    fn symbol(&mut self, symbol: &str) {
        let Some((prefix, version)) = symbol.split_once('_') else { return };
        let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
        if let Ok(numbers) = numbers {
            let newest = self.newest.entry(prefix.to_owned()).or_default();
            *newest = numbers.max(std::mem::take(newest));
        }
    }

    /// What both need.
    pub fn join(&mut self, other: Self) {
        self.libraries.extend(other.libraries);
        for (prefix, version) in other.newest {
            let newest = self.newest.entry(prefix).or_default();
            *newest = version.max(std::mem::take(newest));
        }
    }

    /// `2.34`; nothing when no symbol of that prefix has a version.
    pub fn version(&self, prefix: &str) -> Option<String> {
        let numbers = self.newest.get(prefix)?;
        Some(numbers.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
Dynamic Section:
  NEEDED               libgcc_s.so.1
  NEEDED               libc.so.6
  RUNPATH              0x06969194

Version References:
  required from libc.so.6:
    0x06969189 0x00 13 GLIBC_2.9
    0x06969194 0x00 12 GLIBC_2.34
    0x0963cf85 0x00 05 GLIBC_PRIVATE
  required from libgcc_s.so.1:
    0x0b792650 0x00 14 GCC_3.0
";

    #[test]
    fn the_newest_version_is_found_by_number() {
        let needs = Needs::read(SAID);
        assert_eq!(needs.version("GLIBC").as_deref(), Some("2.34"));
        assert_eq!(needs.version("GCC").as_deref(), Some("3.0"));
        assert_eq!(needs.libraries.len(), 2);
    }
}
