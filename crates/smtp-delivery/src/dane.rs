//! DANE for SMTP (RFC 7672): TLSA records of a host, and certificates that match them. A record counts only where the name
//! server says that it validated it.

use daemon::tls::client::{Shown, public_key};
use dns::{Resolver, Tlsa};

use crate::addresses::{Candidate, text};
use crate::policy::{Destination, Level, TlsSettings, name_matches};
use crate::settings::Route;

const TRUST_ANCHOR: u8 = 2;
const END_ENTITY: u8 = 3;
/// More records of one host are not looked at.
const MOST: usize = 50;

/// What decides whether DANE applies to a host.
pub struct Question<'a, R> {
    pub resolver: &'a R,
    pub settings: &'a TlsSettings,
    pub route: &'a Route,
    pub lmtp: bool,
    /// As it is written in tables.
    pub nexthop: &'a str,
    /// Its name alone.
    pub domain: &'a str,
    pub port: u16,
}

/// What TLSA records say.
enum Found {
    Usable { name: String, records: Vec<Tlsa> },
    Unusable,
    Nothing,
}

impl<R: Resolver> Question<'_, R> {
    /// The policy for one host at the level `dane` or `dane-only`; `notes` gets the lines that are to be logged.
    pub async fn policy(
        &self,
        asked: &Destination,
        host: &Candidate,
        notes: &mut Vec<String>,
    ) -> Destination {
        let only = asked.level == Level::DaneOnly;
        let level = asked.level.name();
        let misconfigured = match () {
            () if !self.route.dnssec => Some("dnssec lookups disabled"),
            () if !self.lmtp && self.route.ignore_mx_errors => Some("MX lookup errors ignored"),
            () => None,
        };
        if let Some(why) = misconfigured {
            let told = format!("{}: {level} configured with {why}", self.nexthop);
            if only {
                return Destination { problem: Some(told), ..refused("") };
            }
            notes.push(format!("warning: {told}"));
            return self.at(Level::May, asked);
        }
        let insecure_mx = host.mx_secure == Some(false);
        let least = self.settings.insecure_mx;
        if insecure_mx && (only || least <= Level::May) {
            return self.without(asked, Level::May, "non DNSSEC destination");
        }
        let found = match self.records(host).await {
            Ok(found) => found,
            Err(why) => {
                notes.push(format!("warning: DANE TLSA lookup problem: {why}"));
                return refused(&format!("TLSA lookup error for {}:{}", host.host, self.port));
            }
        };
        match found {
            Found::Nothing => self.without(asked, Level::May, "no TLSA records found"),
            Found::Unusable => self.without(asked, Level::Encrypt, "TLSA records unusable"),
            Found::Usable { .. } if insecure_mx && least == Level::Encrypt => {
                let why = "Verification not possible, MX RRset is insecure";
                self.without(asked, Level::Encrypt, why)
            }
            Found::Usable { name, records } => {
                let mut matches = vec![name.clone()];
                if host.mx_secure.is_some() {
                    matches.push(self.domain.to_owned());
                }
                Destination {
                    server_name: Some(name),
                    matches,
                    tlsa: records,
                    half: insecure_mx,
                    ..asked.clone()
                }
            }
        }
    }

    fn at(&self, level: Level, asked: &Destination) -> Destination {
        self.settings.at_level(asked, level, self.nexthop)
    }

    /// `dane` is content with less, `dane-only` is not.
    fn without(&self, asked: &Destination, level: Level, why: &str) -> Destination {
        if asked.level == Level::DaneOnly { refused(why) } else { self.at(level, asked) }
    }

    /// First under the last of the host's aliases, then under the name that the MX record has.
    async fn records(&self, host: &Candidate) -> Result<Found, String> {
        if !host.secure && !self.settings.force_tlsa {
            return Ok(Found::Nothing);
        }
        let alias = host.canonical.as_deref().filter(|name| *name != host.host && host.secure);
        for name in alias.into_iter().chain([host.host.as_str()]) {
            match self.of_name(name).await? {
                Found::Nothing => {}
                found => return Ok(found),
            }
        }
        Ok(Found::Nothing)
    }

    async fn of_name(&self, name: &str) -> Result<Found, String> {
        let asked = format!("_{}._tcp.{name}", self.port);
        let answer = match self.resolver.tlsa(&asked).await {
            Ok(answer) if answer.authentic => answer,
            Ok(_) => return Ok(Found::Nothing),
            Err(failure) if failure.is_absence() => return Ok(Found::Nothing),
            Err(failure) => return Err(text(&asked, "TLSA", &failure)),
        };
        let mut records = answer.records;
        records.truncate(MOST);
        records.retain(is_usable);
        // The strongest digest of a kind speaks for it (RFC 7671 section 9).
        let strongest = |one: &Tlsa| {
            let same = |other: &&Tlsa| (other.usage, other.selector) == (one.usage, one.selector);
            records.iter().filter(same).map(|other| other.matching).max()
        };
        let kept: Vec<Tlsa> = records
            .iter()
            .filter(|one| one.matching == 0 || strongest(one) == Some(one.matching))
            .cloned()
            .collect();
        Ok(match kept.is_empty() {
            true => Found::Unusable,
            false => Found::Usable { name: name.to_owned(), records: kept },
        })
    }
}

