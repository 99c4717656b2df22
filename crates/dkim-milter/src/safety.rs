//! Whether a key file is safe from other users, by OpenDKIM's rules: walked from the root, every directory and the file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use config::Files;

/// For whom the file must be safe.
pub struct Safety<'a> {
    pub files: &'a dyn Files,
    /// Whom the worker becomes.
    pub uid: u32,
}

impl Safety<'_> {
    /// `None` when the file is safe, or what is wrong in OpenDKIM's words.
    pub fn fault(&self, path: &Path) -> Option<String> {
        let real = path.canonicalize().ok()?;
        let mut walked = PathBuf::new();
        for part in real.components() {
            walked.push(part);
            let facts = walked.metadata().ok()?;
            let (mode, last) = (facts.mode(), walked == real);
            let shown =
                if last { path.display().to_string() } else { walked.display().to_string() };
            let others = if last { 0o006 } else { 0o002 };
            if mode & others != 0 {
                return Some(format!("{shown} can be read or written by other users"));
            }
            let group = if last { 0o060 } else { 0o020 };
            if mode & group != 0
                && let Some(name) = self.sharer(facts.gid())
            {
                let gid = facts.gid();
                return Some(format!(
                    "{shown} is in group {gid} which has multiple users (e.g. \"{name}\")"
                ));
            }
            if (last || mode & 0o200 != 0) && ![0, self.uid].contains(&facts.uid()) {
                let uid = self.uid;
                return Some(format!(
                    "{shown} is not owned by the executing uid ({uid}) or the superuser"
                ));
            }
            if !last && mode & 0o011 == 0 {
                return None; // nobody else can get any further
            }
        }
        None
    }

    /// Somebody else who is in a group.
    fn sharer(&self, gid: u32) -> Option<String> {
        let passwd = self.text("/etc/passwd");
        let users: Vec<(&str, u32, u32)> = passwd
            .lines()
            .filter_map(|line| {
                let mut words = line.split(':');
                let name = words.next()?;
                let uid = words.nth(1)?.parse().ok()?;
                Some((name, uid, words.next()?.parse().ok()?))
            })
            .collect();
        let is_other = |uid: u32| uid != self.uid && uid != 0;
        if let Some((name, _, _)) =
            users.iter().find(|(_, uid, primary)| *primary == gid && is_other(*uid))
        {
            return Some((*name).to_owned());
        }
        let groups = self.text("/etc/group");
        let line = groups.lines().find(|line| line.split(':').nth(2) == Some(&gid.to_string()))?;
        let members = line.split(':').nth(3)?.split(',').filter(|name| !name.is_empty());
        let other = |name: &&str| {
            users.iter().find(|(user, ..)| user == name).is_none_or(|(_, uid, _)| is_other(*uid))
        };
        members.into_iter().find(other).map(str::to_owned)
    }

    fn text(&self, path: &str) -> String {
        let content = self.files.read(Path::new(path)).unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    }
}
