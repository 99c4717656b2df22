//! The facts of all opendkim.conf settings (from `register/opendkim.tsv`), and the constants of those that are obeyed.

use crate::register::{Fact, Ignored, Mark, Setting};

/// The kinds of values.
pub mod kind {
    #[derive(Debug)]
    pub enum Bool {}
    #[derive(Debug)]
    pub enum Integer {}
    #[derive(Debug)]
    pub enum Text {}
    /// A data set: `file:…`, `refile:…`, or a list with commas.
    #[derive(Debug)]
    pub enum List {}
}

include!(concat!(env!("OUT_DIR"), "/opendkim.rs"));
