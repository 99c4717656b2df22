//! Whether the register tells the truth: a setting said to be obeyed is read by some code and proved by some test.

use std::collections::BTreeSet;

use crate::register::{Fact, HARMLESS, Mark};
use crate::{dovecot, opendkim, postfix};

/// A register with the module that its constants are in.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub module: &'static str,
    /// The name in texts.
    pub name: &'static str,
    pub facts: &'static [Fact],
}

/// The three registers.
pub const PRODUCTS: [Product; 3] = [
    Product { module: "postfix", name: "Postfix", facts: postfix::FACTS },
    Product { module: "dovecot", name: "Dovecot", facts: dovecot::FACTS },
    Product { module: "opendkim", name: "OpenDKIM", facts: opendkim::names::FACTS },
];

/// The name of a setting's constant: `MYHOSTNAME`, `SERVICE_UNIX_LISTENER_MODE`, `N2BOUNCE_NOTICE_RECIPIENT`.
pub fn constant_name(setting: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let constant: String = setting.chars().map(word).collect();
    if constant.starts_with(|c: char| c.is_ascii_digit()) {
        format!("N{constant}")
    } else {
        constant
    }
}

/// The settings marked as obeyed that no source reads, as `postfix myhostname`.
///
/// `sources` are the texts of all Rust files. A file speaks of a product when it names its module (`postfix::`) or says
/// `Read: postfix` in its header. There a setting is read by its constant, or by its quoted name.
pub fn unread<'s>(sources: impl IntoIterator<Item = &'s str>) -> Vec<String> {
    let sources: Vec<&str> = sources.into_iter().collect();
    let mut unread = Vec::new();
    for product in PRODUCTS {
        let speaks = |source: &&&str| {
            source.contains(&format!("//! Read: {}", product.module))
                || source.contains(&format!("{}::", product.module))
        };
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for source in sources.iter().filter(speaks) {
            used.extend(
                source
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .filter(|word| is_constant(word)),
            );
            used.extend(source.split('"'));
        }
        let direct: Vec<&Fact> =
            obeyed(product.facts).filter(|fact| is_used(fact, &used)).collect();
        for fact in obeyed(product.facts) {
            if !direct.iter().any(|known| known.name == fact.name)
                && !direct.iter().any(|known| reaches(known, fact))
            {
                unread.push(format!("{} {}", product.module, fact.name));
            }
        }
    }
    unread
}

fn is_used(fact: &Fact, used: &BTreeSet<&str>) -> bool {
    let last = fact.name.rsplit('/').next().unwrap_or_default();
    let quoted = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let read = |name: &str| used.contains(constant_name(name).as_str());
    read(fact.name)
        || used.contains(quoted)
        || used.contains(last)
        || fact.since == "2.4" && before(fact.name).is_some_and(|old| read(&old))
}

/// Blocks of Dovecot 2.4 whose settings are read under the names that 2.3 has for them.
const TRANSLATED: [(&str, &str); 8] = [
    ("fifo_listener_", "service/fifo_listener/"),
    ("inet_listener_", "service/inet_listener/"),
    ("mailbox_", "namespace/mailbox/"),
    ("namespace_", "namespace/"),
    ("passdb_", "passdb/"),
    ("service_", "service/"),
    ("unix_listener_", "service/unix_listener/"),
    ("userdb_", "userdb/"),
];

fn before(name: &str) -> Option<String> {
    TRANSLATED.iter().find_map(|(new, old)| Some(format!("{old}{}", name.strip_prefix(new)?)))
}

/// Whether reading `known` reads `other` too: its default names it, or `other` is the setting of one transport.
fn reaches(known: &Fact, other: &Fact) -> bool {
    let of_all = known.name.strip_prefix("default_").unwrap_or(known.name);
    let of_transport = other
        .name
        .strip_suffix(of_all)
        .is_some_and(|transport| transport.len() > 1 && transport.ends_with('_'));
    let in_default = known.default.contains(&format!("${}", other.name))
        || known.default.contains(&format!("${{{}", other.name));
    of_transport && known.name.starts_with("default_") || in_default
}

/// The settings marked as obeyed that name no test, or one that is not among `tests`.
pub fn unproved(tests: &BTreeSet<String>) -> Vec<String> {
    let mut unproved = Vec::new();
    for product in PRODUCTS {
        for fact in obeyed(product.facts) {
            if fact.test.is_empty() {
                unproved.push(format!("{} {}: names no test", product.module, fact.name));
            } else if !tests.contains(fact.test) {
                unproved.push(format!(
                    "{} {}: there is no test {}",
                    product.module, fact.name, fact.test
                ));
            }
        }
    }
    unproved
}

/// Rows whose sentence is missing where one is needed, or not of the form that its mark asks for.
pub fn unexplained() -> Vec<String> {
    let mut rows = Vec::new();
    for product in PRODUCTS {
        for fact in product.facts {
            let fine = match fact.mark {
                Mark::Supported => true,
                Mark::Differs => !fact.sentence.is_empty(),
                // What the mark says already tells nobody what happens instead.
                Mark::Unsupported => {
                    !fact.sentence.is_empty() && !fact.sentence.starts_with("not obeyed")
                }
                Mark::Harmless => {
                    HARMLESS.iter().any(|reason| fact.sentence.starts_with(&format!("{reason}: ")))
                }
            };
            if !fine {
                rows.push(format!("{} {}", product.module, fact.name));
            }
        }
    }
    rows
}

fn obeyed(facts: &'static [Fact]) -> impl Iterator<Item = &'static Fact> {
    facts.iter().filter(|fact| matches!(fact.mark, Mark::Supported | Mark::Differs))
}

fn is_constant(word: &str) -> bool {
    word.len() > 2
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_that_nobody_reads_is_found() {
        let all = unread([]);
        assert!(
            all.contains(&"postfix myhostname".to_owned())
                && all.contains(&"dovecot ssl_cert".to_owned())
        );
        let rest = unread([
            "use config::postfix; fn f() { view.get(postfix::MYHOSTNAME, p) }",
            "const SSL_CERT: u8 = 1;",
        ]);
        assert!(!rest.contains(&"postfix myhostname".to_owned()));
        assert!(
            rest.contains(&"dovecot ssl_cert".to_owned()),
            "the second file does not name dovecot::"
        );
        assert_eq!(rest.len(), all.len() - 1);
    }

    #[test]
    fn every_row_is_explained() {
        assert_eq!(unexplained(), Vec::<String>::new());
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        let none = unproved(&BTreeSet::new());
        assert_eq!(
            none.len(),
            PRODUCTS.iter().map(|product| obeyed(product.facts).count()).sum::<usize>()
        );
    }
}
