//! The `lmtp-delivery` daemon: mail into mailboxes, by LMTP or as Postfix's local and virtual agents.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<lmtp_delivery::LmtpDelivery>()
}
