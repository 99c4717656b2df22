//! TLS for clients. A handshake is always completed, whatever the certificate is worth: what was found out about it is a
//! value, and the caller decides, before it says a word, whether that is enough. So an old server whose certificate nobody
//! asked to be verified is no obstacle.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::sessions::Kept;
use super::{Facts, Policy, Tls, certificate, identity};
use crate::stream::Stream;

pub use super::sessions::Sessions;

/// A server gives two tickets at a time.
const SESSIONS_OF_A_SERVER: usize = 4;

/// The authorities that a client trusts; empty: nobody.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    store: Option<Arc<RootCertStore>>,
    exact: Arc<Vec<CertificateDer<'static>>>,
}

impl Authorities {
    /// The certificates in a PEM text; what is none of them is passed over, as OpenSSL does.
    pub fn from_pem(text: &[u8]) -> Self {
        let mut store = RootCertStore::empty();
        let mut exact = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(text).flatten() {
            if store.add(certificate.clone()).is_ok() {
                exact.push(certificate);
            }
        }
        let store = (!store.is_empty()).then(|| Arc::new(store));
        Self { store, exact: Arc::new(exact) }
    }

    pub fn len(&self) -> usize {
        self.exact.len()
    }

    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }
}

/// What one handshake is to be like.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub policy: Policy,
    /// The name to ask the server for (SNI); most mail servers are asked for none.
    pub server_name: Option<String>,
    pub authorities: Authorities,
    /// What we show where the server asks for a certificate.
    pub identity: Option<Tls>,
    pub resume: Option<Resume>,
}

/// A session to be resumed, or to be remembered.
#[derive(Clone, Debug)]
pub struct Resume {
    pub sessions: Arc<Sessions>,
    /// The server, and all of the policy that its certificate was judged by.
    pub key: String,
}

/// What the server showed, and what it is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// DER of its certificate; nothing from a server without one.
    pub certificate: Vec<u8>,
    /// DER of the public key in it.
    pub public_key: Vec<u8>,
    /// The other certificates that it sent, in DER.
    pub chain: Vec<Vec<u8>>,
    /// The DNS names it is for; the common name where it lists none.
    pub names: Vec<String>,
    /// An authority that we trust stands behind it, its time is right, and the server has its key.
    pub trusted: bool,
    /// The server proved that it has the key.
    pub proven: bool,
    /// Why it is not trusted, in Postfix's words behind `certificate verification failed for HOST: `.
    pub problem: Option<Problem>,
    /// `RSA-PSS (2048 bits) server-digest SHA256`, as Postfix logs it for TLS 1.3.
    pub signature: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `certificate verification failed for HOST: TEXT`.
    Chain(String),
    /// `server certificate verification failed for HOST: TEXT`.
    Server(String),
}

impl Shown {
    /// Whether the certificate was issued under this one, by those that the server sent, and is in time.
    #[must_use]
    pub fn is_issued_under(&self, anchor: &[u8]) -> bool {
        let mut store = RootCertStore::empty();
        if store.add(CertificateDer::from(anchor.to_vec())).is_err() {
            return false;
        }
        let provider = Arc::new(identity::provider(&Policy::default()));
        let Ok(verifier) =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build()
        else {
            return false;
        };
        let chain: Vec<CertificateDer<'_>> =
            self.chain.iter().map(|one| CertificateDer::from(one.as_slice())).collect();
        let certificate = CertificateDer::from(self.certificate.as_slice());
        let name = ServerName::IpAddress(IpAddr::from([0, 0, 0, 0]).into());
        verified(&verifier, &certificate, &chain, &name, UnixTime::now()).is_ok()
    }
}

/// DER of the public key in a certificate; nothing if there is none.
#[must_use]
pub fn public_key(certificate: &[u8]) -> Vec<u8> {
    certificate::parts(certificate).public_key
}

/// As far as authorities and times go: the name is looked at last, and ours is for another judge.
fn verified(
    verifier: &WebPkiServerVerifier,
    certificate: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), CertificateError> {
    match verifier.verify_server_cert(certificate, chain, name, &[], now) {
        Ok(_)
        | Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(Error::InvalidCertificate(error)) => Err(error),
        Err(_) => Err(CertificateError::UnknownIssuer),
    }
}

/// Shakes hands as the client with the server at `address`.
pub(crate) async fn connect(
    stream: Stream,
    wish: &Wish,
    address: IpAddr,
) -> std::io::Result<(Stream, Facts, Shown)> {
    let name = match wish.server_name.as_deref().map(str::to_owned).map(ServerName::try_from) {
        Some(Ok(name)) => name,
        _ => ServerName::IpAddress(address.into()),
    };
    let keys = wish.identity.as_ref().map(Tls::client_keys);
    let known =
        wish.resume.as_ref().and_then(|resume| resume.sessions.take(&resume.key, keys.as_ref()));
    let Kept { config, witness, since, .. } = match known {
        Some(known) => known,
        None => fresh(wish, keys.clone())?,
    };
    witness.look(|seen| *seen = Seen::default());
    let connecting = TlsConnector::from(Arc::clone(&config)).connect(name.clone(), stream);
    let connected = connecting.await?;
    let facts = Facts::of_client(connected.get_ref().1);
    if facts.resumed {
        // Only what was proven is kept; whether it is still trusted is another question.
        let certificates = connected.get_ref().1.peer_certificates().unwrap_or_default();
        witness.look_again(certificates, &name);
    }
    let shown = witness.shown(&facts);
    if let Some(resume) = wish.resume.as_ref().filter(|_| shown.proven) {
        resume.sessions.keep(&resume.key, Kept { config, witness, keys, since });
    }
    Ok((Stream::Tls(Box::new(connected.into())), facts, shown))
}

