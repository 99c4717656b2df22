//! POP3 (RFC 1939, CAPA of RFC 2449, STLS of RFC 2595, AUTH of RFC 5034), without its socket: the
//! client's commands, and a message as it goes over the wire.

mod command;
mod message;
mod uidl;

pub use command::{BadArgument, Login, MessageNumber, Transaction};
pub use message::{Measure, Stuffer, Workarounds};
pub use uidl::{UidlFacts, UidlFormat, UnknownVariable};
