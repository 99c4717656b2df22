//! The `queue-manager` daemon: mail enters the queue here, and leaves it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<queue_manager::QueueManager>()
}
