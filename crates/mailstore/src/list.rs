//! Which mailboxes there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{At, StoreError, present};
use crate::location::Layout;
use crate::store::{Folder, Store, is_directory};

/// More folders than this are not listed: a directory tree of an attacker's making must end.
const MOST: usize = 100_000;
const DEEPEST: usize = 32;

impl Store {
    /// Every mailbox and every parent of one, sorted by name, INBOX first whether it exists or not.
    ///
    /// # Errors
    ///
    /// What keeps us from reading the root.
    pub fn list(&self) -> Result<Vec<Folder>, StoreError> {
        let mut found: BTreeMap<String, bool> = BTreeMap::new();
        match self.location().layout {
            Layout::MaildirPlusPlus => self.list_maildir(&mut found)?,
            Layout::Fs => self.list_fs(&self.location().root, "", 0, &mut found)?,
        }
        let separator = self.options().separator;
        let names: Vec<String> = found.keys().cloned().collect();
        for name in names {
            for (at, _) in name.match_indices(separator) {
                found.entry(name[..at].to_owned()).or_insert(false);
            }
        }
        let has_children = |name: &str| {
            let below = format!("{name}{separator}");
            found.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
        };
        let inbox = Folder {
            name: "INBOX".to_owned(),
            selectable: true,
            has_children: has_children("INBOX"),
        };
        let folders =
            found.iter().filter(|(name, _)| *name != "INBOX").map(|(name, &selectable)| Folder {
                name: name.clone(),
                selectable,
                has_children: has_children(name),
            });
        Ok(std::iter::once(inbox).chain(folders).collect())
    }

    fn list_maildir(&self, found: &mut BTreeMap<String, bool>) -> Result<(), StoreError> {
        let root = &self.location().root;
        let Some(entries) = present(fs::read_dir(root)).at("opendir", root)? else { return Ok(()) };
        for entry in entries.take(MOST) {
            let entry = entry.at("readdir", root)?;
            let name = entry.file_name();
            let Some(levels) = name.to_str().and_then(|name| name.strip_prefix('.')) else {
                continue;
            };
            let Some(shown) = self.shown(levels.split('.')) else { continue };
            if !crate::name::is_inbox(&shown) && is_directory(&entry.path()).unwrap_or(false) {
                found.insert(shown, true);
            }
        }
        Ok(())
    }

    fn list_fs(
        &self,
        directory: &Path,
        above: &str,
        depth: usize,
        found: &mut BTreeMap<String, bool>,
    ) -> Result<(), StoreError> {
        let Some(entries) = present(fs::read_dir(directory)).at("opendir", directory)? else {
            return Ok(());
        };
        for entry in entries.take(MOST) {
            let entry = entry.at("readdir", directory)?;
            let name = entry.file_name();
            let Some(shown) = name.to_str().and_then(|name| self.shown(std::iter::once(name)))
            else {
                continue;
            };
            let path = entry.path();
            // Links are followed one level only: a loop of them ends at the depth limit.
            if !is_directory(&path).unwrap_or(false) || depth >= DEEPEST || found.len() >= MOST {
                continue;
            }
            let separator = self.options().separator;
            let full = if above.is_empty() { shown } else { format!("{above}{separator}{shown}") };
            if !crate::name::is_inbox(&full) {
                found.insert(full.clone(), is_directory(&path.join("cur")).unwrap_or(false));
                self.list_fs(&path, &full, depth + 1, found)?;
            }
        }
        Ok(())
    }

    /// A directory's levels as a client sees them; `None` for what is no folder.
    fn shown<'a>(&self, levels: impl Iterator<Item = &'a str>) -> Option<String> {
        let separator = self.options().separator;
        let shown: Option<Vec<String>> =
            levels.map(|level| self.location().shown_level(level, separator)).collect();
        shown.filter(|levels| !levels.is_empty()).map(|levels| levels.join(&separator.to_string()))
    }
}