fn fresh(wish: &Wish, keys: Option<Arc<identity::ClientKeys>>) -> std::io::Result<Kept> {
    let provider = Arc::new(identity::provider(&wish.policy));
    let witness = Arc::new(Witness::new(&wish.authorities, &provider));
    let bad = |error: Error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&identity::versions(&wish.policy))
        .map_err(bad)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>);
    let mut config = match &keys {
        Some(keys) => config.with_client_cert_resolver(Arc::clone(keys) as Arc<_>),
        None => config.with_no_client_auth(),
    };
    config.resumption = match wish.resume {
        Some(_) => Resumption::in_memory_sessions(SESSIONS_OF_A_SERVER),
        None => Resumption::disabled(),
    };
    Ok(Kept { config: Arc::new(config), witness, keys, since: Instant::now() })
}

/// Looks at everything and objects to nothing.
#[derive(Debug)]
pub(super) struct Witness {
    chain: Option<Arc<WebPkiServerVerifier>>,
    exact: Arc<Vec<CertificateDer<'static>>>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    certificate: Vec<u8>,
    intermediates: Vec<Vec<u8>>,
    chain: Option<Result<(), CertificateError>>,
    signature: Option<SignatureScheme>,
    proven: bool,
}

impl Witness {
    fn new(authorities: &Authorities, provider: &Arc<CryptoProvider>) -> Self {
        let chain = authorities.store.as_ref().and_then(|store| {
            let (store, provider) = (Arc::clone(store), Arc::clone(provider));
            WebPkiServerVerifier::builder_with_provider(store, provider).build().ok()
        });
        Self {
            chain,
            exact: Arc::clone(&authorities.exact),
            algorithms: provider.signature_verification_algorithms,
            seen: Mutex::default(),
        }
    }

    fn look(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn shown(&self, facts: &Facts) -> Shown {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.certificate.is_empty() {
            return Shown::default();
        }
        let parts = certificate::parts(&seen.certificate);
        let proven = seen.proven;
        let trusted = proven && matches!(seen.chain, Some(Ok(())));
        let problem = match &seen.chain {
            _ if trusted => None,
            Some(Err(error)) => Some(problem(error, &parts)),
            _ => Some(parts.untrusted_issuer()),
        };
        let signature = seen
            .signature
            .filter(|_| facts.version == "TLSv1.3")
            .and_then(|scheme| certificate::signature_text(scheme, &parts));
        Shown {
            certificate: seen.certificate.clone(),
            public_key: parts.public_key,
            chain: seen.intermediates.clone(),
            names: parts.names,
            trusted,
            proven,
            problem,
            signature,
        }
    }

    fn proved(&self, scheme: SignatureScheme, proven: bool) -> HandshakeSignatureValid {
        self.look(|seen| (seen.signature, seen.proven) = (Some(scheme), proven));
        HandshakeSignatureValid::assertion()
    }

    /// The certificates of a session that is resumed.
    fn look_again(&self, certificates: &[CertificateDer<'_>], name: &ServerName<'_>) {
        let Some((certificate, others)) = certificates.split_first() else { return };
        let _ = self.verify_server_cert(certificate, others, name, &[], UnixTime::now());
        self.look(|seen| seen.proven = true);
    }
}

fn problem(error: &CertificateError, parts: &certificate::Parts) -> Problem {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Problem::Server("certificate has expired".to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Problem::Server("certificate not yet valid".to_owned())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Problem::Chain("not designated for use as a server certificate".to_owned())
        }
        CertificateError::UnknownIssuer => parts.untrusted_issuer(),
        _ if parts.self_signed => parts.untrusted_issuer(),
        other => Problem::Server(other.to_string()),
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |chain: &Arc<WebPkiServerVerifier>| {
            verified(chain, certificate, intermediates, name, now)
        };
        let mut chain = self.chain.as_ref().map(verify);
        // The authority's own certificate, as a server's: OpenSSL takes it, if its time is right.
        if !matches!(chain, Some(Ok(()))) && self.exact.iter().any(|exact| exact == certificate) {
            chain = Some(certificate::in_time(certificate, now.as_secs()));
        }
        self.look(|seen| {
            seen.certificate = certificate.to_vec();
            seen.intermediates = intermediates.iter().map(|one| one.to_vec()).collect();
            seen.chain = chain;
        });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls12_signature(message, certificate, signed, &self.algorithms);
        Ok(self.proved(signed.scheme, verified.is_ok()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, certificate, signed, &self.algorithms);
        Ok(self.proved(signed.scheme, verified.is_ok()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        // For old servers; such a signature proves nothing here.
        schemes.extend([SignatureScheme::RSA_PKCS1_SHA1, SignatureScheme::ECDSA_SHA1_Legacy]);
        schemes
    }
}
