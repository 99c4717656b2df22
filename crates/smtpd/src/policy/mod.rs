//! Who may do what: Postfix's access restrictions, decided without a socket.
//!
//! [`stage`] has one function per SMTP stage; each runs the restriction lists that belong to it over a [`Subject`]
//! and gives a [`Verdict`]. What an access table wants done with the message besides (hold it, redirect it, put a
//! header on top) is collected in [`Wishes`]; log lines are collected too, and the connection writes them.

mod access;
mod action;
mod addresses;
mod blocklist;
mod delegate;
mod domains;
mod dsn;
mod evaluate;
pub mod failure;
mod lists;
pub mod octets;
mod recipients;
mod restriction;
mod server;
mod settings;
pub mod stage;
mod subject;
mod unverified;

pub use blocklist::Site;
pub use delegate::{Endpoint, PolicyServer};
pub use lists::AddressList;
pub use restriction::{AccessOf, Restriction, Unusable, parse};
pub use settings::{
    Blocklists, ListSet, PolicySettings, RecipientTables, RejectCodes, Tempfail, Tempfails,
};
pub use subject::{Stage, Subject, Transcript, Wishes};
pub use unverified::{Probe, Unverified, Verification};

use std::future::Future;
use std::net::IpAddr;

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
    type Dns: dns::Resolver;

    fn tables(&self) -> &Self::Tables;

    fn dns(&self) -> &Self::Dns;

    /// The addresses of a host, by the hosts file or else the DNS.
    fn addresses(
        &self,
        host: &str,
    ) -> impl Future<Output = Result<Vec<IpAddr>, dns::Failure>> + Send;

    /// The action that a policy server wants, or nothing if it cannot be had; and warnings to log.
    fn ask_policy(
        &self,
        server: &PolicyServer,
        request: &str,
    ) -> impl Future<Output = (Option<String>, Vec<String>)> + Send;

    /// What the verify service knows of an address; an error is a warning to log.
    fn verify(&self, address: &str) -> impl Future<Output = Result<Probe, String>> + Send;

    /// Transport, next hop, class and qualified form of an address (internal form), for mail from `sender`.
    fn resolve(
        &self,
        sender: &str,
        address: &str,
    ) -> impl Future<Output = Result<Resolution, Unresolvable>> + Send;
}
