//! Digests, message authentication codes and signatures: the one crate that imports their implementations.
#![forbid(unsafe_code)]

mod der;
mod digest;
mod mac;
pub mod pem;
mod private;
mod public;
mod small_rsa;

pub use digest::{Digest, Hash, md5, sha1, sha256, sha512};
pub use mac::{hmac_md5, hmac_sha1, hmac_sha256, pbkdf2_hmac_sha1, pbkdf2_hmac_sha256};
pub use private::{BadKey, PrivateKey, SigningFailed};
pub use public::{BadPublicKey, Ed25519PublicKey, RsaPublicKey};

/// Whether two secrets are the same, in a time that tells only their lengths.
#[must_use]
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}
