//! `cargo xtask test`: builds the daemons once, runs every suite, counts what passed, failed and could not run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

mod failures;

use self::failures::Failures;
use crate::peers;
use crate::run::{Done, cargo, failed, must, release_directory, root};

/// What a suite came to.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn show(&self, suite: &str) {
        println!(
            "{suite}: {} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
    }
}

/// Runs the named suites, or all. An error when a test failed or something is left running.
pub fn run(wanted: &[&str]) -> Done {
    peers::install()?;
    let suites = suites()?;
    if let Some(unknown) =
        wanted.iter().find(|name| **name != "unit" && !suites.iter().any(|suite| suite == *name))
    {
        return Err(format!("no suite {unknown}; there are: unit, {}", suites.join(", ")));
    }
    let chosen = |name: &str| wanted.is_empty() || wanted.contains(&name);
    must(&mut cargo(&["build", "--release", "--workspace", "--bins", "--quiet"]))?;
    let mut all = Count::default();
    let mut closing = Vec::new();
    let mut failures = Failures::default();
    if chosen("unit") {
        let count = suite(&["--workspace", "--exclude", "theoris-tests"], &[], &mut failures)?;
        closing.push(("unit".to_owned(), count));
    }
    for name in suites.iter().filter(|name| chosen(name)) {
        let filter = format!("{name}::");
        let count = suite(&["-p", "theoris-tests", "--lib"], &[&filter], &mut failures)?;
        closing.push((name.clone(), count));
    }
    println!();
    for (name, count) in &closing {
        count.show(name);
        all.add(*count);
    }
    println!("{} passed, {} failed, {} skipped", all.passed, all.failed, all.skipped);
    // The last lines of a run are what is always seen of it.
    for told in failures.told() {
        println!("\n{told}");
    }
    left_running()?;
    if all.failed > 0 { Err(format!("{} tests failed", all.failed)) } else { Ok(()) }
}

/// The suites that cross daemons: the modules of tests/src.
fn suites() -> Result<Vec<String>, String> {
    let path = root().join("tests/src/lib.rs");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("mod ")?.trim_end_matches(';').to_owned()))
        .collect())
}

/// One call of `cargo test`, its output shown and counted.
fn suite(packages: &[&str], filters: &[&str], failures: &mut Failures) -> Result<Count, String> {
    let skips = skips_file();
    let _ = fs::remove_file(&skips);
    let mut command = cargo(&["test", "--release", "--no-fail-fast", "--quiet"]);
    command.args(packages).arg("--").args(filters);
    command.env("THEORIS_SKIPS", &skips).env("THEORIS_BIN_DIR", release_directory());
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|error| failed(&command, error))?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            failures.line(&line);
            if let Some(counted) = result_line(&line) {
                count.add(counted);
            }
        }
    }
    let status = child.wait().map_err(|error| failed(&command, error))?;
    if !status.success() && count.failed == 0 {
        return Err(failed(&command, status));
    }
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    let skipped_tests = skipped.lines().count();
    for line in skipped.lines() {
        println!("skipped: {line}");
    }
    // A test that says it cannot run returns at once, so libtest counts it as passed.
    count.passed = count.passed.saturating_sub(skipped_tests);
    count.skipped += skipped_tests;
    Ok(count)
}

fn skips_file() -> PathBuf {
    std::env::temp_dir().join(format!("theoris-skips-{}", std::process::id()))
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Count> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        numbers
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(Count { passed: number("passed"), failed: number("failed"), skipped: number("ignored") })
}

/// Fails when a process of a test's private directory is still there.
fn left_running() -> Done {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?.flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains("/tmp/th-") && !command.starts_with("tail ") {
            left.push(format!("{} {command}", entry.file_name().to_string_lossy()));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("left running:\n  {}", left.join("\n  "))) }
}

#[cfg(test)]
mod tests {
    use super::result_line;

    #[test]
    fn libtests_closing_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 2 ignored; 0 measured; 7 filtered out; finished in 1.5s";
        let count = result_line(line).unwrap();
        assert_eq!((count.passed, count.failed, count.skipped), (12, 3, 2));
        assert!(result_line("test a ... ok").is_none());
    }
}
