//! Postfix's `mailq`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::classic::main("mailq", theoris::classic::postqueue::mailq)
}
