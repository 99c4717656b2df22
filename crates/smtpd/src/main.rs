//! The SMTP server daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<smtpd::Smtpd>()
}
