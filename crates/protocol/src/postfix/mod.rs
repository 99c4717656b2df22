//! Postfix's protocols between its own programs, both sides of each, without I/O.
//!
//! Postfix 3.4 to 3.11 differ in small ways that a strict reader trips over: [`Dialect`] names them.
//! Everything that comes in is bounded, and what is not as expected is a typed error.

pub mod attr;
pub mod bounce;
pub mod cleanup;
pub mod delivery;
mod dialect;
pub mod flush;
pub mod milter;
mod parts;
pub mod record;
pub mod rewrite;
pub mod showq;
mod stats;
pub mod submission;
pub mod trigger;

pub use attr::{AttrError, AttrList, AttrReader, AttrWriter, Fields};
pub use dialect::Dialect;
pub use parts::{Dsn, Recipient};
pub use stats::MsgStats;

/// The answer of most services: `status\0N\0\0`. Zero is success.
#[must_use]
pub fn status_reply(status: i32) -> Vec<u8> {
    let mut reply = AttrWriter::new();
    reply.int("status", status);
    reply.end()
}

/// Reads what [`status_reply`] writes.
///
/// # Errors
///
/// [`AttrError`] if the list is another one.
pub fn read_status(list: &AttrList) -> Result<i32, AttrError> {
    let mut fields = list.fields();
    let status = fields.int("status")?;
    fields.finish()?;
    Ok(status)
}

/// The greeting of a service since Postfix 3.6: its protocol's name. Empty before that.
#[must_use]
pub fn greeting(dialect: Dialect, protocol: &str) -> Vec<u8> {
    if !dialect.server_names_protocol() {
        return Vec::new();
    }
    let mut greeting = AttrWriter::new();
    greeting.text("protocol", protocol);
    greeting.end()
}

/// Checks that a server's first list names this protocol and nothing else.
///
/// # Errors
///
/// [`AttrError`] if it does not.
pub fn read_greeting(list: &AttrList, protocol: &'static str) -> Result<(), AttrError> {
    let mut fields = list.fields();
    let name = fields.text("protocol")?;
    if name != protocol {
        return Err(AttrError::Value { name: "protocol", value: attr::excerpt(name) });
    }
    fields.finish()
}

/// The protocol names of the greetings.
pub mod protocols {
    pub const CLEANUP: &str = "cleanup_protocol";
    pub const DELIVERY_REQUEST: &str = "delivery_request_protocol";
    pub const REWRITE: &str = "trivial_rewrite_protocol";
    pub const BOUNCE: &str = "delivery_status_protocol";
    /// Misspelt in every version.
    pub const VERIFY: &str = "address_verification_prrotocol";
    pub const FLUSH: &str = "queue_flush_protocol";
    pub const PROXYMAP: &str = "proxymap_protocol";
    pub const SHOWQ: &str = "mail_queue_list_protocol";
    pub const POSTDROP: &str = "postdrop_protocol";
    pub const ANVIL: &str = "anvil_protocol";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_names_the_protocol_since_3_6() {
        assert_eq!(greeting(Dialect::V3_5, protocols::REWRITE), b"");
        let bytes = greeting(Dialect::V3_6, protocols::REWRITE);
        assert_eq!(bytes, b"protocol\0trivial_rewrite_protocol\0\0");
        let list = AttrList::parse(&bytes).unwrap();
        assert_eq!(read_greeting(&list, protocols::REWRITE), Ok(()));
        assert!(read_greeting(&list, protocols::BOUNCE).is_err());
    }

    #[test]
    fn minus_one_travels_as_an_unsigned_number() {
        assert_eq!(status_reply(-1), b"status\x004294967295\0\0");
        assert_eq!(read_status(&AttrList::parse(&status_reply(-1)).unwrap()), Ok(-1));
    }
}
