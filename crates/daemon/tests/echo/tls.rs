//! Identities by name, renewal, and what was pipelined before STARTTLS.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};
use serde_json::json;

use crate::support::{Echo, LIMIT, eventually};

/// Writes a certificate for `name`, and returns its file and that of its key.
fn identity(directory: &Path, file: &str, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) =
        (directory.join(format!("{file}.pem")), directory.join(format!("{file}.key")));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

/// Takes any certificate: the test looks at it itself.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

struct TlsClient {
    reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    certificate: Vec<u8>,
    facts: String,
}

impl TlsClient {
    fn start(echo: &Echo, name: &str, pipelined: &str) -> Self {
        let mut stream = TcpStream::connect(echo.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut plain = BufReader::with_capacity(1, stream.try_clone().unwrap());
        let mut line = String::new();
        plain.read_line(&mut line).unwrap();
        stream.write_all(format!("starttls\r\n{pipelined}").as_bytes()).unwrap();
        line.clear();
        plain.read_line(&mut line).unwrap();
        assert_eq!(line, "go\r\n");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any))
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        let mut facts = String::new();
        reader.read_line(&mut facts).unwrap();
        let certificate = reader.get_ref().conn.peer_certificates().unwrap()[0].to_vec();
        Self { reader, certificate, facts: facts.trim_end().to_owned() }
    }

    fn ask(&mut self, line: &str) -> String {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.reader.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// True when the certificate is for this name.
    fn is_for(&self, name: &str) -> bool {
        self.certificate.windows(name.len()).any(|part| part == name.as_bytes())
    }
}

fn start() -> Echo {
    let directory = tempfile::tempdir().unwrap().keep();
    let (default, default_key) = identity(&directory, "default", "mail.example");
    let (other, other_key) = identity(&directory, "other", "*.other.example");
    Echo::start(json!({
        "user": "nobody",
        "control": "CONTROL",
        "identities": [[null, default, default_key], ["*.other.example", other, other_key]],
    }))
}

fn files(echo: &Echo) -> PathBuf {
    let default = echo.setting("identities")[0][1].as_str().unwrap().to_owned();
    PathBuf::from(default).parent().unwrap().to_owned()
}

#[test]
fn the_certificate_follows_the_name_that_the_client_asks_for() {
    let echo = start();
    let mut client = TlsClient::start(&echo, "mail.example", "");
    assert_eq!(client.facts, "Nothing TLSv1.3 TLS_AES_256_GCM_SHA384");
    assert!(client.is_for("mail.example"));
    assert_eq!(client.ask("inside"), "inside");
    assert!(TlsClient::start(&echo, "imap.other.example", "").is_for("*.other.example"));
    assert!(TlsClient::start(&echo, "unknown.example", "").is_for("mail.example"));
    std::fs::remove_dir_all(files(&echo)).unwrap();
}

#[test]
fn what_was_pipelined_before_starttls_is_not_obeyed() {
    let echo = start();
    let mut client = TlsClient::start(&echo, "mail.example", "panic\r\n");
    assert!(client.facts.starts_with("Discarded(7) "), "{}", client.facts);
    assert_eq!(client.ask("inside"), "inside");
    std::fs::remove_dir_all(files(&echo)).unwrap();
}

#[test]
fn a_renewed_certificate_reaches_living_workers_and_a_bad_one_does_not() {
    let mut echo = start();
    let directory = files(&echo);
    let mut old = TlsClient::start(&echo, "mail.example", "");
    let pid = old.ask("pid");
    identity(&directory, "default", "renewed.example");
    let renewed = || TlsClient::start(&echo, "mail.example", "").is_for("renewed.example");
    eventually("the renewed certificate", renewed, || echo.log());
    assert_eq!(TlsClient::start(&echo, "mail.example", "").ask("pid"), pid, "the same worker");
    assert_eq!(old.ask("still"), "still");
    let expiry = &echo.state()["certificates"][0]["not_after"];
    assert!(expiry.as_i64().is_some_and(|expiry| expiry > 0));

    std::fs::write(directory.join("default.pem"), "no certificate at all").unwrap();
    let problem = format!("{}/default.pem: no certificate in it", directory.display());
    echo.logged(&problem);
    assert!(TlsClient::start(&echo, "mail.example", "").is_for("renewed.example"));
    echo.reload();
    echo.logged("reload refused: generation 1 goes on");
    assert!(TlsClient::start(&echo, "mail.example", "").is_for("renewed.example"));

    identity(&directory, "spare", "repaired.example");
    std::fs::copy(directory.join("other.key"), directory.join("default.key")).unwrap();
    std::fs::copy(directory.join("spare.pem"), directory.join("default.pem")).unwrap();
    echo.reload();
    echo.logged("default.key: does not belong to the certificate");
    assert!(TlsClient::start(&echo, "mail.example", "").is_for("renewed.example"));
    identity(&directory, "default", "repaired.example");
    echo.reload();
    assert!(TlsClient::start(&echo, "mail.example", "").is_for("repaired.example"));
    std::fs::remove_dir_all(directory).unwrap();
}
