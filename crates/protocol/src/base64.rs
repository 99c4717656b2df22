//! Base64 as SASL and the session lines of SMTP, IMAP and POP3 use it (RFC 4648 section 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

#[must_use]
pub fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// `None` for anything that is not base64 with its padding and nothing else.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
