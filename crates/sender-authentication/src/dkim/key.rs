//! The key record in the DNS (RFC 6376 section 3.6.1, RFC 8463 section 4).

use crypto::{Ed25519PublicKey, RsaPublicKey};

use super::fault::Fault;
use super::tags::Tags;
use super::{Algorithm, signature};

/// Octets of a record that are looked at.
const MAX_RECORD: usize = 16 * 1024;

/// A key that may sign mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub public: Public,
    /// `t=y`: the domain only tries DKIM out.
    pub testing: bool,
    /// `t=s`: `i=` must name exactly the domain.
    pub exact_domain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Public {
    Rsa(RsaPublicKey),
    Ed25519(Ed25519PublicKey),
    /// Base64, but no key of the type that `k=` says.
    Unusable,
}

impl Key {
    /// Reads a record, in OpenDKIM's order of checks. `algorithm` is the signature's, when there is one.
    ///
    /// # Errors
    ///
    /// The [`Fault`] that the signature gets from it.
    pub fn parse(record: &[u8], algorithm: Option<Algorithm>) -> Result<Self, Fault> {
        if record.is_empty() || record.len() > MAX_RECORD {
            return Err(Fault::KeySyntax);
        }
        let tags = Tags::parse(record).map_err(|_| Fault::KeySyntax)?;
        if let Some(version) = tags.get("v")
            && (version != "DKIM1" || tags.first_name() != Some("v"))
        {
            return Err(Fault::KeyVersion);
        }
        let hashes: Option<Vec<String>> =
            tags.get("h").map(|list| list.split(':').map(str::to_ascii_lowercase).collect());
        if let Some(list) = &hashes {
            if !list.iter().any(|name| matches!(name.as_str(), "sha1" | "sha256")) {
                return Err(Fault::KeyUnknownHash);
            }
            let allows =
                |algorithm: Algorithm| list.iter().any(|name| name == algorithm.hash_name());
            if algorithm.is_some_and(|algorithm| !allows(algorithm)) {
                return Err(Fault::KeyHashMismatch);
            }
        }
        let for_mail =
            |list: String| list.split(':').any(|service| matches!(service, "*" | "email"));
        if tags.get("s").is_some_and(|list| !for_mail(list)) {
            return Err(Fault::NotEmailKey);
        }
        let kind = tags.get("k").unwrap_or_else(|| "rsa".to_owned());
        if !matches!(kind.as_str(), "rsa" | "ed25519") {
            return Err(Fault::KeyTypeUnknown);
        }
        let data = tags.get("p").ok_or(Fault::KeySyntax)?;
        if data.is_empty() {
            return Err(Fault::KeyRevoked);
        }
        let octets = crypto::pem::decode(data.as_bytes()).unwrap_or_default();
        let flags = tags.get("t").unwrap_or_default();
        let flag = |name: &str| flags.split(':').any(|flag| flag == name);
        let public = match kind.as_str() {
            "ed25519" => Ed25519PublicKey::from_octets(&octets).map(Public::Ed25519),
            _ => RsaPublicKey::from_der(&octets).map(Public::Rsa),
        };
        Ok(Self {
            public: public.unwrap_or(Public::Unusable),
            testing: flag("y"),
            exact_domain: flag("s"),
        })
    }

    /// Bits of an RSA key; 0 for others, which have one size.
    #[must_use]
    pub fn bits(&self) -> usize {
        match &self.public {
            Public::Rsa(key) => key.bits(),
            Public::Ed25519(_) | Public::Unusable => 0,
        }
    }

    /// Whether `signature` is this key's over `data`.
    ///
    /// # Errors
    ///
    /// [`Fault::BadSignature`] when it is not, [`Fault::KeyDecode`] for a key of another kind.
    pub fn verify(&self, data: &[u8], signature: &signature::Signature) -> Result<(), Fault> {
        let good = match (&self.public, signature.algorithm) {
            (Public::Rsa(key), algorithm @ (Algorithm::RsaSha1 | Algorithm::RsaSha256)) => {
                key.verify(algorithm.hash(), data, &signature.octets)
            }
            (Public::Ed25519(key), Algorithm::Ed25519Sha256) => {
                key.verify(&crypto::sha256(data), &signature.octets)
            }
            _ => return Err(Fault::KeyDecode),
        };
        if good { Ok(()) } else { Err(Fault::BadSignature) }
    }
}

/// Where the key of a signature stands, or `None` when that is no name that could be asked for.
#[must_use]
pub fn name(selector: &str, domain: &str) -> Option<String> {
    let name = format!("{selector}._domainkey.{domain}").to_ascii_lowercase();
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    (name.len() <= 253 && name.split('.').all(label_is_good)).then_some(name)
}
