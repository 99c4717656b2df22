//! The typed constants of main.cf settings that we obey, and the facts of all of them (from `register/postfix.tsv`).

use super::kind;
use crate::register::{Fact, Ignored, Mark, Setting};

include!(concat!(env!("OUT_DIR"), "/postfix.rs"));
