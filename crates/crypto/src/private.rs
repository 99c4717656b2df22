//! Private keys that sign.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};

use crate::der::{self, Reader};
use crate::small_rsa::SmallRsaKey;
use crate::{Ed25519PublicKey, RsaPublicKey, pem};

/// Why a private key is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("not a private key in PEM or DER")]
    Malformed,
    #[error("the key is encrypted; store it without a pass phrase")]
    Encrypted,
    #[error("neither an RSA nor an Ed25519 key")]
    UnknownAlgorithm,
    #[error("RSA keys have 1024 to 8192 bits, this one has {0}")]
    Size(usize),
    #[error("keys of {0} bits are not made: use 2048, 3072, 4096 or 8192")]
    NotMade(usize),
    #[error("the numbers of the key do not belong together")]
    Inconsistent,
}

/// No signature was made: the system gives no random bits, or the computation went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature could not be computed")]
pub struct SigningFailed;

/// A private key, as OpenDKIM and TLS hosts keep it: PEM or DER, PKCS#1 or PKCS#8.
pub struct PrivateKey(Kind);

enum Kind {
    Rsa(Box<RsaKeyPair>, RsaPublicKey),
    SmallRsa(Box<SmallRsaKey>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl PrivateKey {
    /// Reads PEM, or else DER.
    ///
    /// # Errors
    ///
    /// [`BadKey`] says what is wrong with it.
    pub fn parse(octets: &[u8]) -> Result<Self, BadKey> {
        match pem::first(octets) {
            Some((label, _)) if label.starts_with("ENCRYPTED") => Err(BadKey::Encrypted),
            Some((_, der)) => Self::from_der(&der),
            // the old encrypted form has header lines inside, so it is no base64
            None if octets.windows(9).any(|window| window == b"ENCRYPTED") => {
                Err(BadKey::Encrypted)
            }
            None => Self::from_der(octets),
        }
    }

    /// Reads a PKCS#8 or PKCS#1 structure.
    ///
    /// # Errors
    ///
    /// [`BadKey`] says what is wrong with it.
    pub fn from_der(octets: &[u8]) -> Result<Self, BadKey> {
        let mut outer = Reader(octets);
        let mut body = outer.sequence().ok_or(BadKey::Malformed)?;
        body.take(der::INTEGER).ok_or(BadKey::Malformed)?;
        let mut info = body;
        let Some(mut algorithm) = info.sequence() else { return rsa(octets) };
        let key = info.take(der::OCTET_STRING).ok_or(BadKey::Malformed)?;
        match algorithm.take(der::OBJECT) {
            Some(der::RSA) => rsa(key),
            Some(der::ED25519) => {
                let seed = Reader(key).take(der::OCTET_STRING).ok_or(BadKey::Malformed)?;
                Self::from_ed25519_seed(seed)
            }
            _ => Err(BadKey::UnknownAlgorithm),
        }
    }

    /// An Ed25519 key from its 32 octets.
    ///
    /// # Errors
    ///
    /// [`BadKey::Malformed`] for another length.
    pub fn from_ed25519_seed(seed: &[u8]) -> Result<Self, BadKey> {
        if seed.len() != 32 {
            return Err(BadKey::Malformed);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey::Malformed)?;
        Ok(Self(Kind::Ed25519(Box::new(pair))))
    }

    /// Makes a new RSA key and writes it as PKCS#8 in PEM, as OpenSSL 3 does.
    ///
    /// # Errors
    ///
    /// [`BadKey::NotMade`] for a size that nobody should start with today.
    pub fn generate_rsa(bits: usize) -> Result<(Self, String), BadKey> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => return Err(BadKey::NotMade(bits)),
        };
        let pair = RsaKeyPair::generate(size).map_err(|_| BadKey::Inconsistent)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| BadKey::Inconsistent)?;
        let key = Self::from_der(der.as_ref())?;
        Ok((key, pem::write("PRIVATE KEY", der.as_ref())))
    }

    /// Signs `message` with SHA-256 and PKCS#1 v1.5, or with Ed25519.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`], which no input causes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match &self.0 {
            Kind::Rsa(pair, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| SigningFailed)?;
                Ok(signature)
            }
            Kind::SmallRsa(key) => key.sign(message).ok_or(SigningFailed),
            Kind::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The RSA public key that belongs to it, or `None` for Ed25519.
    #[must_use]
    pub fn rsa_public(&self) -> Option<&RsaPublicKey> {
        match &self.0 {
            Kind::Rsa(_, public) => Some(public),
            Kind::SmallRsa(key) => Some(key.public()),
            Kind::Ed25519(_) => None,
        }
    }

    /// The Ed25519 public key that belongs to it, or `None` for RSA.
    #[must_use]
    pub fn ed25519_public(&self) -> Option<Ed25519PublicKey> {
        match &self.0 {
            Kind::Ed25519(pair) => Ed25519PublicKey::from_octets(pair.public_key().as_ref()).ok(),
            Kind::Rsa(..) | Kind::SmallRsa(_) => None,
        }
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Rsa(_, public) => write!(formatter, "PrivateKey(RSA, {} bits)", public.bits()),
            Kind::SmallRsa(key) => {
                write!(formatter, "PrivateKey(RSA, {} bits)", key.public().bits())
            }
            Kind::Ed25519(_) => formatter.write_str("PrivateKey(Ed25519)"),
        }
    }
}

/// An RSAPrivateKey (RFC 8017 appendix A.1.2).
fn rsa(octets: &[u8]) -> Result<PrivateKey, BadKey> {
    let numbers = || {
        let mut key = Reader(octets).sequence()?;
        key.take(der::INTEGER)?;
        Some((key.unsigned()?, key.unsigned()?, key.unsigned()?))
    };
    let (modulus, exponent, private_exponent) = numbers().ok_or(BadKey::Malformed)?;
    let public = RsaPublicKey::new(modulus, exponent);
    match public.bits() {
        1024..2048 => SmallRsaKey::new(public, modulus, private_exponent)
            .map(|key| PrivateKey(Kind::SmallRsa(Box::new(key))))
            .ok_or(BadKey::Inconsistent),
        2048..=8192 => {
            let pair = RsaKeyPair::from_der(octets).map_err(|_| BadKey::Inconsistent)?;
            Ok(PrivateKey(Kind::Rsa(Box::new(pair), public)))
        }
        bits => Err(BadKey::Size(bits)),
    }
}
