//! The `smtp-delivery` daemon: mail to other hosts, by SMTP and LMTP.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<smtp_delivery::SmtpDelivery>()
}
