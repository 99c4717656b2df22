//! Certificates and keys: read by the supervisor, checked, passed on as text, and chosen by the name
//! that the client asks for.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ServerConfig, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use serde::{Deserialize, Serialize};

use super::{Plan, Policy, Version, ciphers};

/// Larger files are no certificates.
const LARGEST_FILE: u64 = 1024 * 1024;

/// `file: problem`, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}: {problem}", file.display())]
    Invalid { file: PathBuf, problem: String },
    #[error("TLS {name}: {source}")]
    Policy { name: String, source: rustls::Error },
}

/// A TLS plan with its files read; goes to the workers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub name: String,
    policy: Policy,
    identities: Vec<Identity>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    names: Vec<String>,
    certificate: String,
    key: String,
    certificate_file: PathBuf,
    key_file: PathBuf,
}

/// What status shows of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub tls: String,
    pub file: PathBuf,
    pub subject: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Bundle {
    pub(super) fn from_pem(certificate: &str, key: &str) -> Self {
        let identity = Identity {
            names: Vec::new(),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            certificate_file: "certificate".into(),
            key_file: "key".into(),
        };
        Self { name: String::new(), policy: Policy::default(), identities: vec![identity] }
    }

    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.identities.iter().filter_map(|identity| identity.facts(&self.name)).collect()
    }
}

/// Keys stay out of logs.
impl fmt::Debug for Bundle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Bundle({}, {} identities)", self.name, self.identities.len())
    }
}

/// What an operator wants to know of a certificate that nobody serves yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The host names that it is for, `*.example.com` among them.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub self_signed: bool,
}

/// Reads a certificate and its key as [`read`] does, and tells what stands in the certificate.
///
/// # Errors
///
/// `file: problem` if one of them cannot be read, or the key belongs to another certificate.
pub fn examine(certificate: &Path, key: &Path) -> Result<Examined, IdentityError> {
    let mut identity = Bundle::from_pem(&read_text(certificate)?, &read_text(key)?)
        .identities
        .pop()
        .unwrap_or_default();
    identity.certificate_file = certificate.to_owned();
    identity.key_file = key.to_owned();
    let certified = identity.certified(&aws_lc_rs::default_provider())?;
    let invalid = |problem: String| IdentityError::Invalid { file: certificate.into(), problem };
    let first = certified.cert.first().ok_or_else(|| invalid("no certificate in it".into()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first)
        .map_err(|error| invalid(format!("not a certificate: {error}")))?;
    let parts = super::certificate::parts(first);
    Ok(Examined {
        names: parts.names,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        self_signed: parts.self_signed,
    })
}

/// Reads and checks all identities of a plan: each parses, and each key belongs to its certificate.
///
/// # Errors
///
/// The first `file: problem`.
pub fn read(plan: &Plan) -> Result<Bundle, IdentityError> {
    let mut identities = Vec::new();
    for files in &plan.identities {
        identities.push(Identity {
            names: files.names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            certificate: read_text(&files.certificate)?,
            key: read_text(&files.key)?,
            certificate_file: files.certificate.clone(),
            key_file: files.key.clone(),
        });
    }
    let bundle = Bundle { name: plan.name.clone(), policy: plan.policy.clone(), identities };
    let refused = |source| IdentityError::Policy { name: plan.name.clone(), source };
    server_config(&bundle, aws_lc_rs::Ticketer::new().map_err(refused)?)?;
    Ok(bundle)
}

fn read_text(file: &Path) -> Result<String, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { file: file.into(), source };
    let invalid =
        |problem: &str| IdentityError::Invalid { file: file.into(), problem: problem.into() };
    if fs::metadata(file).map_err(unreadable)?.len() > LARGEST_FILE {
        return Err(invalid("too large for a certificate or key"));
    }
    String::from_utf8(fs::read(file).map_err(unreadable)?).map_err(|_| invalid("not PEM text"))
}

