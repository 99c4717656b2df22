//! Reading a user's `.forward` or an `:include:` file, as that user.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::delivery::{reason, status_of};
use crate::task::{Failure, Found, Outcome, Whose};

/// The first of `paths` that exists. One that others could have written counts as missing.
pub fn first(paths: &[PathBuf], limit: u64, whose: Whose) -> Outcome {
    for path in paths {
        match read(path, limit, whose) {
            Ok(Some(found)) => return Outcome::Text(Some(found)),
            Ok(None) => {}
            Err(error) => {
                let text = format!("cannot open file {}: {}", path.display(), reason(&error));
                return Outcome::Failed(Failure::new(status_of(&error), text));
            }
        }
    }
    Outcome::Text(None)
}

fn read(path: &Path, limit: u64, whose: Whose) -> io::Result<Option<Found>> {
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let warn = |what: &str| {
        tracing::warn!(target: "mail", "warning: {}: {what}", path.display());
    };
    if !metadata.is_file() {
        warn("not a regular file");
        return Ok(None);
    }
    let owner = metadata.uid();
    if whose == Whose::Reader && owner != 0 && owner != geteuid().as_raw() {
        warn("file has bad owner");
        return Ok(None);
    }
    if metadata.mode() & 0o002 != 0 {
        warn("file is world writable");
        return Ok(None);
    }
    let mut text = Vec::new();
    if file.take(limit + 1).read_to_end(&mut text)? as u64 > limit {
        return Err(io::Error::other("file is too large"));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Some(Found { owner, text }))
}

/// A home that is not there, or that is no directory, has no file either.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_a_file_of_ones_own_counts() {
        let root = tempfile::tempdir().unwrap();
        let (first_path, second) = (root.path().join(".forward+x"), root.path().join(".forward"));
        let paths = [first_path.clone(), second.clone()];
        let first = |limit| first(&paths, limit, Whose::Reader);
        assert_eq!(first(100), Outcome::Text(None));
        fs::write(&second, "a@b.example\n").unwrap();
        let owner = geteuid().as_raw();
        let text = Outcome::Text(Some(Found { owner, text: "a@b.example\n".into() }));
        assert_eq!(first(100), text);
        fs::create_dir(&first_path).unwrap();
        assert_eq!(first(100), text);
        assert!(matches!(first(5), Outcome::Failed(_)));
        fs::set_permissions(&second, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(first(100), Outcome::Text(None));
    }
}
