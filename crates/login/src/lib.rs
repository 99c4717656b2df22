//! From a stranger's connection to the mailbox worker of a user: what imapd and pop3d share.
//!
//! ```text
//! client ──TCP, TLS──▶ login worker ──AUTH──▶ auth server
//!                        │ claim, descriptor      ▲ REQUEST
//!                        ▼                        │
//!                      broker ────────────────────┘
//!                        │ {uid, gid, home}, payload, descriptor
//!                        ▼
//!                      supervisor ──▶ mailbox worker of that uid
//! ```
//!
//! The *login worker* ([`Front`]) has its own user and no file system. It speaks TLS and everything
//! before the login; the daemon gives the conversation, as a function over a [`Client`]. The
//! *broker* ([`broker::serve`]) lets the auth server confirm what the login worker claims, counts
//! connections, and asks the supervisor for the mailbox worker of the uid, which never is 0. A plain
//! connection is passed on itself; one with TLS is relayed by the login worker. The *mailbox worker*
//! gets an [`Arrival`].
#![forbid(unsafe_code)]

pub mod arrival;
mod attempts;
pub mod broker;
pub mod client;
mod ending;
pub mod facts;
pub mod front;
pub mod log;
pub mod mail;
mod packet;
mod passage;
pub mod plan;
mod relay;
pub mod settings;

pub use arrival::{Arrival, Lease};
pub use client::{Client, Refusal, Verdict};
pub use ending::stopping;
pub use facts::{Facts, Security};
pub use front::Front;
pub use mail::QuotaSettings;
pub use settings::{BrokerSettings, FrontSettings};
