//! `theoris`: its subcommands, how they are called and how they end.
//!
//! A subcommand is one [`Command`] in [`COMMANDS`]: a function from words to an exit code. What it prints it builds as
//! text and gives to [`shown::print`].

pub mod arguments;
pub mod paths;
pub mod shown;

use std::process::ExitCode;

/// What `theoris` answers with, for monitors.
pub mod code {
    pub const FINE: u8 = 0;
    pub const WARNING: u8 = 1;
    pub const CRITICAL: u8 = 2;
    /// A wrong command line.
    pub const USAGE: u8 = 64;
}

/// One subcommand.
pub struct Command {
    pub name: &'static str,
    /// What follows its name on a command line.
    pub usage: &'static str,
    /// One line for `theoris help`.
    pub about: &'static str,
    /// Does it; the exit code, or what is wrong with the command line.
    pub run: fn(&[String]) -> Result<u8, String>,
}

/// All subcommands, in the order of `theoris help`.
pub const COMMANDS: &[Command] = &[
    crate::check::COMMAND,
    crate::planks::command::ADOPT,
    crate::planks::command::RELEASE,
    crate::planks::command::GUARD,
    crate::status::COMMAND,
    crate::trace::COMMAND,
];

/// Those that only our own commands call.
const INTERNAL: &[Command] = &[crate::planks::WITH_SOCKET];

/// The whole `main`.
#[must_use]
pub fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    ExitCode::from(run(&words.collect::<Vec<_>>()))
}

fn run(words: &[String]) -> u8 {
    let Some((name, rest)) = words.split_first() else {
        eprint!("{}", help());
        return code::USAGE;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        shown::print(&help());
        return code::FINE;
    }
    if matches!(name.as_str(), "version" | "--version" | "-V") {
        shown::print(&format!("theoris {}\n", env!("CARGO_PKG_VERSION")));
        return code::FINE;
    }
    let Some(command) = COMMANDS.iter().chain(INTERNAL).find(|command| command.name == name) else {
        eprintln!("theoris: there is no command {}", shown::escaped(name));
        eprint!("{}", help());
        return code::USAGE;
    };
    if rest.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        shown::print(&format!("{}\nusage: theoris {name} {}\n", command.about, command.usage));
        return code::FINE;
    }
    (command.run)(rest).unwrap_or_else(|wrong| {
        eprintln!("theoris {name}: {}", shown::escaped(&wrong));
        eprintln!("usage: theoris {name} {}", command.usage);
        code::USAGE
    })
}

fn help() -> String {
    let mut text = "usage: theoris COMMAND [arguments]\n\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<8} {}\n", command.name, command.about));
    }
    text.push_str("\ntheoris COMMAND --help tells a command's arguments.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_64() {
        let run = |words: &[&str]| {
            super::run(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(run(&[]), code::USAGE);
        assert_eq!(run(&["chek"]), code::USAGE);
        assert_eq!(run(&["check", "--chek"]), code::USAGE);
        assert_eq!(run(&["check", "smtp"]), code::USAGE);
        assert_eq!(run(&["help"]), code::FINE);
        assert_eq!(run(&["check", "--help"]), code::FINE);
    }
}
