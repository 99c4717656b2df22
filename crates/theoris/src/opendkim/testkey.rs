//! `opendkim-testkey`: whether the key in the DNS is the one in the file.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use config::files::Disk;
use config::opendkim::{Config, names};
use config::{Files, Problems};
use crypto::PrivateKey;
use dns::{Failure, Resolver};
use sender_authentication::dkim::fault::Fault;
use sender_authentication::dkim::key::{self, Key, Public};

use super::options::{self, Known};

const NAME: &str = "opendkim-testkey";
const FILE: &str = "/etc/opendkim.conf";

const OPTIONS: &[Known] =
    &[('d', "", true), ('k', "", true), ('s', "", true), ('v', "", false), ('x', "", true)];

const USAGE: &str = "\
opendkim-testkey: usage: opendkim-testkey [options]
\t-d domain  \tdomain name
\t-k keypath \tpath to private key
\t-s selector\tselector name
\t-v         \tincrease verbose output
\t-x conffile\tconfiguration file
";

// sysexits(3)
const DATA: u8 = 65;
const UNAVAILABLE: u8 = 69;
const SYSTEM: u8 = 71;
const CONFIG: u8 = 78;

/// Why a key does not do.
pub enum Bad {
    /// The DNS has none that could be used.
    Unavailable(String),
    Mismatch,
}

/// Runs the program; the exit code.
pub fn run(words: &[String]) -> u8 {
    let Ok(options) = options::read(words, OPTIONS) else {
        eprint!("{USAGE}");
        return CONFIG;
    };
    let last = |name: &str| {
        options.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.clone())
    };
    let verbose = options.iter().filter(|(name, _)| name == "v").count();
    let named = last("x").map(PathBuf::from);
    let file = named.or_else(|| {
        let usual = Path::new(FILE).exists().then(|| PathBuf::from(FILE));
        if usual.is_some() && verbose > 1 {
            eprintln!("{NAME}: using default configfile {FILE}");
        }
        usual
    });
    let mut problems = Problems::default();
    let config = file.map(|file| Config::read(&Disk, &file, &mut problems)).unwrap_or_default();
    if problems.has_errors() {
        eprintln!("{NAME}: {problems}");
        return CONFIG;
    }
    let domain = last("d").or_else(|| config.list(names::DOMAIN).map(str::to_owned));
    let selector = last("s").or_else(|| config.text(names::SELECTOR).map(str::to_owned));
    let path = last("k").or_else(|| config.text(names::KEYFILE).map(str::to_owned));
    let Some(resolver) = asker(&config) else { return SYSTEM };
    match (domain, selector) {
        (Some(domain), Some(selector)) => {
            resolver.single(&domain, &selector, path.as_deref(), verbose)
        }
        _ => match config.list(names::KEYTABLE) {
            Some(table) => resolver.table(table, verbose),
            None => {
                eprint!("{USAGE}");
                CONFIG
            }
        },
    }
}

struct Asker {
    runtime: tokio::runtime::Runtime,
    settings: dns::Settings,
}

fn asker(config: &Config) -> Option<Asker> {
    let text = Disk.read(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let mut settings = dns::Settings::from_resolv_conf(&String::from_utf8_lossy(&text));
    let named = config.list(names::NAMESERVERS).unwrap_or_default().split(',');
    let named: Vec<SocketAddr> = named
        .filter_map(|name| name.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, 53))
        .collect();
    if !named.is_empty() {
        settings.servers = named;
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Some(Asker { runtime, settings }),
        Err(error) => {
            eprintln!("{NAME}: {error}");
            None
        }
    }
}

impl Asker {
    fn single(&self, domain: &str, selector: &str, path: Option<&str>, verbose: usize) -> u8 {
        let private = match path.map(load).transpose() {
            Ok(private) => private,
            Err(why) => {
                eprintln!("{NAME}: {why}");
                return SYSTEM;
            }
        };
        if let (Some(path), true) = (path, verbose > 1) {
            eprintln!("{NAME}: key loaded from {path}");
        }
        if verbose > 1 {
            eprintln!("{NAME}: checking key '{selector}._domainkey.{domain}'");
        }
        let (authentic, checked) = self.check(domain, selector, private.as_ref());
        if let (Some(authentic), true) = (authentic, verbose > 0) {
            eprintln!("{NAME}: key {}", if authentic { "secure" } else { "not secure" });
        }
        match checked {
            Ok(()) => {
                if verbose > 2 {
                    println!("{NAME}: key OK");
                }
                0
            }
            Err(Bad::Unavailable(why)) => {
                eprintln!("{NAME}: {why}");
                UNAVAILABLE
            }
            Err(Bad::Mismatch) => {
                println!("{NAME}: keys do not match");
                DATA
            }
        }
    }

