//! What stands in a server's certificate, as far as mail cares.

use rustls::{CertificateError, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

use super::client::Problem;

/// A certificate that could not be parsed has no parts.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub names: Vec<String>,
    pub public_key: Vec<u8>,
    pub key: Key,
    pub self_signed: bool,
    issuer: String,
}

#[derive(Clone, Debug, Default)]
pub enum Key {
    #[default]
    Other,
    Rsa(usize),
    /// The curve's name in OpenSSL.
    Curve(&'static str),
}

impl Parts {
    pub fn untrusted_issuer(&self) -> Problem {
        if self.self_signed {
            return Problem::Chain("self-signed certificate".to_owned());
        }
        let issuer = if self.issuer.is_empty() { "<unknown>" } else { &self.issuer };
        Problem::Chain(format!("untrusted issuer {issuer}"))
    }
}

pub fn parts(der: &[u8]) -> Parts {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Parts::default() };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().last();
        names.extend(common.and_then(|name| name.as_str().ok()).map(str::to_owned));
    }
    let key = match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Key::Rsa(key.key_size()),
        Ok(PublicKey::EC(point)) => Key::Curve(match point.key_size() {
            256 => "prime256v1",
            384 => "secp384r1",
            _ => "secp521r1",
        }),
        _ => Key::Other,
    };
    Parts {
        names,
        public_key: certificate.public_key().raw.to_vec(),
        key,
        self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        issuer: one_line(certificate.issuer()),
    }
}

/// `/C=DE/O=Example/CN=Example CA`, as OpenSSL writes a name in one line.
fn one_line(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let short = match oid.as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "1.2.840.113549.1.9.1" => "emailAddress",
            other => other,
        };
        let value = attribute.as_str().unwrap_or("?");
        let value: String =
            value.chars().map(|c| if c.is_control() { '?' } else { c }).take(256).collect();
        text.push_str(&format!("/{short}={value}"));
    }
    text
}

pub fn in_time(der: &[u8], now: u64) -> Result<(), CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    match now {
        now if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet),
        now if now > validity.not_after.timestamp() => Err(CertificateError::Expired),
        _ => Ok(()),
    }
}

/// `RSA-PSS (2048 bits) server-digest SHA256`.
pub fn signature_text(scheme: SignatureScheme, parts: &Parts) -> Option<String> {
    let digest = match scheme {
        SignatureScheme::RSA_PSS_SHA256
        | SignatureScheme::ECDSA_NISTP256_SHA256
        | SignatureScheme::RSA_PKCS1_SHA256 => " server-digest SHA256",
        SignatureScheme::RSA_PSS_SHA384
        | SignatureScheme::ECDSA_NISTP384_SHA384
        | SignatureScheme::RSA_PKCS1_SHA384 => " server-digest SHA384",
        SignatureScheme::RSA_PSS_SHA512
        | SignatureScheme::ECDSA_NISTP521_SHA512
        | SignatureScheme::RSA_PKCS1_SHA512 => " server-digest SHA512",
        SignatureScheme::ED25519 => return Some("ED25519".to_owned()),
        _ => return None,
    };
    match parts.key {
        Key::Rsa(bits) => Some(format!("RSA-PSS ({bits} bits){digest}")),
        Key::Curve(curve) => Some(format!("ECDSA ({curve}){digest}")),
        Key::Other => None,
    }
}
