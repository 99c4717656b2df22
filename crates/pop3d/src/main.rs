//! The POP3 daemon: `pop3d [-c /etc/dovecot/dovecot.conf] [--check]`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<pop3d::Pop3d>()
}
