//! DomainKeys Identified Mail (RFC 6376, 8301, 8463): signing and verifying.
//!
//! The body is streamed through [`canonical::BodyHash`]; the header is bounded by its caller. Verdicts, the order of
//! the checks and their words are OpenDKIM's, except where RFC 6376 or 8301 forbids what it accepts.

pub mod canonical;
pub mod fault;
pub mod fold;
pub mod key;
pub mod sign;
pub mod signature;
pub mod tags;
pub mod verify;

use crate::Field;

/// Names in `h=` that are looked at.
pub const MAX_NAMES: usize = 1000;

/// The fields that `h=` means, in its order: of each name the last one not yet taken (RFC 6376 section 5.4.2).
pub fn select<'a>(names: &[String], fields: &'a [Field]) -> Vec<&'a Field> {
    let mut taken = vec![false; fields.len()];
    let mut selected = Vec::with_capacity(names.len());
    for name in names.iter().take(MAX_NAMES) {
        let found = fields.iter().zip(&taken).rposition(|(field, taken)| !taken && field.is(name));
        if let Some(at) = found
            && let (Some(field), Some(taken)) = (fields.get(at), taken.get_mut(at))
        {
            *taken = true;
            selected.push(field);
        }
    }
    selected
}

/// An algorithm of `a=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    RsaSha1,
    RsaSha256,
    Ed25519Sha256,
}

impl Algorithm {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaSha1 => "rsa-sha1",
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::RsaSha1, Self::RsaSha256, Self::Ed25519Sha256]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    #[must_use]
    pub fn hash(self) -> crypto::Hash {
        match self {
            Self::RsaSha1 => crypto::Hash::Sha1,
            Self::RsaSha256 | Self::Ed25519Sha256 => crypto::Hash::Sha256,
        }
    }

    /// The name of the digest in `h=` of a key record.
    #[must_use]
    pub fn hash_name(self) -> &'static str {
        match self {
            Self::RsaSha1 => "sha1",
            Self::RsaSha256 | Self::Ed25519Sha256 => "sha256",
        }
    }
}
