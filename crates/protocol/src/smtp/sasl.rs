//! SASL data on an SMTP line (RFC 4954 section 4): base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A challenge for a 334 reply.
#[must_use]
pub fn encode_challenge(challenge: &[u8]) -> String {
    STANDARD.encode(challenge)
}

/// A response line. `None`: it is no base64.
#[must_use]
pub fn decode_response(line: &str) -> Option<Vec<u8>> {
    STANDARD.decode(line).ok()
}

/// The initial response of AUTH, where `=` is one that is there and empty.
#[must_use]
pub fn decode_initial(text: &str) -> Option<Vec<u8>> {
    if text == "=" { Some(Vec::new()) } else { decode_response(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_initial_response_is_an_equals_sign() {
        assert_eq!(decode_initial("="), Some(vec![]));
        assert_eq!(decode_initial("AGEAYg=="), Some(b"\0a\0b".to_vec()));
        assert_eq!(decode_initial("AGE*"), None);
        assert_eq!(encode_challenge(b"Username:"), "VXNlcm5hbWU6");
    }
}
