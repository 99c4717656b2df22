//! Postfix's `postqueue`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::classic::main("postqueue", theoris::classic::postqueue::run)
}
