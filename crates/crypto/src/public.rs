//! Public keys that check signatures.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey,
};

use crate::der::{self, Reader};
use crate::{Hash, digest};

/// Modulus sizes that are ever computed with: smaller ones are forged on a laptop, larger ones are an attack.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;
/// Octets of an encoded key that are looked at.
const MAX_ENCODED: usize = 4096;

/// Why octets are no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPublicKey {
    #[error("not the encoding of a public key")]
    Malformed,
}

/// An RSA public key of any size; [`RsaPublicKey::verify`] refuses the sizes that prove nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublicKey {
    /// Reads a SubjectPublicKeyInfo, or a bare RSAPublicKey as some zones have it (RFC 6376 section 3.6.1).
    ///
    /// # Errors
    ///
    /// [`BadPublicKey`] for anything else, trailing octets included.
    pub fn from_der(octets: &[u8]) -> Result<Self, BadPublicKey> {
        if octets.len() > MAX_ENCODED {
            return Err(BadPublicKey::Malformed);
        }
        subject_public_key_info(octets).or_else(|| bare(octets)).ok_or(BadPublicKey::Malformed)
    }

    pub(crate) fn new(modulus: &[u8], exponent: &[u8]) -> Self {
        Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() }
    }

    /// Bits of the modulus.
    #[must_use]
    pub fn bits(&self) -> usize {
        der::bits(&self.modulus)
    }

    /// Whether `signature` (PKCS#1 v1.5) is this key's over `message`. Never for a modulus below 1024 or above
    /// 8192 bits, nor for a digest other than SHA-1 and SHA-256.
    #[must_use]
    pub fn verify(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let parameters = match hash {
            Hash::Sha1 => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            Hash::Md5 | Hash::Sha512 => return false,
        };
        // an exponent of more than 33 bits only costs time
        if !MODULUS_BITS.contains(&self.bits()) || der::bits(&self.exponent) > 33 {
            return false;
        }
        let key = PublicKeyComponents { n: self.modulus.as_slice(), e: self.exponent.as_slice() };
        key.verify(parameters, message, signature).is_ok()
    }

    /// The SubjectPublicKeyInfo, as `p=` of a key record holds it.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let key = der::value(
            der::SEQUENCE,
            &[der::unsigned(&self.modulus), der::unsigned(&self.exponent)].concat(),
        );
        let algorithm =
            der::value(der::SEQUENCE, &[der::value(der::OBJECT, der::RSA), vec![5, 0]].concat());
        let bits = der::value(der::BIT_STRING, &[vec![0], key].concat());
        der::value(der::SEQUENCE, &[algorithm, bits].concat())
    }
}

fn subject_public_key_info(octets: &[u8]) -> Option<RsaPublicKey> {
    let mut outer = Reader(octets);
    let mut info = outer.sequence()?;
    outer.end()?;
    let mut algorithm = info.sequence()?;
    if algorithm.take(der::OBJECT)? != der::RSA {
        return None;
    }
    let (unused, key) = info.take(der::BIT_STRING)?.split_first()?;
    info.end()?;
    if *unused != 0 { None } else { bare(key) }
}

fn bare(octets: &[u8]) -> Option<RsaPublicKey> {
    let mut outer = Reader(octets);
    let mut key = outer.sequence()?;
    outer.end()?;
    let (modulus, exponent) = (key.unsigned()?, key.unsigned()?);
    key.end()?;
    (!modulus.is_empty() && !exponent.is_empty()).then(|| RsaPublicKey::new(modulus, exponent))
}

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519PublicKey([u8; 32]);

impl Ed25519PublicKey {
    /// Takes the 32 octets that `p=` of a key record holds (RFC 8463 section 4).
    ///
    /// # Errors
    ///
    /// [`BadPublicKey`] for another length.
    pub fn from_octets(octets: &[u8]) -> Result<Self, BadPublicKey> {
        octets.try_into().map(Self).map_err(|_| BadPublicKey::Malformed)
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    #[must_use]
    pub fn octets(&self) -> [u8; 32] {
        digest::array(&self.0)
    }
}
