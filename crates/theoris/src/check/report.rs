//! What `theoris check` found, as a value: printed for people, or as JSON for programs.

use config::inventory::Meaning;
use config::{Place, Problem, Severity};
use serde::Serialize;

use super::files::Files;
use super::machine::Machine;
use crate::command::code;
use crate::plank::Plank;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Note,
    Warning,
    /// Mail is lost, refused or readable by others, or a plank cannot be adopted.
    Critical,
}

/// The exit code for monitors, by the worst that was found.
pub fn code_of(worst: Option<Level>) -> u8 {
    match worst {
        None | Some(Level::Note) => code::FINE,
        Some(Level::Warning) => code::WARNING,
        Some(Level::Critical) => code::CRITICAL,
    }
}

/// One thing that was found, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// Whom it concerns; nobody in particular when empty.
    pub planks: Vec<Plank>,
    pub place: Option<Place>,
    pub text: String,
    pub mend: Option<String>,
}

impl Finding {
    pub fn new(level: Level, place: impl Into<Option<Place>>, text: impl Into<String>) -> Self {
        Self { level, planks: Vec::new(), place: place.into(), text: text.into(), mend: None }
    }

    pub fn note(place: impl Into<Option<Place>>, text: impl Into<String>) -> Self {
        Self::new(Level::Note, place, text)
    }

    pub fn warning(place: impl Into<Option<Place>>, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, place, text)
    }

    pub fn critical(place: impl Into<Option<Place>>, text: impl Into<String>) -> Self {
        Self::new(Level::Critical, place, text)
    }

    /// How to mend it.
    #[must_use]
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }

    #[must_use]
    pub fn of(mut self, plank: Plank) -> Self {
        self.planks.push(plank);
        self
    }
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        let level = match problem.severity {
            Severity::Warning => Level::Warning,
            Severity::Error => Level::Critical,
        };
        Self {
            mend: problem.instead.clone(),
            ..Self::new(level, problem.place.clone(), problem.text.clone())
        }
    }
}

/// Whether a plank can be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is ours already.
    Ours,
    Ready,
    Blocked,
    /// Our daemon is not installed, so its own check did not run.
    Unchecked,
    /// The host has nothing of the kind.
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlankReport {
    pub plank: Plank,
    pub state: State,
    /// In a few words: what it would take over, or why there is nothing.
    pub what: String,
    /// Notes, warnings and obstacles that concern it.
    pub warnings: usize,
    pub obstacles: usize,
}

/// How many lines of a product's files set what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    pub settings: usize,
    pub obeyed: usize,
    pub differ: usize,
    pub harmless: usize,
    pub not_obeyed: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Settings that hold as before, of those that anything reads, in percent, rounded down.
    pub percent: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Product {
    pub name: &'static str,
    pub version: Option<String>,
    /// Its file or directory.
    pub path: String,
    pub installed: bool,
    pub coverage: Coverage,
}

/// One line of the host's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub product: &'static str,
    pub name: String,
    pub of: String,
    pub place: Place,
    pub meaning: Meaning,
    pub sentence: String,
    /// Who reads it; empty when what reads it stays with the original.
    pub planks: Vec<Plank>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub host: String,
    pub system: String,
    pub products: Vec<Product>,
    pub planks: Vec<PlankReport>,
    /// What stands in the way of a plank, or should be known before it is adopted.
    pub findings: Vec<Finding>,
    /// What is wrong with the host, whoever serves it.
    pub mistakes: Vec<Finding>,
    pub settings: Vec<Setting>,
}

impl Report {
    pub fn new(files: &Files, machine: &Machine) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            host: machine.host_name.clone(),
            system: machine.system.clone(),
            products: files.products(machine),
            planks: Vec::new(),
            findings: Vec::new(),
            mistakes: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Adds a finding; the same one for another plank is kept once.
    pub fn find(&mut self, finding: Finding) {
        let same = |known: &&mut Finding| {
            (&known.place, &known.text, known.level)
                == (&finding.place, &finding.text, finding.level)
        };
        match self.findings.iter_mut().find(same) {
            Some(known) => {
                known.planks.extend(finding.planks);
                known.planks.sort_unstable();
                known.planks.dedup();
            }
            None => self.findings.push(finding),
        }
    }

    /// Fills in what the planks' lines and the products' lines count.
    pub fn count(&mut self) {
        for plank in &mut self.planks {
            let of = |level: Level| {
                let concerns = |finding: &&Finding| {
                    finding.level == level && finding.planks.contains(&plank.plank)
                };
                self.findings.iter().filter(concerns).count()
            };
            (plank.warnings, plank.obstacles) = (of(Level::Warning), of(Level::Critical));
            if plank.obstacles > 0 && matches!(plank.state, State::Ready | State::Unchecked) {
                plank.state = State::Blocked;
            }
        }
    }

    /// What is worst comes first, then by file and line.
    pub fn sort(&mut self) {
        for findings in [&mut self.findings, &mut self.mistakes] {
            findings.sort_by(|one, other| {
                other
                    .level
                    .cmp(&one.level)
                    .then_with(|| one.place.cmp(&other.place))
                    .then_with(|| one.text.cmp(&other.text))
            });
        }
    }

    /// For the exit code.
    pub fn worst(&self) -> Option<Level> {
        let all = self.findings.iter().chain(&self.mistakes);
        let found = all.map(|finding| finding.level).max();
        let unchecked = self.planks.iter().any(|plank| plank.state == State::Unchecked);
        found.max(unchecked.then_some(Level::Warning))
    }
}

impl Coverage {
    pub fn of(settings: &[config::inventory::Written]) -> Self {
        let mut coverage = Self { settings: settings.len(), ..Self::default() };
        for written in settings {
            let count = match written.meaning() {
                Meaning::Obeyed => &mut coverage.obeyed,
                Meaning::Differs => &mut coverage.differ,
                Meaning::Harmless | Meaning::Default => &mut coverage.harmless,
                Meaning::Ignored => &mut coverage.not_obeyed,
                Meaning::Refused => &mut coverage.refused,
                Meaning::Unknown => &mut coverage.unknown,
            };
            *count += 1;
        }
        let read = coverage.settings - coverage.unknown;
        let missed = coverage.not_obeyed + coverage.refused;
        coverage.percent = (100 * (read - missed)).checked_div(read).unwrap_or(100);
        coverage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_see_0_1_or_2() {
        let codes = [None, Some(Level::Note), Some(Level::Warning), Some(Level::Critical)];
        assert_eq!(codes.map(code_of), [0, 0, 1, 2]);
    }
}
