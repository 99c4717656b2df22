//! Root's demo runs as a uid that nobody has: no file of the machine is its own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use harness::site::DAEMONS;
use nix::unistd::{Uid, User, chown};

use crate::run::{Done, must};

/// Copies programs and samples into `directory` and runs the demo there as a free uid.
pub fn run_as_nobody(programs: &Path, samples: &Path, directory: &Path, once: bool) -> Done {
    let uid = free_uid()?;
    let state = directory.join("state");
    let text = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory.join("bin")).map_err(text)?;
    fs::create_dir_all(&state).map_err(text)?;
    for name in DAEMONS.iter().chain(&["dkim-milter", "xtask"]) {
        fs::copy(programs.join(name), directory.join("bin").join(name))
            .map_err(|error| format!("{name}: {error}"))?;
    }
    copy_tree(samples, &directory.join("etc")).map_err(text)?;
    chown(&state, Some(uid.into()), Some(uid.into()))
        .map_err(|error| format!("{}: {error}", state.display()))?;
    println!("continuing as uid {uid}");
    let mut demo = Command::new(directory.join("bin/xtask"));
    demo.args(["demo", "--inside"]).arg(directory).uid(uid).gid(uid).current_dir(&state);
    demo.env_clear()
        .env("THEORIS_BIN_DIR", directory.join("bin"))
        .env("TMPDIR", &state)
        .env("PATH", "/usr/bin:/bin");
    if once {
        demo.arg("--once");
    }
    must(&mut demo)
}

/// A uid in the range that systemd leaves free for other uses, without a user.
fn free_uid() -> Result<u32, String> {
    (62_000..64_000)
        .find(|uid| matches!(User::from_uid(Uid::from_raw(*uid)), Ok(None)))
        .ok_or_else(|| "no free uid between 62000 and 64000".to_owned())
}

pub fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
