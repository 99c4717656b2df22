//! Dovecot's authentication protocols, both sides of each, without their sockets.
//!
//! * The *client* protocol ([`client_line`], [`server_line`]): SMTP servers and login processes ask
//!   whether somebody is who he says he is (`AUTH`, `CONT`, `OK`, `FAIL`).
//! * The *master* protocol ([`master`]): mail processes ask for a user's uid, gid and home (`USER`),
//!   and confirm a login that a login process reports (`REQUEST`).
//!
//! Both are lines of tab-separated fields ended by LF; [`escape`] tells how a field holds a tab.
//! [`Lines`] cuts a stream into lines and bounds them.

pub mod client_line;
pub mod escape;
mod lines;
pub mod master;
mod params;
mod request;
pub mod sasl;
pub mod server_line;

pub use client_line::{ClientLine, ProtocolError};
pub use lines::{Lines, TooLong};
pub use params::Params;
pub use request::{Request, Secured};
pub use server_line::{Handshake, Mechanism, ServerLine, Welcome};

/// The longest line either side accepts, without its LF.
pub const MAX_LINE: usize = 16_384;

/// The version that the client protocol speaks.
pub const VERSION: (u32, u32) = (1, 2);

/// What names one finished login to the master protocol's `REQUEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The `CPID` that the login process told the auth server.
    pub client_pid: u32,
    /// The id of its `AUTH`.
    pub auth_id: u32,
    /// The `COOKIE` of its connection, 32 hexadecimal digits.
    pub cookie: String,
}