fn refused(why: &str) -> Destination {
    let refusal = Some(why.to_owned()).filter(|why| !why.is_empty());
    Destination { level: Level::Invalid, refusal, ..Destination::default() }
}

/// RFC 7672 section 3.1: authorities of the public are of no use here.
fn is_usable(tlsa: &Tlsa) -> bool {
    let length = tlsa.data.len();
    let whole = match tlsa.matching {
        0 => length > 0,
        1 => length == 32,
        2 => length == 64,
        _ => false,
    };
    matches!(tlsa.usage, TRUST_ANCHOR | END_ENTITY) && tlsa.selector <= 1 && whole
}

/// Whether what the server showed is what the record asks for. `names`: whose certificate it has to be under an anchor.
pub fn matches(tlsa: &Tlsa, shown: &Shown, names: &[String]) -> bool {
    let named =
        |wanted: &String| shown.names.iter().any(|known| name_matches(known, wanted, false, true));
    match tlsa.usage {
        END_ENTITY => is(tlsa, &shown.certificate, &shown.public_key),
        _ => names.iter().any(named) && is_anchored(tlsa, shown),
    }
}

/// Whether the record names an authority that stands behind the certificate, whoever it is for.
pub fn is_anchored(tlsa: &Tlsa, shown: &Shown) -> bool {
    let behind =
        |anchor: &[u8]| is(tlsa, anchor, &public_key(anchor)) && shown.is_issued_under(anchor);
    let unsent = tlsa.selector == 0 && tlsa.matching == 0;
    tlsa.usage == TRUST_ANCHOR
        && (shown.chain.iter().any(|anchor| behind(anchor))
            || unsent && shown.is_issued_under(&tlsa.data))
}

fn is(tlsa: &Tlsa, certificate: &[u8], public_key: &[u8]) -> bool {
    let selected = if tlsa.selector == 0 { certificate } else { public_key };
    match tlsa.matching {
        0 => selected == tlsa.data,
        1 => crypto::sha256(selected)[..] == tlsa.data[..],
        2 => crypto::sha512(selected)[..] == tlsa.data[..],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
        Tlsa { usage, selector, matching, data: data.to_vec() }
    }

    #[test]
    fn records_of_public_authorities_and_broken_ones_are_of_no_use() {
        for (usage, selector, matching, length, usable) in [
            (3, 1, 1, 32, true),
            (2, 0, 2, 64, true),
            (3, 0, 0, 500, true),
            (3, 0, 0, 0, false),
            (0, 0, 1, 32, false),
            (1, 1, 1, 32, false),
            (3, 2, 1, 32, false),
            (3, 1, 1, 31, false),
            (3, 1, 3, 64, false),
        ] {
            let tlsa = record(usage, selector, matching, &vec![7; length]);
            assert_eq!(is_usable(&tlsa), usable, "{tlsa:?}");
        }
    }

    #[test]
    fn the_server_s_own_certificate_matches_whatever_its_name() {
        let shown = Shown {
            certificate: b"certificate".to_vec(),
            public_key: b"key".to_vec(),
            ..Shown::default()
        };
        for (selector, matching, data, expected) in [
            (0, 0, b"certificate".to_vec(), true),
            (1, 0, b"key".to_vec(), true),
            (0, 1, crypto::sha256(b"certificate").to_vec(), true),
            (1, 2, crypto::sha512(b"key").to_vec(), true),
            (1, 1, crypto::sha256(b"certificate").to_vec(), false),
        ] {
            let tlsa = record(3, selector, matching, &data);
            assert_eq!(matches(&tlsa, &shown, &[]), expected, "{tlsa:?}");
            let anchor = record(2, selector, matching, &data);
            assert!(!matches(&anchor, &shown, &[]), "a host is no authority");
        }
    }
}
