//! Running programs: every step is shown, every failure names the command.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What went wrong, for the person at the terminal.
pub type Done = Result<(), String>;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo puts what it makes.
pub fn target_directory() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where `cargo build --release` puts programs.
pub fn release_directory() -> PathBuf {
    target_directory().join("release")
}

/// A command that runs in the root of the repository.
pub fn command<S: AsRef<OsStr>>(program: S) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// `cargo` with these words, in the root of the repository.
pub fn cargo(words: &[&str]) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(words);
    cargo
}

/// Runs a command to its end; anything but success is an error that names it.
pub fn must(command: &mut Command) -> Done {
    let status = command.status().map_err(|error| failed(command, error))?;
    if status.success() { Ok(()) } else { Err(failed(command, status)) }
}

/// The error of a command that failed.
pub fn failed(command: &Command, why: impl Display) -> String {
    let words: Vec<_> =
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("{} {}: {why}", command.get_program().to_string_lossy(), words.join(" "))
}
