//! Message digests, whole and piece by piece.

use aws_lc_rs::digest as aws;
use md5::Digest as _;

/// Which digest. MD5 and SHA-1 are for what old peers and stored passwords still need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    /// The digest of `data`.
    #[must_use]
    pub fn of(self, data: &[u8]) -> Vec<u8> {
        let mut digest = Digest::new(self);
        digest.update(data);
        digest.finish()
    }

    /// Octets of the digest.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A digest in the making.
#[derive(Clone)]
pub struct Digest(State);

#[derive(Clone)]
enum State {
    Md5(md5::Md5),
    Aws(aws::Context),
}

impl Digest {
    #[must_use]
    pub fn new(hash: Hash) -> Self {
        Self(match hash {
            Hash::Md5 => State::Md5(md5::Md5::new()),
            Hash::Sha1 => State::Aws(aws::Context::new(&aws::SHA1_FOR_LEGACY_USE_ONLY)),
            Hash::Sha256 => State::Aws(aws::Context::new(&aws::SHA256)),
            Hash::Sha512 => State::Aws(aws::Context::new(&aws::SHA512)),
        })
    }

    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            State::Md5(context) => context.update(data),
            State::Aws(context) => context.update(data),
        }
    }

    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            State::Md5(context) => context.finalize().to_vec(),
            State::Aws(context) => context.finish().as_ref().to_vec(),
        }
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Digest")
    }
}

#[must_use]
pub fn md5(data: &[u8]) -> [u8; 16] {
    md5::Md5::digest(data).into()
}

#[must_use]
pub fn sha1(data: &[u8]) -> [u8; 20] {
    array(aws::digest(&aws::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref())
}

#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    array(aws::digest(&aws::SHA256, data).as_ref())
}

#[must_use]
pub fn sha512(data: &[u8]) -> [u8; 64] {
    array(aws::digest(&aws::SHA512, data).as_ref())
}

/// The octets of a digest whose length its algorithm fixes.
pub(crate) fn array<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn digests_of_abc_are_those_of_the_standards() {
        for (hash, expected) in [
            (Hash::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Hash::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            let mut pieces = Digest::new(hash);
            pieces.update(b"a");
            pieces.update(b"bc");
            assert_eq!(hex(&pieces.finish()), expected);
            assert_eq!(hash.of(b"abc").len(), hash.length());
        }
        assert_eq!(md5(b"abc").to_vec(), Hash::Md5.of(b"abc"));
        assert_eq!(sha1(b"abc").to_vec(), Hash::Sha1.of(b"abc"));
        assert_eq!(sha256(b"abc").to_vec(), Hash::Sha256.of(b"abc"));
        assert_eq!(sha512(b"abc").to_vec(), Hash::Sha512.of(b"abc"));
        assert!(hex(&sha512(b"abc")).starts_with("ddaf35a193617abacc417349ae204131"));
    }
}
