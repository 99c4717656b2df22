//! What a policy lets a client negotiate, and what is told of it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio_rustls::TlsConnector;

use super::{Facts, IdentityFiles, Plan, Policy, Tls, Version, ciphers, read};
use crate::Stream;

struct Host {
    directory: tempfile::TempDir,
    plan: Plan,
}

fn host(policy: Policy) -> Host {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["mail.example".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("cert"), directory.path().join("key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let identity = IdentityFiles { certificate, key, ..IdentityFiles::default() };
    let plan = Plan { name: "test".to_owned(), policy, identities: vec![identity] };
    Host { directory, plan }
}

async fn shake_hands(
    host: &Host,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<Facts> {
    let tls = Tls::new(&read(&host.plan).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(host.directory.path().join("cert")).unwrap();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (here, there) = tokio::io::duplex(65536);
    let connector = TlsConnector::from(Arc::new(config));
    let client = connector.connect(ServerName::try_from("mail.example").unwrap(), here);
    let (server, _) = tokio::join!(tls.accept(Stream::Other(Box::new(there))), client);
    server.map(|(_, facts)| facts)
}

#[tokio::test]
async fn facts_are_in_openssl_words() {
    let facts = shake_hands(&host(Policy::default()), &[&version::TLS12]).await.unwrap();
    assert_eq!((facts.version, facts.bits), ("TLSv1.2", 256));
    assert_eq!(facts.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_eq!(facts.server_name.as_deref(), Some("mail.example"));
    let facts = shake_hands(&host(Policy::default()), &[&version::TLS13]).await.unwrap();
    assert_eq!((facts.version, &*facts.cipher), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"));
    assert_eq!(facts.key_exchange.as_deref(), Some("X25519MLKEM768"));
}

#[tokio::test]
async fn the_policy_decides() {
    let newest = Policy { min: Version::Tls13, ..Policy::default() };
    assert!(shake_hands(&host(newest), &[&version::TLS12]).await.is_err());
    let old = Policy { max: Some(Version::Tls12), ..Policy::default() };
    assert!(shake_hands(&host(old), &[&version::TLS13]).await.is_err());
    let suites = ciphers("ECDHE+AES128:ECDHE+AES256").suites;
    let ordered = Policy { suites, prefer_server_order: true, ..Policy::default() };
    let facts = shake_hands(&host(ordered), &[&version::TLS12]).await.unwrap();
    assert_eq!(facts.cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
}

#[test]
fn problems_of_files_name_the_file() {
    let mut host = host(Policy::default());
    let problem = |host: &Host| read(&host.plan).unwrap_err().to_string();
    let path = |name: &str| host.directory.path().join(name).display().to_string();
    let (certificate, key) = (path("cert"), path("key"));
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(problem(&host).starts_with(&format!("{key}: private key: ")), "{}", problem(&host));
    std::fs::write(&key, "").unwrap();
    assert!(problem(&host).starts_with(&format!("{key}: no private key: ")), "{}", problem(&host));
    std::fs::write(&certificate, [0xff, 0xfe]).unwrap();
    assert_eq!(problem(&host), format!("{certificate}: not PEM text"));
    host.plan.identities[0].certificate = "/nowhere/cert".into();
    assert_eq!(problem(&host), "/nowhere/cert: No such file or directory (os error 2)");
}
