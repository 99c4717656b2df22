//! What is wrong with the configuration, worded for the operator who has to mend it.
//!
//! Reading never stops at the first fault: every reader adds to one [`Problems`], and the daemon
//! decides at the end whether it may start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A line of a file; shown as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Shared: each line of a file has a place.
    pub file: Arc<Path>,
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
}

impl Place {
    pub fn new(file: impl Into<PathBuf>, line: usize) -> Self {
        Self { file: file.into().into(), line }
    }

    /// The file as a whole: it cannot be read, or something is missing in it.
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self::new(file, 0)
    }

    /// Another line of the same file.
    #[must_use]
    pub fn at_line(&self, line: usize) -> Self {
        Self { file: self.file.clone(), line }
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

/// One fault: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub place: Option<Place>,
    pub severity: Severity,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

impl Problem {
    /// Says what to write instead.
    pub fn instead(&mut self, instead: impl Into<String>) {
        self.instead = Some(instead.into());
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        if self.severity == Severity::Warning {
            out.write_str("warning: ")?;
        }
        out.write_str(&self.text)?;
        match &self.instead {
            Some(instead) => write!(out, "; {instead}"),
            None => Ok(()),
        }
    }
}

/// More than this are not kept: a binary file given by mistake has one on each line.
const KEPT: usize = 200;

/// All faults of a configuration, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a fault that forbids the start. `….instead("write …")` completes it.
    pub fn error(
        &mut self,
        place: impl Into<Option<Place>>,
        text: impl Into<String>,
    ) -> &mut Problem {
        self.add(Problem {
            place: place.into(),
            severity: Severity::Error,
            text: text.into(),
            instead: None,
        })
    }

    /// Adds a fault that the operator should know of.
    pub fn warning(
        &mut self,
        place: impl Into<Option<Place>>,
        text: impl Into<String>,
    ) -> &mut Problem {
        self.add(Problem {
            place: place.into(),
            severity: Severity::Warning,
            text: text.into(),
            instead: None,
        })
    }

    /// The same fault is kept once, however often a setting is read.
    fn add(&mut self, problem: Problem) -> &mut Problem {
        let same = |known: &Problem| {
            known.place == problem.place
                && known.severity == problem.severity
                && known.text == problem.text
        };
        let index = match self.0.iter().position(same) {
            Some(known) => known,
            None if self.0.len() < KEPT => {
                self.0.push(problem);
                self.0.len() - 1
            }
            None => {
                // Whatever it was: the operator mends the first ones and looks again.
                self.0[KEPT - 1] = Problem {
                    place: None,
                    severity: Severity::Error,
                    text: format!("more than {KEPT} problems; the others are not shown"),
                    instead: None,
                };
                KEPT - 1
            }
        };
        &mut self.0[index]
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

    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|problem| problem.severity == Severity::Error)
    }

    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    pub fn extend(&mut self, more: Self) {
        for problem in more.0 {
            self.add(problem);
        }
    }

    /// The same, in the order of files and lines; those without a place come last.
    #[must_use]
    pub fn by_place(mut self) -> Self {
        self.0.sort_by(|left, right| {
            (left.place.is_none(), &left.place).cmp(&(right.place.is_none(), &right.place))
        });
        self
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
        problems
            .error(Place::file("master.cf"), "cannot be read")
            .instead("name the directory with -c");
        problems
            .error(Place::file("master.cf"), "cannot be read")
            .instead("name the directory with -c");
        problems.error(None, "no service to run");
        assert_eq!(
            problems.to_string(),
            "main.cf:7: warning: this setting is not obeyed yet\n\
             master.cf: cannot be read; name the directory with -c\nno service to run\n"
        );
        assert!(problems.into_result().is_err());
    }

    #[test]
    fn thousands_of_problems_are_cut_short() {
        let mut problems = Problems::default();
        for line in 0..10_000 {
            problems.warning(Place::new("f", line), "x").instead("y");
        }
        assert_eq!(problems.len(), KEPT);
        assert!(problems.has_errors(), "what was not kept may have been an error");
    }
}
