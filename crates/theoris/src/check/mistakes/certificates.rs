//! Certificates: readable, with their key, for the host's name, and not near their end.

use std::path::PathBuf;

use config::dovecot::{self, Connection};
use config::postfix::{self, Host};
use config::{Files as _, Place, Problems, files::Disk};
use daemon::tls::{Examined, IdentityError, examine};
use serde::Serialize;

use super::super::files::Files;
use super::super::machine::Machine;
use super::super::report::Finding;
use crate::plank::Plank;

const DAY: i64 = 24 * 60 * 60;
/// Let's Encrypt's certificates are renewed 30 days before their end: with less than this, renewing has failed.
const SOON: i64 = 21 * DAY;
const VERY_SOON: i64 = 7 * DAY;

/// One certificate that a service shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub place: Option<Place>,
    pub planks: Vec<Plank>,
}

/// A certificate for `theoris status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub file: PathBuf,
    pub names: Vec<String>,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// Until then; negative when it has ended.
    pub days: i64,
}

pub fn find(files: &Files, machine: &Machine, found: &mut Vec<Finding>) {
    found.append(&mut shown(files, machine).1);
}

/// Every certificate that can be used, and what is wrong with them and the others.
pub fn shown(files: &Files, machine: &Machine) -> (Vec<Shown>, Vec<Finding>) {
    let names = host_names(files);
    let (mut shown, mut found) = (Vec::new(), Vec::new());
    for pair in pairs(files) {
        let mut findings = match examine(&pair.certificate, &pair.key) {
            Ok(examined) => {
                let findings = judge(&pair, &examined, machine.now, &names);
                let days = (examined.not_after - machine.now).div_euclid(DAY);
                let Examined { names, not_after, .. } = examined;
                shown.push(Shown { file: pair.certificate.clone(), names, not_after, days });
                findings
            }
            Err(error) => vec![unusable(&pair, &error, machine.root)],
        };
        findings.iter_mut().for_each(|finding| finding.planks.clone_from(&pair.planks));
        found.append(&mut findings);
    }
    (shown, found)
}

fn unusable(pair: &Pair, error: &IdentityError, root: bool) -> Finding {
    let denied = matches!(error, IdentityError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied);
    if denied && !root {
        return Finding::note(
            pair.place.clone(),
            format!("the certificate or its key was not looked at: {error}"),
        );
    }
    Finding::critical(pair.place.clone(), format!("no TLS with this certificate: {error}"))
        .mend("name the certificate chain and the key that belongs to it")
}

fn judge(pair: &Pair, examined: &Examined, now: i64, hosts: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    let (file, place) = (pair.certificate.display(), pair.place.clone());
    let left = examined.not_after - now;
    let days = left / DAY;
    let renew = "renew it (certbot renew), and see why its timer did not";
    if examined.not_before > now {
        found.push(Finding::critical(
            place.clone(),
            format!("the certificate {file} is not valid yet"),
        ));
    } else if left <= 0 {
        let text = format!("the certificate {file} ended {} days ago", -days);
        found.push(Finding::critical(place.clone(), text).mend(renew));
    } else if left < VERY_SOON {
        let text = format!("the certificate {file} ends in {days} days");
        found.push(Finding::critical(place.clone(), text).mend(renew));
    } else if left < SOON {
        let text = format!("the certificate {file} ends in {days} days");
        found.push(Finding::warning(place.clone(), text).mend(renew));
    }
    let missing: Vec<&String> =
        hosts.iter().filter(|host| !examined.names.iter().any(|name| is_for(name, host))).collect();
    if let Some(host) = missing.first()
        && missing.len() == hosts.len()
    {
        let text =
            format!("the certificate {file} is for {}, not for {host}", examined.names.join(", "));
        found.push(
            Finding::warning(place.clone(), text)
                .mend(format!("have {host} in it, or let clients use one of its names")),
        );
    }
    if examined.self_signed {
        let text = format!(
            "the certificate {file} is self-signed: every client asks its user whether to trust it"
        );
        found.push(
            Finding::note(place, text).mend("take one from an authority, such as Let's Encrypt"),
        );
    }
    found
}

/// `*` stands for one label.
fn is_for(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == host,
    }
}

