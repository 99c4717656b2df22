//! `cargo xtask proofs`: the test that a row of the register names fails when that one setting is not obeyed.
//!
//! Everything is built with the feature `proofs` of `config`, with which `THEORIS_FORGET` takes a setting out of every
//! file that is read. Each row's test is then run with its setting forgotten, and has to fail; once, with nothing
//! forgotten, it has to pass. `docs/proofs.md` tells more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Instant;

use config::register::{Fact, Mark};
use config::usage::{PRODUCTS, unproved};
use serde_json::Value;

use crate::peers;
use crate::run::{Done, cargo, command, failed, must, release_directory};

/// A test that takes longer has noticed nothing, and cannot end.
const SECONDS: &str = "90";

/// One obeyed setting and the test that its row names.
struct Row {
    product: &'static str,
    fact: &'static Fact,
}

impl Row {
    /// `postfix smtpd_banner`
    fn name(&self) -> String {
        format!("{} {}", self.product, self.fact.name)
    }
}

/// What was built with the hook.
struct Built {
    /// Where the daemons are.
    programs: PathBuf,
    /// Where each test is: the program, and its name there.
    tests: BTreeMap<String, (PathBuf, String)>,
}

/// Proves the rows that `words` choose: `--all`, those with one of the words in them, or without any word one of each
/// test that crosses daemons and all of the others.
pub fn run(words: &[&str]) -> Done {
    peers::install()?;
    let (words, profile) = match words {
        ["--debug", words @ ..] => (words, &[][..]),
        words => (words, &["--release"][..]),
    };
    let done = build(profile).and_then(|built| prove(words, &built));
    // What stands beside the tests afterwards is what a host would get.
    must(cargo(&["build", "--workspace", "--bins", "--quiet"]).args(profile))?;
    done
}

fn prove(words: &[&str], built: &Built) -> Done {
    let unproved = unproved(&built.tests.keys().cloned().collect());
    if !unproved.is_empty() {
        return Err(unproved.join("\n"));
    }
    let rows = chosen(words);
    let began = Instant::now();
    let named: BTreeSet<&str> = rows.iter().map(|row| row.fact.test).collect();
    let passing: VecDeque<(String, &str)> =
        named.into_iter().map(|test| (String::new(), test)).collect();
    let broken = each(passing, built, |_, test, passed| {
        (!passed).then(|| format!("{test} fails with nothing forgotten"))
    });
    let count = rows.len();
    let forgetting = rows.iter().map(|row| (row.name(), row.fact.test)).collect();
    let mut problems = broken;
    problems.extend(each(forgetting, built, |row, test, passed| {
        passed.then(|| format!("{row}: {test} passes without it"))
    }));
    let seconds = began.elapsed().as_secs();
    println!("{} of {count} settings proved in {seconds} s", count - problems.len().min(count));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn chosen(words: &[&str]) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    for product in PRODUCTS {
        for fact in product.facts {
            if !matches!(fact.mark, Mark::Supported | Mark::Differs) {
                continue;
            }
            let row = Row { product: product.module, fact };
            let crosses = !fact.test.contains("::tests::");
            let wanted = match words {
                [] => !crosses || seen.insert(fact.test),
                ["--all"] => true,
                words => {
                    words.iter().any(|word| row.name().contains(word) || fact.test.contains(word))
                }
            };
            if wanted {
                rows.push(row);
            }
        }
    }
    rows
}

/// Runs each test with its setting forgotten, two at a time; what `judge` says of the outcome is kept.
fn each(
    work: VecDeque<(String, &str)>,
    built: &Built,
    judge: impl Fn(&str, &str, bool) -> Option<String> + Sync,
) -> Vec<String> {
    let (work, found) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((forgotten, test)) = next(&work) {
                    let passed = built.passes(&forgotten, test);
                    if let Some(problem) = judge(&forgotten, test, passed) {
                        println!("{problem}");
                        found.lock().unwrap_or_else(|poison| poison.into_inner()).push(problem);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|poison| poison.into_inner())
}

fn next<T>(work: &Mutex<VecDeque<T>>) -> Option<T> {
    work.lock().unwrap_or_else(|poison| poison.into_inner()).pop_front()
}

impl Built {
    fn passes(&self, forgotten: &str, name: &str) -> bool {
        let Some((program, test)) = self.tests.get(name) else { return false };
        let mut command = command("timeout");
        command.args(["-k", "5", SECONDS]).arg(program).args(["--exact", test]);
        command.env("THEORIS_FORGET", forgotten).env("THEORIS_BIN_DIR", &self.programs);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// Builds every test and every daemon with the hook, and lists the tests: `smtpd::plan::tests::…` of a crate,
/// `compliance::…` of the suites.
fn build(profile: &[&str]) -> Result<Built, String> {
    let with = ["--workspace", "--features", "config/proofs"];
    must(cargo(&["build", "--bins", "--quiet"]).args(with).args(profile))?;
    let mut build = cargo(&["test", "--lib", "--no-run", "--message-format=json"]);
    build.args(with).args(profile).stderr(Stdio::inherit());
    let output = build.output().map_err(|error| failed(&build, error))?;
    if !output.status.success() {
        return Err(failed(&build, output.status));
    }
    let release = release_directory();
    let programs = if profile.is_empty() { release.with_file_name("debug") } else { release };
    let mut tests = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let Some(name) = message["target"]["name"].as_str() else { continue };
        let prefix = match name {
            "theoris_tests" => String::new(),
            name => format!("{}::", name.replace('-', "_")),
        };
        let mut list = command(&program);
        let listed = list.arg("--list").output().map_err(|error| failed(&list, error))?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if let Some(test) = line.strip_suffix(": test") {
                tests.insert(format!("{prefix}{test}"), (program.clone(), test.to_owned()));
            }
        }
    }
    Ok(Built { programs, tests })
}
