//! Files laid out as a package has them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::contents::{File, Source};
use crate::run::{Done, command, must};

pub fn text(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

/// An empty directory.
pub fn fresh(directory: &Path) -> Done {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(text(directory)(error)),
        _ => fs::create_dir_all(directory).map_err(text(directory)),
    }
}

/// Puts files at their places below `root`.
pub fn lay(root: &Path, files: &[File]) -> Done {
    for file in files {
        let to = place(root, &file.to)?;
        match &file.from {
            Source::Program(from) => {
                let from = from.display().to_string();
                must(command("strip").args(["--strip-debug", "-o"]).arg(&to).arg(from))?;
            }
            Source::Copy(from) => {
                fs::copy(from, &to).map_err(text(from))?;
            }
            Source::Page { model, words } => {
                let mut page = fs::read_to_string(model).map_err(text(model))?;
                for (name, value) in words {
                    page = page.replace(name, value);
                }
                let plain = to.with_extension("");
                fs::write(&plain, page).map_err(text(&plain))?;
                must(command("gzip").args(["-9", "--no-name", "--force"]).arg(&plain))?;
            }
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(file.mode)).map_err(text(&to))?;
    }
    Ok(())
}

/// A small file of the package itself.
pub fn write(root: &Path, to: &str, mode: u32, content: impl AsRef<[u8]>) -> Done {
    let to = place(root, to)?;
    fs::write(&to, content).map_err(text(&to))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(mode)).map_err(text(&to))
}

fn place(root: &Path, to: &str) -> Result<PathBuf, String> {
    let to = root.join(to.trim_start_matches('/'));
    let parent = to.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(text(parent))?;
    Ok(to)
}

/// Files and links, each with its path below `root`, sorted. No link is followed.
pub fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(text(&directory))? {
            let entry = entry.map_err(text(&directory))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(text(&directory))?);
            if kind.is_dir() {
                open.push(path);
            } else if let Ok(below) = path.strip_prefix(root) {
                found.push(format!("/{}", below.display()));
            }
        }
    }
    found.sort();
    Ok(found)
}
