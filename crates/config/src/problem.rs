//! What is wrong with the configuration, worded for the operator who has to mend it.
//!
//! Reading never stops at the first fault: every reader adds to one [`Problems`], and the daemon
//! decides at the end whether it may start.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A line of a file; shown as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub file: PathBuf,
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
}

impl Place {
    pub fn new(file: impl Into<PathBuf>, line: usize) -> Self {
        Self { file: file.into(), line }
    }

    /// The file as a whole: it cannot be read, or something is missing in it.
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self::new(file, 0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}", self.file.display()),
            line => write!(out, "{}:{line}", self.file.display()),
        }
    }
}

/// Whether a daemon may start with this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

/// One fault. `text` says what is wrong and, where it can, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub place: Option<Place>,
    pub severity: Severity,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        if self.severity == Severity::Warning {
            out.write_str("warning: ")?;
        }
        out.write_str(&self.text)
    }
}

/// All faults of a configuration, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn error(&mut self, place: impl Into<Option<Place>>, text: impl Into<String>) {
        self.add(place.into(), Severity::Error, text.into());
    }

    pub fn warning(&mut self, place: impl Into<Option<Place>>, text: impl Into<String>) {
        self.add(place.into(), Severity::Warning, text.into());
    }

    /// The same fault is kept once, however often a setting is read.
    fn add(&mut self, place: Option<Place>, severity: Severity, text: String) {
        let problem = Problem { place, severity, text };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    pub fn extend(&mut self, more: Self) {
        for problem in more.0 {
            self.add(problem.place, problem.severity, problem.text);
        }
    }

    /// `Ok` when nothing forbids the start; warnings do not.
    ///
    /// # Errors
    ///
    /// All problems, if one of them is an error.
    pub fn into_result(self) -> Result<Self, Self> {
        if self.has_errors() { Err(self) } else { Ok(self) }
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One problem a line.
impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(out, "{problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_line_and_is_kept_once() {
        let mut problems = Problems::default();
        problems.warning(Place::new("main.cf", 7), "this setting is not obeyed yet");
        problems.error(Place::file("master.cf"), "cannot be read");
        problems.error(Place::file("master.cf"), "cannot be read");
        problems.error(None, "no service to run");
        assert_eq!(
            problems.to_string(),
            "main.cf:7: warning: this setting is not obeyed yet\nmaster.cf: cannot be read\nno service to run\n"
        );
        assert!(problems.into_result().is_err());
    }
}