    /// Every key of a KeyTable that is a file.
    fn table(&self, table: &str, verbose: usize) -> u8 {
        let path = table.strip_prefix("file:").unwrap_or(table);
        let Ok(content) = Disk.read(Path::new(path)) else {
            eprintln!("{NAME}: dkimf_db_open() failed");
            return 1;
        };
        let (mut passed, mut failed) = (0_usize, 0_usize);
        for line in String::from_utf8_lossy(&content).lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let Some((name, value)) = line.split_once(|c: char| c.is_ascii_whitespace()) else {
                continue;
            };
            let mut parts = value.trim().splitn(3, ':');
            let (Some(domain), Some(selector), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if verbose > 1 {
                eprintln!("{NAME}: checking key '{name}'");
            }
            let private = match load(path) {
                Ok(private) => private,
                Err(why) => {
                    eprintln!("{NAME}: {why}");
                    eprintln!("{NAME}: load of key '{name}' failed");
                    return 1;
                }
            };
            let (authentic, checked) = self.check(domain, selector, Some(&private));
            match checked {
                Ok(()) => {
                    if verbose > 2 {
                        println!("{NAME}: key {name}: OK");
                    }
                    passed += 1;
                }
                Err(bad) => {
                    let why = match bad {
                        Bad::Unavailable(why) => why,
                        Bad::Mismatch => "keys do not match".to_owned(),
                    };
                    eprintln!("{NAME}: key {name}: {why}");
                    failed += 1;
                }
            }
            if let (Some(authentic), true) = (authentic, verbose > 0) {
                eprintln!("{NAME}: key {name} {}", if authentic { "secure" } else { "not secure" });
            }
        }
        if verbose > 0 {
            let (count, plural) = (passed + failed, if passed + failed == 1 { "" } else { "s" });
            println!("{NAME}: {count} key{plural} checked; {passed} pass, {failed} fail");
        }
        u8::from(failed > 0)
    }

    /// Whether DNSSEC vouches for the record, and whether it fits.
    fn check(
        &self,
        domain: &str,
        selector: &str,
        private: Option<&PrivateKey>,
    ) -> (Option<bool>, Result<(), Bad>) {
        let shown = format!("{selector}._domainkey.{domain}");
        let bad = |why: String| (None, Err(Bad::Unavailable(why)));
        let Some(name) = key::name(selector, domain) else {
            return bad(format!("'{shown}' record not found"));
        };
        let answer =
            self.runtime.block_on(async { dns::System::new(&self.settings).txt(&name).await });
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failure::NoDomain | Failure::NoData) => {
                return bad(format!("'{shown}' record not found"));
            }
            Err(Failure::TimedOut) => return bad(format!("'{shown}' query timed out")),
            Err(_) => return bad(format!("'{shown}' unexpected reply class/type (-1/-1)")),
        };
        let [record] = answer.records.as_slice() else {
            return bad(format!("multiple DNS replies for '{shown}'"));
        };
        (Some(answer.authentic), compare(record, private))
    }
}

/// Whether a record is a key, and that of `private`.
///
/// # Errors
///
/// Why it does not do.
pub fn compare(record: &[u8], private: Option<&PrivateKey>) -> Result<(), Bad> {
    let unavailable = |why: &str| Bad::Unavailable(why.to_owned());
    let public = Key::parse(record, None).map_err(|fault| match fault {
        Fault::KeyRevoked => unavailable("Revoked key"),
        Fault::KeySyntax => unavailable("key missing"),
        Fault::NotEmailKey => unavailable("key type mismatch"),
        Fault::KeyVersion => {
            let text = String::from_utf8_lossy(record);
            let version = text.split("v=").nth(1).and_then(|rest| rest.split(';').next());
            Bad::Unavailable(format!(
                "invalid key version '{}'",
                version.unwrap_or_default().trim()
            ))
        }
        fault => unavailable(fault.text()),
    })?;
    let Some(private) = private else { return Ok(()) };
    let fits = match &public.public {
        Public::Rsa(key) => private.rsa_public() == Some(key),
        Public::Ed25519(key) => private.ed25519_public() == Some(*key),
        Public::Unusable => return Err(unavailable("key missing")),
    };
    if fits { Ok(()) } else { Err(Bad::Mismatch) }
}

/// A key file; one that others may touch is told.
fn load(path: &str) -> Result<PrivateKey, String> {
    let facts = std::fs::metadata(path)
        .map_err(|_| format!("{path}: stat(): No such file or directory"))?;
    if !facts.is_file() {
        return Err(format!("{path}: stat(): not a regular file"));
    }
    if facts.permissions().mode() & 0o077 != 0 {
        eprintln!("{NAME}: {path}: WARNING: unsafe permissions");
    }
    let octets = Disk.read(Path::new(path)).map_err(|error| format!("{path}: open(): {error}"))?;
    PrivateKey::parse(&octets).map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = include_bytes!("../../../crypto/tests/data/rsa-2048.pem");
    const OTHER: &[u8] = include_bytes!("../../../crypto/tests/data/rsa-1024.pem");

    #[test]
    fn a_record_is_compared_with_the_key() {
        let key = PrivateKey::parse(KEY).unwrap();
        let other = PrivateKey::parse(OTHER).unwrap();
        let public = crypto::pem::encode(&key.rsa_public().unwrap().to_der());
        for (record, private, wrong) in [
            (format!("v=DKIM1; p={public}"), Some(&key), ""),
            (format!("v=DKIM1; p={public}"), None, ""),
            (format!("v=DKIM1; p={public}"), Some(&other), "keys do not match"),
            ("p=".to_owned(), Some(&key), "Revoked key"),
            ("p=***".to_owned(), Some(&key), "key missing"),
            (format!("v=DKIM2; p={public}"), Some(&key), "invalid key version 'DKIM2'"),
            (format!("s=other; p={public}"), Some(&key), "key type mismatch"),
        ] {
            let found = match compare(record.as_bytes(), private) {
                Ok(()) => String::new(),
                Err(Bad::Mismatch) => "keys do not match".to_owned(),
                Err(Bad::Unavailable(why)) => why,
            };
            assert_eq!(found, wrong, "{record}");
        }
        assert_eq!(run(&["-q".to_owned()]), CONFIG);
        assert!(load("/none").is_err() && load("/").is_err());
    }
}
