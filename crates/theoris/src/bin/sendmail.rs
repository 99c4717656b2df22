//! Postfix's `sendmail`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    theoris::classic::main("sendmail", theoris::classic::sendmail::run)
}
