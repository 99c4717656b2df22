//! The TLS settings of a service: identities, versions and ciphers as far as they can be had.

use std::path::PathBuf;

use config::Problems;
use config::postfix::{self, Service, View};
use daemon::tls::{IdentityFiles, Plan, Policy, Version, ciphers};

/// Identities and policy of a service, if it has a certificate.
pub(super) fn plan(view: &View<'_>, service: &Service, problems: &mut Problems) -> Option<Plan> {
    let identities = identities(view, problems);
    if identities.is_empty() {
        return None;
    }
    Some(Plan { name: service.name.clone(), policy: policy(view, problems), identities })
}

fn identities(view: &View<'_>, problems: &mut Problems) -> Vec<IdentityFiles> {
    let place = view.place(postfix::SMTPD_TLS_CHAIN_FILES);
    let chains = view.get(postfix::SMTPD_TLS_CHAIN_FILES, problems);
    if !chains.is_empty() {
        let file = |word: config::text::Word| {
            let path = PathBuf::from(word.text);
            let place = word.at.or_else(|| place.clone());
            IdentityFiles { names: Vec::new(), certificate: path.clone(), key: path, place }
        };
        return chains.into_iter().map(file).collect();
    }
    let mut found = Vec::new();
    let pairs = [
        (postfix::SMTPD_TLS_ECCERT_FILE, postfix::SMTPD_TLS_ECKEY_FILE),
        (postfix::SMTPD_TLS_CERT_FILE, postfix::SMTPD_TLS_KEY_FILE),
    ];
    for (certificate, key) in pairs {
        let (file, key_file) = (view.get(certificate, problems), view.get(key, problems));
        if file.is_empty() || file == "none" {
            continue;
        }
        let key_file = if key_file.is_empty() { file.clone() } else { key_file };
        let place = view.place(certificate);
        found.push(IdentityFiles {
            names: Vec::new(),
            certificate: file.into(),
            key: key_file.into(),
            place,
        });
    }
    found
}

fn policy(view: &View<'_>, problems: &mut Problems) -> Policy {
    let mandatory = super::service::level(view, problems) == crate::settings::TlsLevel::Encrypt;
    let protocols = if mandatory {
        view.get(postfix::SMTPD_TLS_MANDATORY_PROTOCOLS, problems)
    } else {
        view.get(postfix::SMTPD_TLS_PROTOCOLS, problems)
    };
    let (min, max) = versions(protocols.iter().map(config::text::Word::as_str));
    let (min, max) = match (min, max) {
        (Some(min), max) => (min, max),
        (None, _) => {
            let place = view.place(postfix::SMTPD_TLS_PROTOCOLS);
            problems
                .error(place, "the TLS versions leave neither TLSv1.2 nor TLSv1.3")
                .instead("write >=TLSv1.2");
            (Version::Tls12, None)
        }
    };
    // Every suite there is here is of the highest grade, so only the grade without encryption is wrong.
    let grade = if mandatory {
        view.get(postfix::SMTPD_TLS_MANDATORY_CIPHERS, problems)
    } else {
        view.get(postfix::SMTPD_TLS_CIPHERS, problems)
    };
    if grade == "null" {
        let place = view.place(postfix::SMTPD_TLS_CIPHERS);
        problems
            .error(place, "smtpd_tls_ciphers: null asks for TLS without encryption")
            .instead("write medium or high");
    }
    let mut exclude = view.get(postfix::SMTPD_TLS_EXCLUDE_CIPHERS, problems);
    if mandatory {
        exclude.extend(view.get(postfix::SMTPD_TLS_MANDATORY_EXCLUDE_CIPHERS, problems));
    }
    let mut list = "HIGH:MEDIUM".to_owned();
    for word in &exclude {
        list.push_str(":!");
        list.push_str(word.as_str());
    }
    let suites = ciphers(&list).suites;
    if suites.is_empty() && max == Some(Version::Tls12) {
        let place = view.place(postfix::SMTPD_TLS_EXCLUDE_CIPHERS);
        problems
            .error(place, "smtpd_tls_exclude_ciphers leaves no cipher")
            .instead("exclude fewer ciphers");
    }
    let prefer = view.get(postfix::TLS_PREEMPT_CIPHERLIST, problems);
    Policy { min, max, suites, prefer_server_order: prefer }
}

/// `!SSLv2, !TLSv1`, `TLSv1.2 TLSv1.3`, `>=TLSv1.2 <=TLSv1.2`: the lowest and highest version that is left.
fn versions<'a>(words: impl Iterator<Item = &'a str>) -> (Option<Version>, Option<Version>) {
    let (mut tls12, mut tls13) = (true, true);
    let mut named = false;
    let (mut lists12, mut lists13) = (false, false);
    for word in words {
        let (operator, name) = if let Some(name) = word.strip_prefix(">=") {
            (">=", name)
        } else if let Some(name) = word.strip_prefix("<=") {
            ("<=", name)
        } else if let Some(name) = word.strip_prefix('!') {
            ("!", name)
        } else {
            ("", word)
        };
        let number = match name.to_ascii_lowercase().as_str() {
            "tlsv1.3" => 13,
            "tlsv1.2" => 12,
            _ => 10, // older than all there is
        };
        match operator {
            ">=" => tls12 &= number <= 12,
            "<=" => {
                tls12 &= number >= 12;
                tls13 &= number >= 13;
            }
            "!" => {
                tls12 &= number != 12;
                tls13 &= number != 13;
            }
            _ => {
                named = true;
                lists12 |= number == 12;
                lists13 |= number == 13;
            }
        }
    }
    if named {
        tls12 &= lists12;
        tls13 &= lists13;
    }
    match (tls12, tls13) {
        (true, true) => (Some(Version::Tls12), None),
        (true, false) => (Some(Version::Tls12), Some(Version::Tls12)),
        (false, true) => (Some(Version::Tls13), None),
        (false, false) => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_lists_are_read() {
        for (list, range) in [
            ("!SSLv2, !SSLv3", (Some(Version::Tls12), None)),
            (">=TLSv1", (Some(Version::Tls12), None)),
            (">=TLSv1.3", (Some(Version::Tls13), None)),
            ("!TLSv1.3 !SSLv3", (Some(Version::Tls12), Some(Version::Tls12))),
            ("TLSv1.2", (Some(Version::Tls12), Some(Version::Tls12))),
            ("TLSv1.2, TLSv1.3", (Some(Version::Tls12), None)),
            ("<=TLSv1.1", (None, None)),
        ] {
            assert_eq!(versions(list.split([' ', ',']).filter(|w| !w.is_empty())), range, "{list}");
        }
    }
}