/// The names under which clients may know the host: one of them is enough.
fn host_names(files: &Files) -> Vec<String> {
    let Some(host) = &files.postfix else { return Vec::new() };
    let name = super::text(host, "myhostname");
    let domain = super::text(host, "mydomain");
    vec![name, domain].into_iter().filter(|name| name.contains('.')).collect()
}

/// Every certificate that the files name, each once.
pub fn pairs(files: &Files) -> Vec<Pair> {
    let mut found: Vec<Pair> = Vec::new();
    let mut add = |pair: Pair| {
        let same =
            |known: &&mut Pair| (&known.certificate, &known.key) == (&pair.certificate, &pair.key);
        match found.iter_mut().find(same) {
            Some(known) => {
                known.planks.extend(&pair.planks);
                known.planks.sort_unstable();
                known.planks.dedup();
            }
            None => found.push(pair),
        }
    };
    if let Some(host) = &files.postfix {
        of_postfix(host).into_iter().for_each(&mut add);
    }
    if let Some(config) = &files.dovecot {
        of_dovecot(config).into_iter().for_each(&mut add);
    }
    found
}

fn of_postfix(host: &Host) -> Vec<Pair> {
    let mut quiet = Problems::default();
    let mut found = Vec::new();
    for service in super::smtp_servers(host) {
        let view = host.view(service);
        let level = view.get(postfix::SMTPD_TLS_SECURITY_LEVEL, &mut quiet);
        let offered = view.get(postfix::SMTPD_TLS_WRAPPERMODE, &mut quiet)
            || !matches!(level.as_str(), "" | "none")
            || view.text("smtpd_use_tls", &mut quiet).is_some_and(|text| text.as_str() == "yes");
        if !offered {
            continue;
        }
        let planks = vec![Plank::SmtpIn];
        let chains = view.get(postfix::SMTPD_TLS_CHAIN_FILES, &mut quiet);
        found.extend(of_chains(&chains));
        if !chains.is_empty() {
            continue;
        }
        for (certificate, key) in [
            (postfix::SMTPD_TLS_CERT_FILE, postfix::SMTPD_TLS_KEY_FILE),
            (postfix::SMTPD_TLS_ECCERT_FILE, postfix::SMTPD_TLS_ECKEY_FILE),
        ] {
            let (file, key) = (view.get(certificate, &mut quiet), view.get(key, &mut quiet));
            if !file.is_empty() && file != "none" {
                let key = if key.is_empty() { file.clone() } else { key };
                let place = view.place(certificate);
                found.push(Pair {
                    certificate: file.into(),
                    key: key.into(),
                    place,
                    planks: planks.clone(),
                });
            }
        }
    }
    found
}

/// Key, certificate and what follows it in one file, or the key in a file of its own before the others.
fn of_chains(files: &[config::text::Word]) -> Vec<Pair> {
    let mut found = Vec::new();
    let mut key = None;
    for word in files {
        let path = PathBuf::from(&word.text);
        let content = Disk.read(&path).unwrap_or_default();
        let has = |label: &str| content.windows(label.len()).any(|part| part == label.as_bytes());
        if has("PRIVATE KEY-----") && !has("BEGIN CERTIFICATE") {
            key = Some(path);
            continue;
        }
        let pair = Pair {
            key: key.take().unwrap_or_else(|| path.clone()),
            certificate: path,
            place: word.at.clone(),
            planks: vec![Plank::SmtpIn],
        };
        found.push(pair);
    }
    found
}

