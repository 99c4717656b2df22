//! DKIM keys for the KeyTable of a sample, and the records that publish them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The name below which a public key is published, and the text of its TXT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub name: String,
    pub record: String,
}

/// Makes the key of each line of a KeyTable (`NAME DOMAIN:SELECTOR:PATH`), as opendkim-genkey does.
pub fn generate(key_table: &str, owner: Option<(u32, u32)>) -> Vec<Published> {
    let lines = key_table.lines().filter(|line| !line.trim_start().starts_with('#'));
    let keys = lines.filter_map(|line| {
        let (_, value) = line.split_once(char::is_whitespace)?;
        let mut parts = value.trim().splitn(3, ':');
        let (domain, selector, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Published {
            name: format!("{selector}._domainkey.{domain}"),
            record: format!("v=DKIM1; h=sha256; k=rsa; p={}", key(Path::new(path), owner)),
        })
    });
    keys.collect()
}

/// Writes an RSA key of 2048 bits that only its owner may read, and returns the public half in base64.
fn key(path: &Path, owner: Option<(u32, u32)>) -> String {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, pair.serialize_pem()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
    let pem = pair.public_key_pem();
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_table_gets_its_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/mail.private");
        let table =
            format!("# names\nmail._domainkey.a.example a.example:mail:{}\n", path.display());
        let published = generate(&table, None);
        assert_eq!(published.len(), 1);
        assert_eq!(published[0].name, "mail._domainkey.a.example");
        assert!(published[0].record.contains("p=MIIBIjANBg"), "{published:?}");
        assert!(fs::read_to_string(path).unwrap().contains("PRIVATE KEY"));
    }
}
