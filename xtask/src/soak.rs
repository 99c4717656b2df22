//! `cargo xtask soak`: a test of random work, for as long as one likes.

use crate::peers;
use crate::run::{Done, cargo, must, release_directory};

const USAGE: &str = "cargo xtask soak maildir [--minutes N] [--seed S]";
const TEST: &str = "swap::soak::dovecot_and_ours_at_random_work_on_one_maildir";

/// Runs the named test for an hour, or for as many minutes as `words` say.
pub fn run(words: &[&str]) -> Done {
    let ["maildir", options @ ..] = words else { return Err(USAGE.into()) };
    let mut soak = cargo(&["test", "--release", "-p", "theoris-tests", "--lib", "--quiet"]);
    soak.args(["--features", "soak", "--", "--exact", TEST, "--nocapture"]);
    let mut minutes = 60;
    for option in options.chunks(2) {
        let number: Option<u64> = option.get(1).and_then(|number| number.parse().ok());
        match (option[0], number) {
            ("--minutes", Some(number)) => minutes = number,
            ("--seed", Some(number)) => drop(soak.env("THEORIS_SOAK_SEED", number.to_string())),
            _ => return Err(USAGE.into()),
        }
    }
    peers::install()?;
    must(&mut cargo(&["build", "--release", "--workspace", "--bins", "--quiet"]))?;
    soak.env("THEORIS_SOAK_SECONDS", (minutes * 60).to_string());
    must(soak.env("THEORIS_BIN_DIR", release_directory()))
}
