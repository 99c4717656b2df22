//! A private certification authority, for one test or one demo.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

/// An authority and the directory where its files lie: `ca.pem` and what [`Authority::issue`] writes.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(directory: &Path) -> Self {
        Self::named(directory, "Theoris private CA")
    }

    pub fn named(directory: &Path, name: &str) -> Self {
        fs::create_dir_all(directory).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory: directory.to_owned() }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Writes `NAME/fullchain.pem` and `NAME/privkey.pem`, as certbot names them, for these host names
    /// (an IP address becomes an address entry).
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, hosts[0]);
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().unwrap()),
            });
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        let identity =
            Identity { chain: directory.join("fullchain.pem"), key: directory.join("privkey.pem") };
        fs::write(&identity.chain, certificate.pem()).unwrap();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&identity.key)
            .unwrap();
        file.write_all(key.serialize_pem().as_bytes()).unwrap();
        identity
    }
}

/// Parts of a certificate, in DER.
pub struct Facts {
    pub whole: Vec<u8>,
    pub public_key: Vec<u8>,
}

/// Of the first certificate in a file.
pub fn facts(file: &Path) -> Facts {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let whole = CertificateDer::from_pem_file(file).unwrap();
    let verifiable = rustls::server::ParsedCertificate::try_from(&whole).unwrap();
    let public_key = verifiable.subject_public_key_info().to_vec();
    Facts { whole: whole.to_vec(), public_key }
}
