//! The operator's command, and the classic commands of Postfix and OpenDKIM over the same code.
#![forbid(unsafe_code)]

pub mod check;
pub mod classic;
pub mod command;
pub mod opendkim;
pub mod plank;
pub mod planks;
pub mod status;
pub mod trace;
