//! Plain and salted digests: SHA, SSHA, MD5 and their longer kin. The salt follows the digest.

use super::Verdict;
use crypto::Hash;

/// One of the digest schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    algorithm: Hash,
    salted: bool,
    hex: bool,
}

impl Digest {
    pub fn named(scheme: &str) -> Option<Self> {
        let (algorithm, salted) = match scheme {
            "SHA" | "SHA1" => (Hash::Sha1, false),
            "SSHA" => (Hash::Sha1, true),
            "SHA256" => (Hash::Sha256, false),
            "SSHA256" => (Hash::Sha256, true),
            "SHA512" => (Hash::Sha512, false),
            "SSHA512" => (Hash::Sha512, true),
            "SMD5" => (Hash::Md5, true),
            "LDAP-MD5" | "PLAIN-MD5" => (Hash::Md5, false),
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
        self.algorithm.length()
    }

    pub fn verify(self, stored: &[u8], password: &[u8]) -> Verdict {
        let Some((digest, salt)) = stored.split_at_checked(self.length()) else {
            return Verdict::Unusable("Password hash is too short".into());
        };
        if !self.salted && !salt.is_empty() {
            return Verdict::Unusable("Password hash is too long".into());
        }
        let computed = self.algorithm.of(&[password, salt].concat());
        Verdict::of(crypto::equal(&computed, digest))
    }
}
