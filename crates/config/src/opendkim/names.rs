//! The facts of all opendkim.conf settings (from `register/opendkim.tsv`).

use crate::register::{Fact, Ignored, Mark};

include!(concat!(env!("OUT_DIR"), "/opendkim.rs"));
