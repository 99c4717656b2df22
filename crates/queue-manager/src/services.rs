//! The services of master.cf that this daemon can take over.

use crate::plan::Takeover;
use crate::{error, rewrite, scheduler, showq};

/// One line for each; a program that is not here stays with Postfix.
pub const TAKEOVERS: &[Takeover] = &[
    showq::TAKEOVER,
    scheduler::service::TAKEOVER,
    rewrite::TAKEOVER,
    error::ERROR,
    error::DISCARD,
];
