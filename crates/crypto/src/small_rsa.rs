//! RSA signatures with moduli of 1024 to 2047 bits, which many sites still sign with and aws-lc refuses.
//!
//! The exponentiation takes the same time for every private exponent of a size (`crypto-bigint`), uses no Chinese
//! remainders that a fault could betray, and each signature is verified before it leaves. Keys of 2048 bits and
//! more never come here.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};

use crate::{Hash, RsaPublicKey, sha256};

/// The start of a DigestInfo of SHA-256 (RFC 8017 section 9.2, note 1).
const SHA256_INFO: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

pub struct SmallRsaKey {
    params: BoxedMontyParams,
    exponent: BoxedUint,
    octets: usize,
    precision: u32,
    public: RsaPublicKey,
}

impl SmallRsaKey {
    /// `None` when the numbers are no key.
    pub fn new(public: RsaPublicKey, modulus: &[u8], private_exponent: &[u8]) -> Option<Self> {
        let precision = u32::try_from(modulus.len() * 8).ok()?;
        let odd = BoxedUint::from_be_slice(modulus, precision).ok()?;
        let params = BoxedMontyParams::new(Odd::new(odd).into_option()?);
        let exponent = BoxedUint::from_be_slice(private_exponent, precision).ok()?;
        let key = Self { params, exponent, octets: modulus.len(), precision, public };
        key.sign(b"whether the numbers belong together").map(|_| key)
    }

    /// The PKCS#1 v1.5 signature over the SHA-256 digest of `message`; `None` when it would not verify.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let digest = sha256(message);
        let padding = self.octets.checked_sub(3 + SHA256_INFO.len() + digest.len())?;
        let mut encoded = vec![0, 1];
        encoded.resize(2 + padding, 0xff);
        encoded.push(0);
        encoded.extend_from_slice(SHA256_INFO);
        encoded.extend_from_slice(&digest);
        let encoded = BoxedUint::from_be_slice(&encoded, self.precision).ok()?;
        let power = BoxedMontyForm::new(encoded, &self.params).pow(&self.exponent).retrieve();
        let octets = power.to_be_bytes();
        let signature = octets.get(octets.len().checked_sub(self.octets)?..)?.to_vec();
        self.public.verify(Hash::Sha256, message, &signature).then_some(signature)
    }

    pub fn public(&self) -> &RsaPublicKey {
        &self.public
    }
}
