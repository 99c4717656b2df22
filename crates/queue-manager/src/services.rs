//! The services of master.cf that this daemon can take over.

use crate::plan::Takeover;
use crate::{bounce, cleanup, error, flush, pickup, rewrite, scheduler, showq};

/// One line for each; a program that is not here stays with Postfix.
pub const TAKEOVERS: &[Takeover] = &[
    cleanup::TAKEOVER,
    pickup::TAKEOVER,
    showq::TAKEOVER,
    scheduler::service::TAKEOVER,
    rewrite::TAKEOVER,
    bounce::TAKEOVER,
    flush::TAKEOVER,
    error::ERROR,
    error::DISCARD,
];
