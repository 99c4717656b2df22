//! The end of a Maildir++ folder: out of sight in one step, then taken apart.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;

use crate::error::{At, StoreError};
use crate::host;
use crate::store::remove_tree;

/// Dovecot's name for the same; nobody lists it.
const NAME: &str = "..DOVECOT-TRASHED";
/// Each time somebody else has to have begun and ended a deletion at that very moment.
const TRIES: usize = 100;

/// Takes `folder` away, which lies in `root`. Others may delete other folders of the same user at the same time.
pub fn throw_away(root: &Path, folder: &Path, hostname: &str) -> Result<(), StoreError> {
    let trash = root.join(NAME);
    let mut tries = 0;
    loop {
        // Onto nothing, or onto an empty directory.
        match fs::rename(folder, &trash) {
            Err(error) if is_occupied(&error) => {}
            done => return done.at("rename", folder).and_then(|()| take_apart(&trash)),
        }
        // Into what others are taking apart, or what a crash has left.
        match fs::rename(folder, trash.join(host::unique_name(hostname))) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
            done => return done.at("rename", folder).and_then(|()| take_apart(&trash)),
        }
    }
}

/// The folder is gone already. Whoever puts more into the trash meanwhile takes that away as well.
fn take_apart(trash: &Path) -> Result<(), StoreError> {
    match remove_tree(trash) {
        Err(StoreError::Io { source, .. }) if is_occupied(&source) => Ok(()),
        done => done,
    }
}

fn is_occupied(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(folder: &Path) {
        for name in ["cur", "new", "tmp"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("cur/1.M1P1.host:2,S"), "text").unwrap();
    }

    #[test]
    fn folders_go_while_others_go() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    let folder = root.join(format!(".W{worker}"));
                    for _ in 0..50 {
                        fill(&folder);
                        throw_away(root, &folder, "host").unwrap();
                        assert!(!folder.exists());
                    }
                });
            }
        });
        fill(&root.join(".Last"));
        throw_away(root, &root.join(".Last"), "host").unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_has_left_goes_along() {
        let root = tempfile::tempdir().unwrap();
        fill(&root.path().join(NAME));
        fill(&root.path().join(".Job"));
        throw_away(root.path(), &root.path().join(".Job"), "host").unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let root = tempfile::tempdir().unwrap();
        let lost = throw_away(root.path(), &root.path().join(".Job"), "host");
        assert!(lost.is_err_and(|error| error.is_missing()));
    }
}
