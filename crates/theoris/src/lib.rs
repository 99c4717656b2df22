//! The operator's command, and the classic commands of Postfix and OpenDKIM over the same code.
#![forbid(unsafe_code)]

pub mod classic;
pub mod opendkim;
