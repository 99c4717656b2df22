//! One plank swapped into running originals and out again, by `theoris adopt` and `theoris release`, while mail flows.

mod by_harness;
mod dkim;
mod give_back;
mod lines;
mod login;
mod logins;
mod mailbox;
mod mix;
mod mixed;
mod old_kernel;
mod queue;
mod queue_commands;
mod refusals;
mod rig;
mod smtp_out;
#[cfg(feature = "soak")]
mod soak;
mod traps;
