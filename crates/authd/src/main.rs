//! The auth daemon: `authd [-c /etc/dovecot/dovecot.conf] [--check]`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<authd::Authd>()
}
