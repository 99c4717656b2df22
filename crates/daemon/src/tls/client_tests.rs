//! Handshakes of the client with servers whose certificates are good, unknown, expired.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Tls;
use super::client::{Authorities, Problem, Resume, Sessions, Shown, Wish};
use crate::wire::{Pipelined, Wire};

/// A server's certificate and key from an authority, whose PEM comes last.
fn issued(expired: bool) -> (String, String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Test CA");
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["mx.example.org".to_owned()]).unwrap();
    if expired {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    (certificate, key.serialize_pem(), authority)
}

async fn shake((certificate, key): (&str, &str), wish: &Wish) -> (Pipelined, Shown, String) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let tls = Tls::from_pem(certificate, key).unwrap();
    let server = tokio::spawn(async move {
        let mut wire = Wire::from_io(there);
        wire.start_tls(&tls).await.unwrap();
        wire.send(b"220 inside\r\n").await.unwrap();
        wire
    });
    let mut wire = Wire::from_io(here).with_input(b"250 injected\r\n");
    let (pipelined, shown) = wire.start_tls_client(wish).await.unwrap();
    let line = wire.line(100).await.unwrap().unwrap();
    assert_eq!(&line.bytes[..], b"220 inside");
    drop(server.await.unwrap());
    let facts = wire.tls().unwrap();
    (pipelined, shown, format!("{} {}", facts.version, facts.bits))
}

#[tokio::test]
async fn every_handshake_ends_well_and_tells_what_the_certificate_is_worth() {
    let (good, key, ca) = issued(false);
    let trusting = Wish { authorities: Authorities::from_pem(ca.as_bytes()), ..Wish::default() };
    let (pipelined, shown, facts) = shake((&good, &key), &trusting).await;
    assert_eq!(pipelined, Pipelined::Discarded(14));
    assert!(shown.trusted && shown.proven, "{shown:?}");
    assert_eq!((shown.names, shown.problem), (vec!["mx.example.org".to_owned()], None));
    assert_eq!(facts, "TLSv1.3 256");
    assert_eq!(shown.signature.unwrap(), "ECDSA (prime256v1) server-digest SHA256");

    let (_, shown, _) = shake((&good, &key), &Wish::default()).await;
    assert!(!shown.trusted && shown.proven);
    let issuer = Problem::Chain("untrusted issuer /CN=Test CA".to_owned());
    assert_eq!(shown.problem, Some(issuer));

    let (old, key, ca) = issued(true);
    let trusting = Wish { authorities: Authorities::from_pem(ca.as_bytes()), ..Wish::default() };
    let (_, shown, _) = shake((&old, &key), &trusting).await;
    assert!(!shown.trusted);
    assert_eq!(shown.problem, Some(Problem::Server("certificate has expired".to_owned())));
}

#[tokio::test]
async fn an_authority_s_own_certificate_may_be_a_server_s() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["mx.example.org".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let (_, shown, _) = shake((&certificate, &key), &Wish::default()).await;
    assert_eq!(shown.problem, Some(Problem::Chain("self-signed certificate".to_owned())));
    let authorities = Authorities::from_pem(certificate.as_bytes());
    let trusting = Wish { authorities, ..Wish::default() };
    let (_, shown, _) = shake((&certificate, &key), &trusting).await;
    assert!(shown.trusted, "{shown:?}");
}

#[tokio::test]
async fn a_session_is_resumed_and_its_certificate_judged_again() {
    let (good, key, ca) = issued(false);
    let sessions = Arc::new(Sessions::new(Duration::from_secs(60)));
    let resume = |key: &str| Some(Resume { sessions: Arc::clone(&sessions), key: key.to_owned() });
    let authorities = Authorities::from_pem(ca.as_bytes());
    let wish = Wish { authorities, resume: resume("a"), ..Wish::default() };
    let tls = Tls::from_pem(&good, &key).unwrap();
    assert!(!shake_with(&tls, &wish).await.1);
    let (shown, resumed) = shake_with(&tls, &wish).await;
    assert!(resumed && shown.trusted && shown.proven, "{shown:?}");
    assert_eq!(shown.names, ["mx.example.org"]);
    let other = Wish { resume: resume("b"), ..wish.clone() };
    assert!(!shake_with(&tls, &other).await.1, "under another policy");
    let short = Arc::new(Sessions::new(Duration::ZERO));
    let short = Wish { resume: Some(Resume { sessions: short, key: "a".into() }), ..wish };
    shake_with(&tls, &short).await;
    assert!(!shake_with(&tls, &short).await.1, "too old");
}

async fn shake_with(tls: &Tls, wish: &Wish) -> (Shown, bool) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let tls = tls.clone();
    let server = tokio::spawn(async move {
        let mut wire = Wire::from_io(there);
        wire.start_tls(&tls).await.unwrap();
        wire.send(b"220 inside\r\n").await.unwrap();
        wire
    });
    let mut wire = Wire::from_io(here);
    let (_, shown) = wire.start_tls_client(wish).await.unwrap();
    wire.line(100).await.unwrap().unwrap();
    drop(server.await.unwrap());
    (shown, wire.tls().unwrap().resumed)
}

#[tokio::test]
async fn a_certificate_is_issued_under_its_authority_alone() {
    let (good, key, ca) = issued(false);
    let (_, shown, _) = shake((&good, &key), &Wish::default()).await;
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    assert!(shown.is_issued_under(&der(&ca)));
    assert!(!shown.is_issued_under(&der(&issued(false).2)));
    let (old, key, ca) = issued(true);
    let (_, shown, _) = shake((&old, &key), &Wish::default()).await;
    assert!(!shown.is_issued_under(&der(&ca)));
}
