//! PBKDF2 and the SCRAM schemes, which store a key derived by it (RFC 5802).

use super::{Verdict, unhex};
use protocol::base64;
use std::num::NonZeroU32;

/// About three seconds.
const MAX_ROUNDS: u32 = 2_000_000;

pub(super) fn verify(scheme: &str, hash: &str, password: &[u8]) -> Verdict {
    let verdict = match scheme {
        "PBKDF2" => pbkdf2(hash, password),
        "SCRAM-SHA-1" => scram(hash, |salt, rounds| {
            let salted = crypto::pbkdf2_hmac_sha1(password, salt, rounds);
            crypto::sha1(&crypto::hmac_sha1(&salted, b"Client Key")).to_vec()
        }),
        _ => scram(hash, |salt, rounds| {
            let salted = crypto::pbkdf2_hmac_sha256(password, salt, rounds);
            crypto::sha256(&crypto::hmac_sha256(&salted, b"Client Key")).to_vec()
        }),
    };
    verdict.unwrap_or_else(|| {
        Verdict::Unusable(format!("Invalid password in passdb: not a valid {scheme} hash"))
    })
}

/// `$1$salt$rounds$hex`; the salt is used as the text it is.
fn pbkdf2(hash: &str, password: &[u8]) -> Option<Verdict> {
    let mut parts = hash.strip_prefix("$1$")?.split('$');
    let (salt, rounds, stored) = (parts.next()?, rounds(parts.next()?)?, unhex(parts.next()?)?);
    let computed = crypto::pbkdf2_hmac_sha1(password, salt.as_bytes(), rounds);
    Some(Verdict::of(crypto::equal(&computed, &stored)))
}

/// `iterations,salt,StoredKey,ServerKey`.
fn scram(hash: &str, stored_key: impl FnOnce(&[u8], NonZeroU32) -> Vec<u8>) -> Option<Verdict> {
    let mut parts = hash.split(',');
    let rounds = rounds(parts.next()?)?;
    let (salt, stored) =
        (base64::decode(parts.next()?.as_bytes())?, base64::decode(parts.next()?.as_bytes())?);
    Some(Verdict::of(crypto::equal(&stored_key(&salt, rounds), &stored)))
}

fn rounds(text: &str) -> Option<NonZeroU32> {
    text.parse().ok().filter(|rounds: &NonZeroU32| rounds.get() <= MAX_ROUNDS)
}
