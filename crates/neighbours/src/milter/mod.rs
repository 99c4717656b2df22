//! The mail server's side of milters: every filter of a session in turn, as Postfix asks them.
//!
//! A [`Chain`] is the list of filters of one SMTP client (or of one message that did not come over SMTP). Each event
//! goes to the filters in order and stops at the first that has something to say ([`Response`]). The content stage
//! ([`Chain::message`]) shows each filter the message as the one before it has left it.

mod chain;
mod content;
mod eom;
mod filter;
mod link;
mod macros;
mod settings;
#[cfg(test)]
mod tests;

pub use chain::Chain;
pub use content::{Change, Message, Piece};
pub use filter::Client;
pub use macros::Macros;
pub use settings::{DefaultAction, FilterSettings, Settings, Texts};

/// What filters make of the session or the message. No response: go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Into the hold queue.
    Hold,
    /// Accepted, and thrown away.
    Discard,
    /// 421, and the connection is closed.
    Shutdown,
    /// An SMTP reply with 4xx or 5xx; its lines are divided by CRLF.
    Reply(String),
}

impl Response {
    pub(crate) const REJECTED: &str = "550 5.7.1 Command rejected";
    pub(crate) const LATER: &str = "451 4.7.1 Service unavailable - try again later";
    pub(crate) const UNAVAILABLE: &str = "550 5.5.0 Service unavailable";
    pub(crate) const MISCONFIGURED: &str =
        "451 4.3.5 Server configuration problem - try again later";

    pub(crate) fn reply(text: &str) -> Self {
        Self::Reply(text.to_owned())
    }

    /// The text, if it is a reply.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Reply(text) => Some(text),
            _ => None,
        }
    }
}
