//! Keyed digests (RFC 2104) and keys derived from passwords (RFC 8018 section 5.2).

use std::num::NonZeroU32;

use aws_lc_rs::{hmac as aws, pbkdf2};
use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::digest::{array, md5};

#[must_use]
pub fn hmac_md5(key: &[u8], data: &[u8]) -> [u8; 16] {
    // longer than a block is hashed first, as the standard says; a shorter key is always taken
    let hashed = if key.len() > 64 { md5(key).to_vec() } else { key.to_vec() };
    match Hmac::<md5::Md5>::new_from_slice(&hashed) {
        Ok(mut mac) => {
            mac.update(data);
            mac.finalize().into_bytes().into()
        }
        Err(_) => [0; 16],
    }
}

#[must_use]
pub fn hmac_sha1(key: &[u8], data: &[u8]) -> [u8; 20] {
    array(aws::sign(&aws::Key::new(aws::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key), data).as_ref())
}

#[must_use]
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    array(aws::sign(&aws::Key::new(aws::HMAC_SHA256, key), data).as_ref())
}

#[must_use]
pub fn pbkdf2_hmac_sha1(password: &[u8], salt: &[u8], rounds: NonZeroU32) -> [u8; 20] {
    let mut key = [0; 20];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, rounds, salt, password, &mut key);
    key
}

#[must_use]
pub fn pbkdf2_hmac_sha256(password: &[u8], salt: &[u8], rounds: NonZeroU32) -> [u8; 32] {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// RFC 2202 and RFC 4231, the "Jefe" case; a key longer than a block.
    #[test]
    fn macs_are_those_of_the_standards() {
        let data = b"what do ya want for nothing?";
        assert_eq!(hex(&hmac_md5(b"Jefe", data)), "750c783e6ab0b503eaa86e310a5db738");
        assert_eq!(hex(&hmac_sha1(b"Jefe", data)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(
            hex(&hmac_sha256(b"Jefe", data)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac_md5(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"
        );
    }

    /// RFC 6070.
    #[test]
    fn derived_keys_are_those_of_the_standards() {
        let rounds = NonZeroU32::new(4096).unwrap();
        assert_eq!(
            hex(&pbkdf2_hmac_sha1(b"password", b"salt", rounds)),
            "4b007901b765489abead49d926f721d065a429c1"
        );
        assert_eq!(
            hex(&pbkdf2_hmac_sha256(b"password", b"salt", rounds)),
            "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"
        );
    }
}
