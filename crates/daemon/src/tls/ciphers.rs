//! OpenSSL's cipher lists, mapped onto the suites that there are here.
//!
//! There are six TLS 1.2 suites (ECDHE with AES-GCM or ChaCha20) and three of TLS 1.3, which OpenSSL
//! configures apart and which stay on. A list can leave some of the six out or order them; it can
//! not bring back what is missing, and a list that leaves nothing is told to the operator.

use rustls::CipherSuite;

/// One TLS 1.2 suite and the words that select it.
struct Suite {
    id: CipherSuite,
    name: &'static str,
    bits: u16,
    words: &'static [&'static str],
}

macro_rules! suite {
    ($id:ident, $name:literal, $bits:literal, $($word:literal)*) => {
        Suite { id: CipherSuite::$id, name: $name, bits: $bits, words: &[$($word),*] }
    };
}

/// In OpenSSL's own order: by strength, ECDSA before RSA.
const TLS12: [Suite; 6] = [
    suite!(TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", 256, "aECDSA" "ECDSA" "AES256" "AESGCM" "AES" "SHA384"),
    suite!(TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", 256, "aRSA" "AES256" "AESGCM" "AES" "SHA384"),
    suite!(TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", 256, "aECDSA" "ECDSA" "CHACHA20"),
    suite!(TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", 256, "aRSA" "CHACHA20"),
    suite!(TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", 128, "aECDSA" "ECDSA" "AES128" "AESGCM" "AES" "SHA256"),
    suite!(TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", 128, "aRSA" "AES128" "AESGCM" "AES" "SHA256"),
];

/// Words that select all six.
const EVERY: [&str; 11] = [
    "ALL",
    "DEFAULT",
    "COMPLEMENTOFDEFAULT",
    "HIGH",
    "TLSv1.2",
    "ECDH",
    "ECDHE",
    "EECDH",
    "kECDHE",
    "kEECDH",
    "AEAD",
];

/// Words that OpenSSL knows and that select nothing here.
const NONE: [&str; 43] = [
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "NULL",
    "eNULL",
    "aNULL",
    "MD5",
    "SHA",
    "SHA1",
    "DES",
    "3DES",
    "RC2",
    "RC4",
    "SEED",
    "IDEA",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "AESCCM",
    "AESCCM8",
    "PSK",
    "kPSK",
    "aPSK",
    "SRP",
    "kSRP",
    "DSS",
    "aDSS",
    "aDH",
    "ADH",
    "AECDH",
    "DH",
    "EDH",
    "DHE",
    "kDHE",
    "kEDH",
    "kRSA",
    "SSLv3",
];

/// A cipher list of the configuration, as far as it can be honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherList {
    /// OpenSSL names of the TLS 1.2 suites it selects, in its order.
    pub suites: Vec<String>,
    /// Words that ask for something there is not here, or that nobody knows.
    pub missing: Vec<String>,
}

/// Reads an OpenSSL cipher list (`HIGH:!aNULL:!MD5`, `ECDHE+AESGCM`, names, `@STRENGTH`).
pub fn ciphers(list: &str) -> CipherList {
    let (mut selected, mut killed): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut missing = Vec::new();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        if word.starts_with('@') {
            if word == "@STRENGTH" {
                selected.sort_by_key(|&index| TLS12.get(index).map(|suite| 512 - suite.bits));
            }
            continue;
        }
        let (action, terms) = match word.split_at_checked(1) {
            Some((action @ ("!" | "-" | "+"), terms)) => (action, terms),
            _ => ("", word),
        };
        let (matching, known) = matching(terms);
        if !known || (action.is_empty() && matching.is_empty()) {
            missing.push(word.to_owned());
        }
        match action {
            "" => {
                let new = |index: &usize| !selected.contains(index) && !killed.contains(index);
                let new: Vec<usize> = matching.into_iter().filter(new).collect();
                selected.extend(new);
            }
            "+" => {
                let (moved, kept) =
                    selected.iter().partition::<Vec<usize>, _>(|index| matching.contains(index));
                selected = [kept, moved].concat();
            }
            _ => {
                selected.retain(|index| !matching.contains(index));
                if action == "!" {
                    killed.extend(matching);
                }
            }
        }
    }
    let name = |index: usize| TLS12.get(index).map(|suite| suite.name.to_owned());
    CipherList { suites: selected.into_iter().filter_map(name).collect(), missing }
}

/// Which suites `A+B` selects, and whether all its words are known.
fn matching(terms: &str) -> (Vec<usize>, bool) {
    let mut found: Vec<usize> = (0..TLS12.len()).collect();
    let mut known = true;
    for term in terms.split('+') {
        let is_suite = |suite: &Suite| suite.name == term || suite.words.contains(&term);
        if EVERY.contains(&term) {
            continue;
        }
        known &= NONE.contains(&term) || TLS12.iter().any(is_suite);
        found.retain(|&index| TLS12.get(index).is_some_and(is_suite));
    }
    (found, known)
}

pub(super) fn by_name(name: &str) -> Option<CipherSuite> {
    TLS12.iter().find(|suite| suite.name == name).map(|suite| suite.id)
}

/// OpenSSL's name and the bits of the key.
pub(super) fn openssl_name(id: CipherSuite) -> (String, u16) {
    if let Some(suite) = TLS12.iter().find(|suite| suite.id == id) {
        return (suite.name.to_owned(), suite.bits);
    }
    match id {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => ("TLS_AES_256_GCM_SHA384".to_owned(), 256),
        CipherSuite::TLS13_AES_128_GCM_SHA256 => ("TLS_AES_128_GCM_SHA256".to_owned(), 128),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => {
            ("TLS_CHACHA20_POLY1305_SHA256".to_owned(), 256)
        }
        other => (format!("{other:?}"), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_select_and_order_what_there_is() {
        for (list, selected, missing) in [
            ("HIGH:!aNULL:!MD5", 6, &[][..]),
            ("ALL:!LOW:!SSLv2:!EXP:!aNULL", 6, &["!SSLv2"]),
            ("EECDH+AESGCM:EDH+AESGCM", 4, &["EDH+AESGCM"]),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-SHA384",
                1,
                &["ECDHE-RSA-AES256-SHA384"],
            ),
            ("HIGH:!AES128", 4, &[]),
            ("RC4", 0, &["RC4"]),
        ] {
            let list_read = ciphers(list);
            assert_eq!(list_read.suites.len(), selected, "{list}");
            assert_eq!(list_read.missing, missing, "{list}");
        }
        let ordered = ciphers("AES128:CHACHA20:+AES128:!aECDSA");
        assert_eq!(ordered.suites, ["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"]);
    }
}
