//! `cargo xtask proofs`: the test that a row of the register names fails when that one setting is not obeyed.
//!
//! Everything is built with the feature `proofs` of `config`, with which `THEORIS_FORGET` takes a setting out of every
//! file that is read. Each named test has to pass with nothing forgotten; each row's test is then run with its setting
//! forgotten, and has to fail. `docs/proofs.md` tells more.

mod outcome;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use config::register::{Fact, Mark};
use config::usage::{PRODUCTS, unproved};
use serde_json::Value;

use crate::peers;
use crate::run::{Done, cargo, command, failed, must, release_directory};
use outcome::{Outcome, Record, Trial};

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

/// Proves the rows that `words` choose: `--all`, `--rest` (what the record does not call proved), those with one of the
/// words in them, or without any word one of each test that crosses daemons and all of the others.
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
    let record = Record::open(built.programs.join("proofs.tsv"))?;
    let rows = chosen(words, &record);
    let began = Instant::now();
    let named: BTreeSet<&str> = rows.iter().map(|row| row.fact.test).collect();
    let whole = named.iter().map(|test| Trial::new(String::new(), test)).collect();
    let broken = each(whole, built, |trial, outcome| {
        let fails = !matches!(outcome, Outcome::Passed);
        fails.then(|| format!("{} with nothing forgotten: {outcome}", trial.test))
    });
    let void: BTreeSet<&str> = broken.iter().map(|(trial, _)| trial.test.as_str()).collect();
    let sound = rows.iter().filter(|row| !void.contains(row.fact.test));
    let trials: VecDeque<Trial> = sound.map(|row| Trial::new(row.name(), row.fact.test)).collect();
    let tried = trials.len();
    let unmoved = each(trials, built, |trial, outcome| {
        record.add(trial, outcome);
        let moved = matches!(outcome, Outcome::Failed(_));
        (!moved).then(|| format!("{}: {} without it: {outcome}", trial.row, trial.test))
    });
    let (count, proved) = (rows.len(), tried - unmoved.len());
    println!("{proved} of {count} settings proved in {} s", began.elapsed().as_secs());
    println!("what each test said is in {}", record.path().display());
    let problems: Vec<String> =
        broken.into_iter().chain(unmoved).map(|(_, problem)| problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn chosen(words: &[&str], record: &Record) -> Vec<Row> {
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
                ["--rest"] => !record.is_proved(&row.name(), fact.test),
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

/// Runs each test with its setting forgotten, two at a time, and tells how it goes; what `judge` finds wrong is kept.
fn each(
    work: VecDeque<Trial>,
    built: &Built,
    judge: impl Fn(&Trial, &Outcome) -> Option<String> + Sync,
) -> Vec<(Trial, String)> {
    let (count, done) = (work.len(), Mutex::new(0));
    let (work, found) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(trial) = next(&work) {
                    let began = Instant::now();
                    let outcome = built.outcome(&trial);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    *done += 1;
                    let seconds = began.elapsed().as_secs_f32();
                    println!("[{done:>3}/{count}] {seconds:>4.1} s  {}{outcome}", trial.shown());
                    if let Some(problem) = judge(&trial, &outcome) {
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.push((trial, problem));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn next<T>(work: &Mutex<VecDeque<T>>) -> Option<T> {
    work.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

impl Built {
    fn outcome(&self, trial: &Trial) -> Outcome {
        match self.tests.get(&trial.test) {
            Some((program, test)) => outcome::of(trial, program, test, &self.programs),
            None => Outcome::Unclear("there is no such test".into()),
        }
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
