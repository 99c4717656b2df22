//! PBKDF2 and the SCRAM schemes, which store a key derived by it (RFC 5802).

use super::{Verdict, unhex};
use hmac::{Hmac, KeyInit, Mac};
use protocol::base64;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// About three seconds.
const MAX_ROUNDS: u32 = 2_000_000;

#[derive(Clone, Copy)]
enum Prf {
    Sha1,
    Sha256,
}

impl Prf {
    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            // a key of any length is accepted, so the error cannot happen; an empty MAC matches nothing
            Self::Sha1 => Hmac::<Sha1>::new_from_slice(key).map_or_else(
                |_| Vec::new(),
                |mut mac| {
                    parts.iter().for_each(|part| mac.update(part));
                    mac.finalize().into_bytes().to_vec()
                },
            ),
            Self::Sha256 => Hmac::<Sha256>::new_from_slice(key).map_or_else(
                |_| Vec::new(),
                |mut mac| {
                    parts.iter().for_each(|part| mac.update(part));
                    mac.finalize().into_bytes().to_vec()
                },
            ),
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    /// PBKDF2 for one block: as long as the digest (RFC 8018 section 5.2).
    fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        let mut block = self.hmac(password, &[salt, &1u32.to_be_bytes()]);
        let mut key = block.clone();
        for _ in 1..rounds {
            block = self.hmac(password, &[&block]);
            key.iter_mut().zip(&block).for_each(|(sum, byte)| *sum ^= byte);
        }
        key
    }
}

pub(super) fn verify(scheme: &str, hash: &str, password: &[u8]) -> Verdict {
    let verdict = match scheme {
        "PBKDF2" => pbkdf2(hash, password),
        "SCRAM-SHA-1" => scram(Prf::Sha1, hash, password),
        _ => scram(Prf::Sha256, hash, password),
    };
    verdict.unwrap_or_else(|| {
        Verdict::Unusable(format!("Invalid password in passdb: not a valid {scheme} hash"))
    })
}

/// `$1$salt$rounds$hex`; the salt is used as the text it is.
fn pbkdf2(hash: &str, password: &[u8]) -> Option<Verdict> {
    let mut parts = hash.strip_prefix("$1$")?.split('$');
    let (salt, rounds, stored) = (parts.next()?, rounds(parts.next()?)?, unhex(parts.next()?)?);
    let computed = Prf::Sha1.pbkdf2(password, salt.as_bytes(), rounds);
    Some(Verdict::of(computed.ct_eq(&stored).into()))
}

/// `iterations,salt,StoredKey,ServerKey`.
fn scram(prf: Prf, hash: &str, password: &[u8]) -> Option<Verdict> {
    let mut parts = hash.split(',');
    let rounds = rounds(parts.next()?)?;
    let (salt, stored) =
        (base64::decode(parts.next()?.as_bytes())?, base64::decode(parts.next()?.as_bytes())?);
    let salted = prf.pbkdf2(password, &salt, rounds);
    let computed = prf.digest(&prf.hmac(&salted, &[b"Client Key"]));
    Some(Verdict::of(computed.ct_eq(&stored).into()))
}

fn rounds(text: &str) -> Option<u32> {
    text.parse().ok().filter(|rounds| (1..=MAX_ROUNDS).contains(rounds))
}
