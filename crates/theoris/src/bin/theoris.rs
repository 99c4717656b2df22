//! The operator's command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::command::main()
}
