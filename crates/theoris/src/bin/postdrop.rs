//! Postfix's `postdrop`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::classic::main("postdrop", theoris::classic::postdrop::run)
}
