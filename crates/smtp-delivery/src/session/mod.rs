//! The conversation with one server, without its socket: replies go in, what to say next comes out.
//!
//! [`hello`] is everything before the first message: greeting, EHLO, the decision for TLS and login. [`login`] is SASL.
//! [`transaction`] is one message. Texts and codes are Postfix's: people and programs read them.

pub mod failure;
pub mod features;
pub mod hello;
pub mod login;
pub mod transaction;

pub use failure::Failure;
pub use features::Features;

use serde::{Deserialize, Serialize};

/// Who is at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Server {
    /// The name that was looked up, or our own for a unix socket.
    pub host: String,
    /// The address, or the path of a unix socket.
    pub address: String,
    /// 0 for a unix socket.
    pub port: u16,
}

impl Server {
    /// `mx.example.org[192.0.2.1]`
    pub fn short(&self) -> String {
        format!("{}[{}]", self.host, self.address)
    }

    /// `mx.example.org[192.0.2.1]:25`
    pub fn full(&self) -> String {
        match self.port {
            0 => self.short(),
            port => format!("{}[{}]:{port}", self.host, self.address),
        }
    }
}
