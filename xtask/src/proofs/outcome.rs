//! One run of a test with a setting forgotten: what came of it, and the record of all runs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::run::command;

/// How long a test may take that plays all of its cases.
const WHOLE: &str = "300";
/// One that takes longer without a setting has not told what it misses.
const WITHOUT: &str = "120";

/// A test, and the setting that it runs without.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `postfix smtpd_banner`; empty when nothing is forgotten.
    pub row: String,
    pub test: String,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With the first thing it said.
    Failed(String),
    /// It did not end by itself, or was not there: nothing is shown.
    Unclear(String),
}

impl Trial {
    pub fn new(row: String, test: &str) -> Self {
        Self { row, test: test.to_owned() }
    }

    /// What it is about, for the progress.
    pub fn shown(&self) -> String {
        match self.row.as_str() {
            "" => format!("{} ", self.test),
            row => format!("without {row}: "),
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passes"),
            Self::Failed(why) => write!(f, "fails: {why}"),
            Self::Unclear(why) => write!(f, "unclear: {why}"),
        }
    }
}

/// Runs a test to its end. What it says goes to a file, since daemons that it leaves would keep a pipe open.
pub fn of(trial: &Trial, program: &Path, test: &str, programs: &Path) -> Outcome {
    let run = || -> std::io::Result<Outcome> {
        let mut said = tempfile()?;
        let mut command = command("timeout");
        let seconds = if trial.row.is_empty() { WHOLE } else { WITHOUT };
        command.args(["-k", "5", seconds]).arg(program).args(["--exact", test]);
        command.env("THEORIS_FORGET", &trial.row).env("THEORIS_BIN_DIR", programs);
        command.env("RUST_BACKTRACE", "0");
        command.stdout(Stdio::from(said.try_clone()?)).stderr(Stdio::from(said.try_clone()?));
        let status = command.status()?;
        let mut text = Vec::new();
        said.rewind()?;
        said.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        Ok(match status.code() {
            _ if !text.contains("running 1 test") => Outcome::Unclear("no test ran".into()),
            Some(0) => Outcome::Passed,
            Some(101) => Outcome::Failed(first_words(&text)),
            Some(124 | 137) => Outcome::Unclear(format!("it does not end within {seconds} s")),
            _ => Outcome::Unclear(status.to_string()),
        })
    };
    run().unwrap_or_else(|error| Outcome::Unclear(error.to_string()))
}

/// A file that goes with its last handle.
fn tempfile() -> std::io::Result<File> {
    let name = format!("theoris-proof-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Where a test panicked, and what it said there, on one line.
fn first_words(text: &str) -> String {
    let panic = text.split_once(" panicked at ").map_or(text, |(_, rest)| rest);
    let words = panic.split_whitespace().take(40).collect::<Vec<_>>().join(" ");
    words.chars().take(300).collect()
}

/// The outcomes of this and earlier calls, one line each: row, test, outcome.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
    /// The test by which a row was proved, if its last run proved it.
    proved: BTreeMap<String, String>,
}

impl Record {
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let why = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut proved = BTreeMap::new();
        for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
            let mut fields = line.split('\t');
            let (Some(row), Some(test), Some(outcome)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if outcome.starts_with("fails") {
                proved.insert(row.to_owned(), test.to_owned());
            } else {
                proved.remove(row);
            }
        }
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(why)?;
        Ok(Self { path, file, proved })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_proved(&self, row: &str, test: &str) -> bool {
        self.proved.get(row).is_some_and(|by| by == test)
    }

    /// A line that cannot be written is missed by the next `--rest` alone.
    pub fn add(&self, trial: &Trial, outcome: &Outcome) {
        let _ = writeln!(&self.file, "{}\t{}\t{outcome}", trial.row, trial.test);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_outcome_of_a_row_counts() {
        let path = std::env::temp_dir().join(format!("theoris-record-{}", std::process::id()));
        let record = Record::open(path.clone()).unwrap();
        let [a, b] = ["postfix a", "postfix b"].map(|row| Trial::new(row.into(), "x::tests::y"));
        record.add(&a, &Outcome::Passed);
        record.add(&b, &Outcome::Failed("1 is not 2".into()));
        record.add(&a, &Outcome::Failed("no".into()));
        record.add(&b, &Outcome::Unclear("no test ran".into()));
        let record = Record::open(path.clone()).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(record.is_proved("postfix a", "x::tests::y"));
        assert!(!record.is_proved("postfix a", "x::tests::another"));
        assert!(!record.is_proved("postfix b", "x::tests::y"));
    }

    #[test]
    fn the_first_words_are_those_of_the_panic() {
        let text = "running 1 test\nthread 'a' (7) panicked at x.rs:1:2:\nassertion `left == right` failed\n  left: 1\n right: 2\n";
        assert_eq!(
            first_words(text),
            "x.rs:1:2: assertion `left == right` failed left: 1 right: 2"
        );
    }
}
