//! Who may do what: Postfix's access restrictions, decided without a socket.
//!
//! [`stage`] has one function per SMTP stage; each runs the restriction lists that belong to it over a [`Subject`]
//! and gives a [`Verdict`]. What an access table wants done with the message besides (hold it, redirect it, put a
//! header on top) is collected in [`Wishes`]; log lines are collected too, and the connection writes them.

mod access;
mod action;
mod addresses;
mod dsn;
mod evaluate;
mod lists;
mod recipients;
mod restriction;
mod settings;
pub mod stage;
mod subject;

pub use lists::AddressList;
pub use restriction::{AccessOf, Restriction, Unusable, parse};
pub use settings::{ListSet, PolicySettings, RecipientTables, RejectCodes};
pub use subject::{Stage, Subject, Transcript, Wishes};

use std::future::Future;

use protocol::postfix::rewrite::Resolution;
use protocol::smtp::Reply;
use routing::Tables;

/// How a list, or all lists of a stage, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing objected.
    Pass,
    /// The client is refused with this reply, which has been logged.
    Refuse(Reply),
    /// Close the connection without a word (`HANGUP`).
    HangUp,
}

/// The rewrite service could not say where an address goes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rewrite service cannot be asked: {0}")]
pub struct Unresolvable(pub String);

/// What the restrictions ask of the world.
pub trait World: Send + Sync {
    type Tables: Tables;

    fn tables(&self) -> &Self::Tables;

    /// Transport, next hop, class and qualified form of an address (internal form), for mail from `sender`.
    fn resolve(
        &self,
        sender: &str,
        address: &str,
    ) -> impl Future<Output = Result<Resolution, Unresolvable>> + Send;
}