fn of_dovecot(config: &dovecot::Config) -> Vec<Pair> {
    let mut quiet = Problems::default();
    let global = config.global();
    if global.get(dovecot::SSL, &mut quiet) == "no" {
        return Vec::new();
    }
    let names = config.root().sections_of("local_name");
    let names: Vec<String> = names
        .filter_map(|block| block.name.as_ref())
        .flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let named = names
        .iter()
        .map(|name| config.filter(&Connection { local_name: Some(name), ..Connection::default() }));
    let mut found = Vec::new();
    for view in std::iter::once(global).chain(named) {
        let certificate = view.get(dovecot::SSL_CERT, &mut quiet);
        let key = view.get(dovecot::SSL_KEY, &mut quiet);
        if let (Some(certificate), Some(key)) = (certificate.path(), key.path()) {
            found.push(Pair {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                place: view.place(dovecot::SSL_CERT),
                planks: vec![Plank::Pop3, Plank::Imap],
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::{files, shown};
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    const MASTER: &str = "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n";
    const MAIN: &str = "myhostname = mail.example.com\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = @/cert.pem\nsmtpd_tls_key_file = @/key.pem\n";
    const DOVECOT: &str = "ssl_cert = <@/cert.pem\nssl_key = <@/key.pem\nlocal_name mail.example.org {\n  ssl_cert = <@/none.pem\n  ssl_key = <@/key.pem\n}\n";

    /// A certificate for `name`, valid from 2020 to the end of 2029.
    fn certificate(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// 2030-01-01
    const END: i64 = 1_893_456_000;

    fn say(now: i64, certificate: &str, key: &str, dovecot: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        let texts = [
            ("postfix/main.cf", MAIN),
            ("postfix/master.cf", MASTER),
            ("dovecot.conf", dovecot),
            ("cert.pem", certificate),
            ("key.pem", key),
        ];
        let read = files(root.path(), &texts);
        let machine = Machine { now, root: true, ..Machine::default() };
        let mut found = Vec::new();
        find(&read, &machine, &mut found);
        found.retain(|one| !one.text.contains("self-signed"));
        shown(root.path(), &found)
    }

    #[test]
    fn the_end_of_a_certificate_is_told_in_time() {
        let (pem, key) = certificate("mail.example.com");
        for (before, said) in [
            (30 * DAY, ""),
            (20 * DAY, "Warning /postfix/main.cf:3: the certificate /cert.pem ends in 20 days"),
            (3 * DAY, "Critical /postfix/main.cf:3: the certificate /cert.pem ends in 3 days"),
            (-2 * DAY, "Critical /postfix/main.cf:3: the certificate /cert.pem ended 2 days ago"),
            (
                3653 * DAY + 10 * 365 * DAY,
                "Critical /postfix/main.cf:3: the certificate /cert.pem is not valid yet",
            ),
        ] {
            let told = say(END - before, &pem, &key, "ssl = no\n");
            assert!(told.starts_with(said) && told.is_empty() == said.is_empty(), "{told}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_told() {
        let (pem, key) = certificate("mail.example.com");
        let (_, other) = certificate("mail.example.com");
        let told = say(END - 100 * DAY, &pem, &other, "ssl = no\n");
        assert!(told.contains("no TLS with this certificate: /key.pem: does not belong to the certificate /cert.pem"), "{told}");
        let told = say(END - 100 * DAY, "nonsense", &key, "ssl = no\n");
        assert!(told.contains("/cert.pem: no certificate in it"), "{told}");
        let told = say(END - 100 * DAY, &pem, &key, DOVECOT);
        assert_eq!(told.lines().count(), 1);
        assert!(
            told.starts_with("Critical /dovecot.conf:4: no TLS with this certificate: /none.pem: "),
            "{told}"
        );
    }

    #[test]
    fn a_key_may_stand_before_its_chain() {
        let (pem, key) = certificate("mail.example.com");
        for files in ["@/key.pem, @/cert.pem", "@/both.pem"] {
            let root = tempfile::tempdir().unwrap();
            let main = format!("smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {files}\n");
            let both = format!("{key}{pem}");
            let texts = [
                ("postfix/main.cf", main.as_str()),
                ("postfix/master.cf", MASTER),
                ("cert.pem", &pem),
                ("key.pem", &key),
                ("both.pem", &both),
            ];
            let pairs = pairs(&self::files(root.path(), &texts));
            assert_eq!(pairs.len(), 1);
            examine(&pairs[0].certificate, &pairs[0].key).unwrap();
        }
    }

    #[test]
    fn a_certificate_for_another_name_is_told() {
        let (pem, key) = certificate("www.example.net");
        let told = say(END - 100 * DAY, &pem, &key, "ssl = no\n");
        assert!(told.contains("is for www.example.net, not for mail.example.com"), "{told}");
        let (pem, key) = certificate("*.example.com");
        assert_eq!(say(END - 100 * DAY, &pem, &key, "ssl = no\n"), "");
    }
}
