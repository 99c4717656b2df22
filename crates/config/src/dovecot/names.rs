//! The typed constants of dovecot.conf settings that we obey, and the facts of all of them (from `register/dovecot.tsv`).
//!
//! A setting inside a block has the block's kinds before it: `service/unix_listener/mode`.

use super::kind;
use crate::register::{Fact, Ignored, Mark, Setting};

include!(concat!(env!("OUT_DIR"), "/dovecot.rs"));
