//! Keys as OpenSSL writes them, signatures as OpenSSL makes them.

use crypto::{BadKey, Hash, PrivateKey, RsaPublicKey, pem};

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("data/", $name)).as_slice()
    };
}

const MESSAGE: &[u8] = b"a signed message";

#[test]
fn rsa_signatures_are_the_same_octets_as_openssls() {
    for (key, signature) in [
        (data!("rsa-1024.pem"), data!("rsa-1024.sig")),
        (data!("rsa-1024-pkcs1.pem"), data!("rsa-1024.sig")),
        (data!("rsa-1536.pem"), data!("rsa-1536.sig")),
        (data!("rsa-2048.pem"), data!("rsa-2048.sig")),
        (data!("rsa-2048-pkcs1.pem"), data!("rsa-2048.sig")),
    ] {
        let key = PrivateKey::parse(key).unwrap();
        let signature = pem::decode(signature).unwrap();
        assert_eq!(key.sign(MESSAGE).unwrap(), signature, "{key:?}");
        let public = RsaPublicKey::from_der(&key.rsa_public().unwrap().to_der()).unwrap();
        assert!(public.verify(Hash::Sha256, MESSAGE, &signature));
        assert!(!public.verify(Hash::Sha256, b"another message", &signature));
        assert!(!public.verify(Hash::Sha1, MESSAGE, &signature));
        assert!(!public.verify(Hash::Sha256, MESSAGE, &signature[1..]));
    }
}

#[test]
fn an_ed25519_key_signs_and_verifies() {
    let key = PrivateKey::parse(data!("ed25519.pem")).unwrap();
    let public = key.ed25519_public().unwrap();
    let signature = key.sign(MESSAGE).unwrap();
    assert!(public.verify(MESSAGE, &signature));
    assert!(!public.verify(b"another message", &signature));
}

#[test]
fn keys_of_no_use_are_refused_with_a_reason() {
    for (octets, reason) in [
        (data!("rsa-768.pem"), BadKey::Size(768)),
        (data!("ec.pem"), BadKey::UnknownAlgorithm),
        (data!("encrypted.pem"), BadKey::Encrypted),
        (data!("encrypted-pkcs1.pem"), BadKey::Encrypted),
        (b"", BadKey::Malformed),
        (
            b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            BadKey::Malformed,
        ),
    ] {
        assert_eq!(PrivateKey::parse(octets).unwrap_err(), reason);
    }
    let (_, mut der) = pem::first(data!("rsa-1024-pkcs1.pem")).unwrap();
    der[200] ^= 1; // inside the private exponent
    assert_eq!(PrivateKey::from_der(&der).unwrap_err(), BadKey::Inconsistent);
    assert_eq!(PrivateKey::generate_rsa(1024).unwrap_err(), BadKey::NotMade(1024));
}

#[test]
fn a_made_key_can_be_read_again() {
    let (key, text) = PrivateKey::generate_rsa(2048).unwrap();
    assert_eq!(PrivateKey::parse(text.as_bytes()).unwrap().rsa_public(), key.rsa_public());
}

/// Cut, lengthened and damaged encodings end in an error, never in a panic.
#[test]
fn damaged_encodings_are_refused() {
    let der = PrivateKey::parse(data!("rsa-1024.pem")).unwrap().rsa_public().unwrap().to_der();
    for length in 0..der.len() {
        assert!(RsaPublicKey::from_der(&der[..length]).is_err(), "{length}");
    }
    assert!(RsaPublicKey::from_der(&[&der[..], &[0]].concat()).is_err());
    for at in 0..der.len() {
        let mut damaged = der.clone();
        damaged[at] ^= 0x81;
        let _ =
            RsaPublicKey::from_der(&damaged).map(|key| key.verify(Hash::Sha256, b"", &[1; 128]));
    }
}
