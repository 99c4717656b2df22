//! The client's half of the password mechanisms, for servers that were given a name and a password.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// The response of PLAIN (RFC 4616) for a user who acts as himself.
#[must_use]
pub fn plain(user: &[u8], password: &[u8]) -> Vec<u8> {
    let mut response = Vec::with_capacity(user.len() + password.len() + 2);
    response.push(0);
    response.extend_from_slice(user);
    response.push(0);
    response.extend_from_slice(password);
    response
}

/// Base64 as SASL and password hashes use it: the standard alphabet, padded.
#[must_use]
pub fn encode_base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// Decodes what [`encode_base64`] makes; `None` for anything else. Missing padding is forgiven.
#[must_use]
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    FORGIVING.decode(text).ok()
}

const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
