//! The operator's command, and the classic commands of Postfix over the same code.
#![forbid(unsafe_code)]

pub mod classic;