impl Identity {
    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, IdentityError> {
        let bad =
            |file: &Path, problem: String| IdentityError::Invalid { file: file.into(), problem };
        let in_chain = |problem: String| bad(&self.certificate_file, problem);
        let in_key = |problem: String| bad(&self.key_file, problem);
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| in_chain(format!("bad PEM: {error}")))?;
        let first = chain.first().ok_or_else(|| in_chain("no certificate in it".to_owned()))?;
        x509_parser::parse_x509_certificate(first)
            .map_err(|error| in_chain(format!("not a certificate: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| in_key(format!("no private key: {error}")))?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| in_key(format!("private key: {error}")))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                let file = self.certificate_file.display();
                Err(in_key(format!("does not belong to the certificate {file}")))
            }
            _ => Ok(certified),
        }
    }

    fn facts(&self, tls: &str) -> Option<Certificate> {
        let first = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).next()?.ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&first).ok()?;
        Some(Certificate {
            tls: tls.to_owned(),
            file: self.certificate_file.clone(),
            subject: parsed.subject().to_string(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// The rustls configuration of a bundle.
pub(super) fn server_config(
    bundle: &Bundle,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, IdentityError> {
    let refused = |source| IdentityError::Policy { name: bundle.name.clone(), source };
    let provider = provider(&bundle.policy);
    let mut chooser = Chooser { identities: Vec::new() };
    for identity in &bundle.identities {
        let key = identity.certified(&provider)?;
        chooser.identities.push((identity.names.clone(), Arc::new(key)));
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions(&bundle.policy))
        .map_err(refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(chooser));
    config.ignore_client_order = bundle.policy.prefer_server_order;
    config.ticketer = tickets;
    Ok(config)
}

/// What a client shows where the server asks for a certificate.
#[derive(Debug)]
pub(super) struct ClientKeys(Vec<Arc<CertifiedKey>>);

impl ClientKeys {
    pub(super) fn of(bundle: &Bundle) -> Result<Self, IdentityError> {
        let provider = provider(&bundle.policy);
        let keys = bundle.identities.iter().map(|identity| identity.certified(&provider));
        Ok(Self(keys.map(|key| key.map(Arc::new)).collect::<Result<_, _>>()?))
    }
}

/// The first whose key the server can verify, whoever the server would like it to be from.
impl ResolvesClientCert for ClientKeys {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

pub(super) fn versions(policy: &Policy) -> Vec<&'static SupportedProtocolVersion> {
    [(Version::Tls13, &version::TLS13), (Version::Tls12, &version::TLS12)]
        .into_iter()
        .filter(|(name, _)| *name >= policy.min && policy.max.is_none_or(|max| *name <= max))
        .map(|(_, version)| version)
        .collect()
}

/// TLS 1.3's suites always, TLS 1.2's as the policy lists them.
pub(super) fn provider(policy: &Policy) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if policy.suites.is_empty() {
        return provider;
    }
    let all = std::mem::take(&mut provider.cipher_suites);
    let tls13 = |suite: &&SupportedCipherSuite| suite.tls13().is_some();
    provider.cipher_suites = all.iter().filter(tls13).copied().collect();
    for name in &policy.suites {
        let suite = all.iter().find(|suite| Some(suite.suite()) == ciphers::by_name(name));
        provider.cipher_suites.extend(suite.copied());
    }
    provider
}

#[derive(Debug)]
struct Chooser {
    identities: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

/// The certificates for the client's name before the default ones; among them the first whose key
/// the client can verify (a host may have an ECDSA and an RSA certificate for one name).
impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let for_name = |wanted: &str| {
            let named = self
                .identities
                .iter()
                .filter(|(names, _)| names.iter().any(|name| name_matches(name, wanted)));
            named.map(|(_, key)| key).find(usable)
        };
        let default = || {
            let unnamed = self.identities.iter().filter(|(names, _)| names.is_empty());
            unnamed.chain(&self.identities).map(|(_, key)| key).find(usable)
        };
        hello.server_name().and_then(for_name).or_else(default).cloned()
    }
}

/// `*` stands for one label, as in certificates.
fn name_matches(pattern: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == pattern,
    }
}
