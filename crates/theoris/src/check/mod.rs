//! `theoris check`: reads the host's files and says, plank by plank, whether it can be adopted today, what in the files
//! we do otherwise, and what is plainly wrong with the host. It changes nothing and needs no running daemon.

mod daemons;
mod files;
mod machine;
mod planks;
mod print;
mod report;

use crate::command::arguments::{Arguments, Known};
use crate::command::paths::{self, Paths};
use crate::command::shown::{self, Paint};
use crate::command::{Command, code};
use crate::plank::Plank;

use files::Files;
use machine::Machine;
use report::Report;

pub const COMMAND: Command = Command {
    name: "check",
    usage: "[PLANK…] [--all] [--json] [--no-dns] [-c DIRECTORY] [--dovecot FILE] [-x FILE] [--theoris FILE] [--daemons DIRECTORY]",
    about: "tells which planks can be adopted, and what is wrong with the host's files",
    run,
};

const OPTIONS: [Known; 3] = [("--all", false), ("--json", false), ("--no-dns", false)];

/// What was asked for.
#[derive(Clone, Debug)]
struct Asked {
    paths: Paths,
    planks: Vec<Plank>,
}

fn run(words: &[String]) -> Result<u8, String> {
    let known: Vec<Known> = OPTIONS.into_iter().chain(paths::OPTIONS).collect();
    let arguments = Arguments::read(words, &known)?;
    let asked = Asked { paths: Paths::of(&arguments), planks: planks(&arguments.operands)? };
    let report = look(&asked, Machine::this(&asked.paths));
    if arguments.has("--json") {
        let text = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        shown::print(&format!("{text}\n"));
    } else {
        shown::print(&print::text(&report, Paint::of_terminal(), arguments.has("--all")));
    }
    Ok(match report.worst() {
        None | Some(report::Level::Note) => code::FINE,
        Some(report::Level::Warning) => code::WARNING,
        Some(report::Level::Critical) => code::CRITICAL,
    })
}

fn planks(named: &[String]) -> Result<Vec<Plank>, String> {
    if named.is_empty() {
        return Ok(Plank::ALL.to_vec());
    }
    let all = Plank::ALL.map(Plank::name).join(", ");
    let plank = |name: &String| {
        Plank::named(name).ok_or_else(|| format!("there is no plank {name}; the planks are {all}"))
    };
    named.iter().map(plank).collect()
}

/// Looks at everything.
fn look(asked: &Asked, machine: Machine) -> Report {
    let files = Files::read(&asked.paths);
    let mut report = Report::new(&files, &machine);
    planks::look(asked, &files, &machine, &mut report);
    report.settings = files.settings(&asked.planks);
    report.count();
    report.sort();
    report
}
