//! `--check` of every daemon on every sample in etc/, laid out as a host would have it.

use crate::run::{Done, cargo, command, must, release_directory, root};
use harness::Scratch;
use harness::site::Site;

/// Renders each sample below a private directory and lets each daemon check its files.
pub fn check() -> Done {
    must(&mut cargo(&["build", "--release", "--workspace", "--bins", "--quiet"]))?;
    let mut problems = Vec::new();
    for sample in harness::site::SAMPLES {
        let scratch = Scratch::new();
        let site = Site::render(&root().join("etc").join(sample), scratch.path());
        for daemon in site.daemons() {
            let mut check = command(release_directory().join(daemon));
            check.arg("--check").args(site.arguments(daemon));
            let output = check.output().map_err(|error| format!("{daemon}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() || !said.trim().is_empty() {
                problems.push(format!("{sample}: {daemon} --check: {}\n{said}", output.status));
            }
        }
        println!("etc/{sample}: every daemon accepts it");
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}
