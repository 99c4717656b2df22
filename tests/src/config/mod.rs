//! What operators are told: every slip at its line, every broken file with what to write instead.

mod broken;
mod command;
mod documents;
mod register;
mod removal;
mod shipped;
mod slips;
