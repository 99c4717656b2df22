//! Postfix's `postsuper`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::classic::main("postsuper", theoris::classic::postsuper::run)
}
