//! The services of master.cf that this daemon can take over.

use crate::plan::Takeover;
use crate::showq;

/// One line for each; a program that is not here stays with Postfix.
pub const TAKEOVERS: &[Takeover] = &[showq::TAKEOVER];
