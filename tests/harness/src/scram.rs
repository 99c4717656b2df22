//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), for remote hosts that know one password.

use std::num::NonZeroU32;

use protocol::smtp::{decode_response, encode_challenge};

const SALT: &[u8] = b"0123456789abcdef";
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// One login.
pub struct Login {
    password: String,
    /// `n=ann,r=nonce` of the client, and what was answered.
    client: String,
    server: String,
}

impl Login {
    /// From what came with AUTH; and the challenge to it, in base64.
    pub fn begin(password: &str, initial: &str) -> Option<(Self, String)> {
        let first = String::from_utf8(decode_response(initial)?).ok()?;
        let client = first.strip_prefix("n,,")?.to_owned();
        let nonce = client.split(',').find_map(|part| part.strip_prefix("r="))?;
        let server = format!("r={nonce}theirs,s={},i={ROUNDS}", encode_challenge(SALT));
        let challenge = encode_challenge(server.as_bytes());
        Some((Self { password: password.to_owned(), client, server }, challenge))
    }

    /// The server's own proof, in base64, if the client's is right.
    pub fn end(&self, answer: &str) -> Option<String> {
        let last = String::from_utf8(decode_response(answer)?).ok()?;
        let (without, proof) = last.split_once(",p=")?;
        let proof = decode_response(proof)?;
        let message = format!("{},{},{without}", self.client, self.server);
        let salted = crypto::pbkdf2_hmac_sha256(self.password.as_bytes(), SALT, ROUNDS);
        let stored = crypto::sha256(&crypto::hmac_sha256(&salted, b"Client Key"));
        let signature = crypto::hmac_sha256(&stored, message.as_bytes());
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        if crypto::sha256(&key) != stored {
            return None;
        }
        let server_key = crypto::hmac_sha256(&salted, b"Server Key");
        let proof = crypto::hmac_sha256(&server_key, message.as_bytes());
        Some(encode_challenge(format!("v={}", encode_challenge(&proof)).as_bytes()))
    }
}
