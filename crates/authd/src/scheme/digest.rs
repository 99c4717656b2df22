//! Plain and salted digests: SHA, SSHA, MD5 and their longer kin. The salt follows the digest.

use super::Verdict;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// One of the digest schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    algorithm: Algorithm,
    salted: bool,
    hex: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    pub fn named(scheme: &str) -> Option<Self> {
        let (algorithm, salted) = match scheme {
            "SHA" | "SHA1" => (Algorithm::Sha1, false),
            "SSHA" => (Algorithm::Sha1, true),
            "SHA256" => (Algorithm::Sha256, false),
            "SSHA256" => (Algorithm::Sha256, true),
            "SHA512" => (Algorithm::Sha512, false),
            "SSHA512" => (Algorithm::Sha512, true),
            "SMD5" => (Algorithm::Md5, true),
            "LDAP-MD5" | "PLAIN-MD5" => (Algorithm::Md5, false),
            _ => return None,
        };
        Some(Self { algorithm, salted, hex: scheme == "PLAIN-MD5" })
    }

    /// Whether hexadecimal is the scheme's own encoding.
    pub fn is_hex(self) -> bool {
        self.hex
    }

    /// Octets of the digest, without a salt.
    pub fn length(self) -> usize {
        match self.algorithm {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }

    pub fn verify(self, stored: &[u8], password: &[u8]) -> Verdict {
        let Some((digest, salt)) = stored.split_at_checked(self.length()) else {
            return Verdict::Unusable("Password hash is too short".into());
        };
        if !self.salted && !salt.is_empty() {
            return Verdict::Unusable("Password hash is too long".into());
        }
        Verdict::of(self.compute(password, salt).ct_eq(digest).into())
    }

    fn compute(self, password: &[u8], salt: &[u8]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::Md5 => {
                Md5::new().chain_update(password).chain_update(salt).finalize().to_vec()
            }
            Algorithm::Sha1 => {
                Sha1::new().chain_update(password).chain_update(salt).finalize().to_vec()
            }
            Algorithm::Sha256 => {
                Sha256::new().chain_update(password).chain_update(salt).finalize().to_vec()
            }
            Algorithm::Sha512 => {
                Sha512::new().chain_update(password).chain_update(salt).finalize().to_vec()
            }
        }
    }
}
