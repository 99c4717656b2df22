//! How a daemon ends: exit codes after sysexits, and what is said on the way out.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use config::Problems;

use crate::{Args, Plan};

/// A wrong command line.
pub const USAGE: u8 = 64;
/// The operating system refused something that always works.
pub const SYSTEM: u8 = 71;
/// It may work at the next try.
pub const TEMPORARY: u8 = 75;
/// Privileges could not be given up.
pub const PRIVILEGES: u8 = 77;
/// The configuration; systemd does not try again (`RestartPreventExitStatus=78`).
pub const CONFIGURATION: u8 = 78;

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the plan gives this worker no {kind} {name:?}")]
    NotPlanned { kind: &'static str, name: String },
    #[error("settings of role {role}: {source}")]
    Settings { role: String, source: serde_json::Error },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    Service(Box<dyn Error + Send + Sync>),
}

impl WorkerError {
    /// For `map_err`: an I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// An error of the daemon's own, or a sentence.
    pub fn service(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Service(error.into())
    }
}

/// An error with everything that caused it, for one log line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

pub(crate) fn usage(name: &str, problem: &str) -> ExitCode {
    eprintln!("{name}: {problem}");
    eprintln!("usage: {name} {}", Args::USAGE);
    ExitCode::from(USAGE)
}

/// The answer of `--check`: every problem on a line of its own, or a JSON list of them.
pub(crate) fn check(args: &Args, plan: Result<Plan, Problems>) -> ExitCode {
    let problems = plan.map_or_else(|problems| problems, |plan| plan.problems);
    let text = if args.json {
        serde_json::to_string(&problems).unwrap_or_else(|_| "[]".into()) + "\n"
    } else {
        problems.to_string()
    };
    say(io::stdout(), &text, if problems.has_errors() { CONFIGURATION } else { 0 })
}

/// The answer of `--plan`: the plan as JSON, or the problems that forbid one. Keys and passwords are not in a plan,
/// but what the worker is told of tables and sockets is.
pub(crate) fn show(plan: Result<Plan, Problems>) -> ExitCode {
    match plan.map(|plan| serde_json::to_string(&plan)) {
        Ok(Ok(text)) => say(io::stdout(), &(text + "\n"), 0),
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::from(SYSTEM)
        }
        Err(problems) => say(io::stderr(), &problems.to_string(), CONFIGURATION),
    }
}

/// Ends with `code`, also where the reader has seen enough, such as `head`; `print!` would panic.
fn say(mut to: impl Write, text: &str, code: u8) -> ExitCode {
    match to.write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write: {error}");
            ExitCode::from(SYSTEM)
        }
        _ => ExitCode::from(code),
    }
}
