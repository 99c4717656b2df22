//! `cargo xtask soak`: a test of random work, for as long as one likes.

use std::fs;
use std::path::Path;

use crate::peers;
use crate::run::{Done, cargo, failed, must, release_directory, target_directory};

const USAGE: &str = "cargo xtask soak maildir [--minutes N] [--seed S]";
const TEST: &str = "swap::soak::dovecot_and_ours_at_random_work_on_one_maildir";

/// Runs the named test for an hour, or for as many minutes as `words` say.
pub fn run(words: &[&str]) -> Done {
    let ["maildir", options @ ..] = words else { return Err(USAGE.into()) };
    let record = target_directory().join(format!("soak-renames-{}", std::process::id()));
    let mut soak = cargo(&["test", "--release", "-p", "theoris-tests", "--lib", "--quiet"]);
    soak.args(["--config", &runner(&record), "--features", "soak"]);
    soak.args(["--", "--exact", TEST, "--nocapture"]).env("THEORIS_SOAK_RENAMES", &record);
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
    must(soak.env("THEORIS_BIN_DIR", release_directory()))?;
    fs::remove_file(&record).map_err(|error| failed(&soak, error))
}

/// The test and all servers that it starts run under strace, which stops them at links, renames and removals only: who has
/// renamed a message's file tells who has lost a flag.
fn runner(record: &Path) -> String {
    let strace = "strace -f --seccomp-bpf -ttt -Y -qq -s 400 -e signal=none";
    let renames =
        format!("{strace} -e trace=link,linkat,rename,renameat,renameat2,unlink,unlinkat -o");
    let record = record.display().to_string();
    let words: Vec<&str> = renames.split(' ').chain([&*record]).collect();
    format!("target.'cfg(unix)'.runner = {words:?}")
}
