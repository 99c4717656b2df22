//! The `dkim-milter` daemon: DKIM signatures and their verification for a mail server's milter port.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<dkim_milter::DkimMilter>()
}
