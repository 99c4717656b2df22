//! Postfix's `postcat`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::classic::main("postcat", theoris::classic::postcat::run)
}
