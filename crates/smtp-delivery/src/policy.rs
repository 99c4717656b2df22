//! How TLS is to be with one destination: the level, from main.cf or `smtp_tls_policy_maps`, and what the certificate must
//! match.

use daemon::tls::client::{Authorities, Shown, Wish};
use daemon::tls::{Policy, Version, ciphers};
use dns::Tlsa;
use routing::{Key, LookupError, Maps, Tables};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// In the order of their strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// The policy is nonsense: no mail goes there.
    Invalid,
    #[default]
    None,
    May,
    Encrypt,
    Fingerprint,
    Dane,
    DaneOnly,
    Verify,
    Secure,
}

impl Level {
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "none" => Self::None,
            "may" => Self::May,
            "encrypt" => Self::Encrypt,
            "fingerprint" => Self::Fingerprint,
            "dane" => Self::Dane,
            "dane-only" => Self::DaneOnly,
            "verify" => Self::Verify,
            "secure" => Self::Secure,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::None => "none",
            Self::May => "may",
            Self::Encrypt => "encrypt",
            Self::Fingerprint => "fingerprint",
            Self::Dane => "dane",
            Self::DaneOnly => "dane-only",
            Self::Verify => "verify",
            Self::Secure => "secure",
        }
    }

    /// TLSA records decide, host by host.
    pub fn is_dane(self) -> bool {
        matches!(self, Self::Dane | Self::DaneOnly)
    }

    /// The server's certificate must be right.
    pub fn must_match(self) -> bool {
        self > Self::Encrypt
    }
}

/// What main.cf says about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSettings {
    pub level: Level,
    pub wrapped: bool,
    pub policy_maps: Maps,
    pub authorities: String,
    pub server_name: String,
    pub protocols: String,
    pub mandatory_protocols: String,
    pub exclude: String,
    pub mandatory_exclude: String,
    pub verify_match: Vec<String>,
    pub secure_match: Vec<String>,
    pub fingerprints: Vec<String>,
    pub digest: String,
    pub wildcard_many: bool,
    pub log: bool,
    pub reuse: bool,
    /// What a host named by an MX record that nobody validated may have at most: `may`, `encrypt`, `dane`.
    pub insecure_mx: Level,
    /// TLSA records are looked up for hosts whose addresses nobody validated, too.
    pub force_tlsa: bool,
    /// Certificates of ours, for servers that ask; the supervisor reads them and their keys.
    pub certificates: Vec<String>,
    /// How long a session may be resumed; nothing: none is.
    pub sessions: Option<Duration>,
}

/// The policy for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    pub level: Level,
    pub server_name: Option<String>,
    /// The negotiable part.
    pub versions: Policy,
    /// `nexthop`, `hostname`, `.example.org`, or fingerprints.
    pub matches: Vec<String>,
    pub reuse: bool,
    /// Usable TLSA records, at the level `dane`.
    pub tlsa: Vec<Tlsa>,
    /// The way to the host was not validated, so that a match proves less.
    pub half: bool,
    /// Why no mail goes there, in the words of the notice.
    pub refusal: Option<String>,
    /// Why it is invalid, for the log.
    pub problem: Option<String>,
    /// Why no handshake can come to anything, for the log.
    pub hopeless: Option<String>,
    /// Worth a warning, but no more.
    pub odd: Vec<String>,
    /// What its policy entry says, for another level.
    pub written: Attributes,
}

impl Destination {
    fn invalid(problem: String) -> Self {
        Self { level: Level::Invalid, problem: Some(problem), ..Self::default() }
    }

    /// A connection without TLS will do, whoever has opened it. Where no mail may go, none does.
    pub fn is_plain(&self) -> bool {
        self.level == Level::None
    }

    pub fn wish(&self, authorities: &Authorities) -> Wish {
        Wish {
            policy: self.versions.clone(),
            server_name: self.server_name.clone(),
            authorities: authorities.clone(),
            ..Wish::default()
        }
    }
}

/// The attributes of a policy entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    protocols: Option<String>,
    exclude: Option<String>,
    server_name: Option<String>,
    matches: Vec<String>,
    reuse: Option<bool>,
    ciphers: Option<String>,
    odd: Vec<String>,
}

impl TlsSettings {
    /// The policy for a next hop as it is written: `example.org`, `[mx.example.org]:587`.
    pub async fn destination(&self, tables: &impl Tables, nexthop: &str) -> Destination {
        match self.entry(tables, nexthop).await {
            Ok(None) => self.build(self.level, Attributes::default(), nexthop),
            Ok(Some(entry)) => match self.parse(&entry, nexthop) {
                Ok((level, attributes)) => self.build(level, attributes, nexthop),
                Err(problem) => Destination::invalid(problem),
            },
            Err(error) => Destination::invalid(format!("policy table lookup error: {error}")),
        }
    }

    /// The same destination at another level than its policy says, since DANE cannot be had there.
    pub fn at_level(&self, of: &Destination, level: Level, nexthop: &str) -> Destination {
        self.build(level, of.written.clone(), nexthop)
    }

    /// A bare domain is looked up with its parents, anything else only as it is.
    async fn entry(
        &self,
        tables: &impl Tables,
        nexthop: &str,
    ) -> Result<Option<String>, LookupError> {
        let mut key = nexthop;
        loop {
            if let Some(found) = self.policy_maps.find(tables, key, Key::Whole).await? {
                return Ok(Some(found));
            }
            let plain = nexthop
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_') || c >= 128);
            let dot = key.get(1..).and_then(|rest| rest.find('.'));
            match dot {
                Some(dot) if plain => key = key.get(dot + 1..).unwrap_or_default(),
                _ => return Ok(None),
            }
        }
    }

    fn parse(&self, entry: &str, nexthop: &str) -> Result<(Level, Attributes), String> {
        let mut words =
            entry.split(|c: char| c.is_ascii_whitespace() || c == ',').filter(|w| !w.is_empty());
        let at = |what: String| {
            format!("smtp_tls_policy_maps, next-hop destination \"{nexthop}\": {what}")
        };
        let word = words.next().ok_or_else(|| at("invalid empty policy".to_owned()))?;
        let level =
            Level::parse(word).ok_or_else(|| at(format!("invalid security level \"{word}\"")))?;
        let mut attributes = Attributes::default();
        if level <= Level::None {
            let ignored = |word| at(format!("ignoring attribute \"{word}\" with TLS disabled"));
            attributes.odd = words.map(ignored).collect();
            return Ok((level, attributes));
        }
        for word in words {
            attributes.read(word, level).map_err(at)?;
        }
        Ok((level, attributes))
    }

    fn build(&self, level: Level, attributes: Attributes, nexthop: &str) -> Destination {
        if level <= Level::None {
            return Destination { level, odd: attributes.odd, ..Destination::default() };
        }
        let mandatory = level > Level::May;
        let written = attributes.clone();
        let protocols = attributes.protocols.unwrap_or_else(|| {
            if mandatory { &self.mandatory_protocols } else { &self.protocols }.clone()
        });
        let grade = attributes.ciphers.as_deref().unwrap_or("medium").to_ascii_lowercase();
        let unknown = words(&protocols).any(|word| !is_version(word));
        let hopeless = match grade.as_str() {
            _ if unknown => {
                Some(format!("Invalid TLS protocol list \"{protocols}\": aborting TLS session"))
            }
            "export" | "low" | "medium" | "high" => None,
            grade => Some(format!("invalid cipher grade: \"{grade}\"")),
        };
        let left = versions(&protocols).or(unknown.then_some((Version::Tls12, None)));
        let Some((min, max)) = left else {
            return Destination::invalid(format!(
                "{nexthop}: the TLS protocols \"{protocols}\" leave neither TLSv1.2 nor TLSv1.3"
            ));
        };
        let exclude = attributes.exclude.unwrap_or_else(|| match mandatory {
            true => format!("{} {}", self.exclude, self.mandatory_exclude),
            false => self.exclude.clone(),
        });
        let mut list = "HIGH:MEDIUM".to_owned();
        for word in exclude.split([' ', ',', ':', '\t']).filter(|word| !word.is_empty()) {
            list.push_str(&format!(":!{word}"));
        }
        let matches = match level {
            _ if !attributes.matches.is_empty() => attributes.matches,
            Level::Fingerprint => self.fingerprints.clone(),
            Level::Verify => self.verify_match.clone(),
            Level::Secure => self.secure_match.clone(),
            _ => Vec::new(),
        };
        if level == Level::Fingerprint && matches.is_empty() {
            return Destination::invalid(format!(
                "nexthop domain {nexthop}: configured at fingerprint security level, but with no fingerprints to match."
            ));
        }
        let name = attributes.server_name.unwrap_or_else(|| self.server_name.clone());
        let suites = ciphers(&list).suites;
        Destination {
            level,
            server_name: Some(name).filter(|name| !name.is_empty()),
            versions: Policy { min, max, suites, prefer_server_order: false },
            matches,
            reuse: attributes.reuse.unwrap_or(self.reuse),
            hopeless,
            odd: attributes.odd,
            written,
            ..Destination::default()
        }
    }

    /// Whether what the server showed is what the policy asks for.
    pub fn is_matched(
        &self,
        destination: &Destination,
        shown: &Shown,
        nexthop: &str,
        host: &str,
    ) -> bool {
        match destination.level {
            Level::Fingerprint => {
                shown.proven && fingerprint_matches(&destination.matches, &self.digest, shown)
            }
            Level::Dane | Level::DaneOnly => {
                shown.proven
                    && destination
                        .tlsa
                        .iter()
                        .any(|tlsa| crate::dane::matches(tlsa, shown, &destination.matches))
            }
            Level::Verify | Level::Secure => {
                shown.trusted
                    && destination.matches.iter().any(|pattern| {
                        let (name, below) = expanded(pattern, nexthop, host);
                        shown
                            .names
                            .iter()
                            .any(|known| name_matches(known, name, below, self.wildcard_many))
                    })
            }
            _ => false,
        }
    }
}

impl Attributes {
    fn read(&mut self, word: &str, level: Level) -> Result<(), String> {
        let Some((name, value)) = word.split_once('=') else {
            return Err(format!(
                "malformed attribute/value pair \"{word}\": missing '=' after attribute name"
            ));
        };
        let once = |slot: &mut Option<String>| match slot.replace(value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(format!("attribute \"{name}\" is specified multiple times")),
        };
        match name.to_ascii_lowercase().as_str() {
            "match" | "ciphers" if value.is_empty() => {
                Err(format!("attribute \"{name}\" has empty value"))
            }
            "ciphers" if value.eq_ignore_ascii_case("null") => {
                Err("\"null\" ciphers are TLS without encryption".to_owned())
            }
            "ciphers" => once(&mut self.ciphers),
            "protocols" => once(&mut self.protocols),
            "exclude" => once(&mut self.exclude),
            "servername" => once(&mut self.server_name),
            "match" if level == Level::Fingerprint => {
                self.matches.extend(value.split('|').map(str::to_owned));
                Ok(())
            }
            "match" if level > Level::DaneOnly => {
                self.matches.extend(value.split(':').map(str::to_owned));
                Ok(())
            }
            "match" => {
                let level = level.name();
                Err(format!("attribute \"{name}\" invalid at security level \"{level}\""))
            }
            "connection_reuse" => {
                self.reuse = Some(match value.to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(format!("attribute \"{name}\" has bad value: \"{value}\"")),
                });
                Ok(())
            }
            "tafile" => Err("attribute \"tafile\" is not supported".to_owned()),
            _ => Err(format!("invalid attribute name: \"{name}\"")),
        }
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', ',', ':', '\t', '\n']).filter(|word| !word.is_empty())
}

/// A word that such a list may hold.
fn is_version(word: &str) -> bool {
    let name = word.trim_start_matches(['!', '>', '<', '=']);
    ["sslv2", "sslv3", "tlsv1", "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// The versions left by `!SSLv2, !TLSv1`, `TLSv1.2`, `>=TLSv1.2`; nothing if none is that there is here.
fn versions(list: &str) -> Option<(Version, Option<Version>)> {
    let number = |name: &str| match name.to_ascii_lowercase().as_str() {
        "tlsv1.3" => 13,
        "tlsv1.2" => 12,
        _ => 10,
    };
    let (mut tls12, mut tls13) = (true, true);
    let (mut listed, mut named) = ((false, false), false);
    for word in words(list) {
        if let Some(name) = word.strip_prefix(">=") {
            tls12 &= number(name) <= 12;
        } else if let Some(name) = word.strip_prefix("<=") {
            tls12 &= number(name) >= 12;
            tls13 &= number(name) >= 13;
        } else if let Some(name) = word.strip_prefix('!') {
            tls12 &= number(name) != 12;
            tls13 &= number(name) != 13;
        } else {
            named = true;
            listed.0 |= number(word) == 12;
            listed.1 |= number(word) == 13;
        }
    }
    if named {
        (tls12, tls13) = (tls12 && listed.0, tls13 && listed.1);
    }
    match (tls12, tls13) {
        (true, true) => Some((Version::Tls12, None)),
        (true, false) => Some((Version::Tls12, Some(Version::Tls12))),
        (false, true) => Some((Version::Tls13, None)),
        (false, false) => None,
    }
}

/// A pattern's name, and whether its subdomains are meant instead of itself.
fn expanded<'a>(pattern: &'a str, nexthop: &'a str, host: &'a str) -> (&'a str, bool) {
    match pattern.to_ascii_lowercase().as_str() {
        "nexthop" => (nexthop, false),
        "dot-nexthop" => (nexthop, true),
        "hostname" => (host, false),
        _ => match pattern.strip_prefix('.') {
            Some(name) => (name, true),
            None => (pattern, false),
        },
    }
}

/// A certificate's name against a wanted one. A lone `*` at its left stands for one label, or for several where
/// `tls_wildcard_matches_multiple_labels` says so.
pub fn name_matches(known: &str, wanted: &str, below: bool, wildcard_many: bool) -> bool {
    let (known, wanted) = (known.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    let wanted = wanted.trim_end_matches('.');
    if wanted.is_empty() {
        return false;
    }
    if below {
        let known = known.strip_prefix("*.").map_or(known.as_str(), |parent| parent);
        let inside = known.strip_suffix(wanted).and_then(|head| head.strip_suffix('.'));
        return inside.is_some_and(|head| !head.is_empty() && !head.contains('*'));
    }
    match known.strip_prefix("*.") {
        None => known == wanted,
        Some(parent) => {
            let head = wanted.strip_suffix(parent).and_then(|head| head.strip_suffix('.'));
            head.is_some_and(|head| {
                !head.is_empty() && parent.contains('.') && (wildcard_many || !head.contains('.'))
            })
        }
    }
}

/// Fingerprints that cannot be one by this digest; the last comes first, as Postfix tells them.
pub fn unusable(wanted: &[String], digest: &str) -> Vec<String> {
    let digits = match digest.to_ascii_lowercase().as_str() {
        "md5" => 32,
        "sha1" => 40,
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Vec::new(),
    };
    let bare = wanted.iter().rev().map(|print| print.replace(':', "").to_ascii_uppercase());
    bare.filter(|print| print.len() != digits).collect()
}

/// Digests of the certificate or of its public key, in hexadecimal with colons.
fn fingerprint_matches(wanted: &[String], digest: &str, shown: &Shown) -> bool {
    let of = |data: &[u8]| -> Option<Vec<u8>> {
        Some(match digest.to_ascii_lowercase().as_str() {
            "md5" => crypto::md5(data).to_vec(),
            "sha1" => crypto::sha1(data).to_vec(),
            "sha256" => crypto::sha256(data).to_vec(),
            "sha512" => crypto::sha512(data).to_vec(),
            _ => return None,
        })
    };
    let found: Vec<String> = [&shown.certificate, &shown.public_key]
        .into_iter()
        .filter(|data| !data.is_empty())
        .filter_map(|data| of(data))
        .map(|octets| octets.iter().map(|octet| format!("{octet:02X}")).collect())
        .collect();
    wanted.iter().any(|wanted| {
        let wanted = wanted.replace(':', "").to_ascii_uppercase();
        found.contains(&wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use routing::TableName;

    struct Table(Vec<(&'static str, &'static str)>);

    impl Tables for Table {
        async fn lookup(
            &self,
            _: &TableName,
            key: &str,
            _: Key,
        ) -> Result<Option<String>, LookupError> {
            Ok(self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned()))
        }
    }

    fn settings() -> TlsSettings {
        TlsSettings {
            level: Level::May,
            policy_maps: Maps::parse("hash:/policy"),
            protocols: ">=TLSv1".into(),
            mandatory_protocols: "!SSLv2, !TLSv1.2".into(),
            verify_match: vec!["hostname".into()],
            secure_match: vec!["nexthop".into(), "dot-nexthop".into()],
            digest: "sha256".into(),
            wildcard_many: true,
            ..TlsSettings::default()
        }
    }

    #[tokio::test]
    async fn the_policy_table_decides_by_next_hop_and_parents() {
        let table = Table(vec![
            ("example.org", "none"),
            (".example.org", "encrypt"),
            (
                "[mx.example.net]:587",
                "secure match=mx.example.net:.other.example protocols=TLSv1.2",
            ),
            ("bad.example", "sometimes"),
            ("dane.example", "dane protocols=TLSv1.2 servername=x.example"),
            ("print.example", "fingerprint match=AA:BB|cc:dd"),
            ("empty.example", "fingerprint"),
            ("wrong.example", "may match=x"),
        ]);
        let settings = settings();
        for (nexthop, level) in [
            ("other.example", Level::May),
            ("example.org", Level::None),
            ("a.b.example.org", Level::Encrypt),
            ("[a.example.org]", Level::May),
            ("[mx.example.net]:587", Level::Secure),
            ("bad.example", Level::Invalid),
            ("dane.example", Level::Dane),
            ("print.example", Level::Fingerprint),
            ("empty.example", Level::Invalid),
            ("wrong.example", Level::Invalid),
        ] {
            assert_eq!(settings.destination(&table, nexthop).await.level, level, "{nexthop}");
        }
        for (nexthop, plain) in [("example.org", true), ("bad.example", false), ("x", false)] {
            assert_eq!(settings.destination(&table, nexthop).await.is_plain(), plain, "{nexthop}");
        }
        let secure = settings.destination(&table, "[mx.example.net]:587").await;
        assert_eq!(secure.matches, ["mx.example.net", ".other.example"]);
        assert_eq!(secure.versions.max, Some(Version::Tls12));
        let encrypt = settings.destination(&table, "a.example.org").await;
        assert_eq!(encrypt.versions.min, Version::Tls13);
        let print = settings.destination(&table, "print.example").await;
        assert_eq!(print.matches, ["AA:BB", "cc:dd"]);
        let dane = settings.destination(&table, "dane.example").await;
        for level in [Level::May, Level::Encrypt] {
            let less = settings.at_level(&dane, level, "dane.example");
            assert_eq!((less.level, less.versions.max), (level, Some(Version::Tls12)));
            assert_eq!(less.server_name.as_deref(), Some("x.example"));
        }
    }

    #[test]
    fn names_match_by_postfix_s_rules() {
        for (known, wanted, below, many, expected) in [
            ("mx.example.org", "MX.example.org", false, true, true),
            ("mx.example.org", "example.org", false, true, false),
            ("mx.example.org", "example.org", true, true, true),
            ("example.org", "example.org", true, true, false),
            ("badexample.org", "example.org", true, true, false),
            ("*.example.org", "mx.example.org", false, false, true),
            ("*.example.org", "a.b.example.org", false, false, false),
            ("*.example.org", "a.b.example.org", false, true, true),
            ("*.example.org", "example.org", false, true, false),
            ("m*.example.org", "mx.example.org", false, true, false),
            ("*.org", "example.org", false, true, false),
            ("", "", false, true, false),
        ] {
            assert_eq!(name_matches(known, wanted, below, many), expected, "{known} {wanted}");
        }
        let settings = settings();
        let shown = |names: &[&str], trusted| Shown {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            trusted,
            proven: true,
            certificate: b"certificate".to_vec(),
            ..Shown::default()
        };
        let at = |level, matches: &[&str]| Destination {
            level,
            matches: matches.iter().map(|name| (*name).to_owned()).collect(),
            ..Destination::default()
        };
        let matched = |destination: &Destination, shown: &Shown| {
            settings.is_matched(destination, shown, "example.org", "mx.example.org")
        };
        let secure = at(Level::Secure, &["nexthop", "dot-nexthop"]);
        assert!(matched(&secure, &shown(&["mx.example.org"], true)));
        assert!(!matched(&secure, &shown(&["mx.example.org"], false)));
        assert!(!matched(&secure, &shown(&["mx.example.net"], true)));
        assert!(matched(&at(Level::Verify, &["hostname"]), &shown(&["mx.example.org"], true)));
        let print: Vec<String> =
            crypto::sha256(b"certificate").iter().map(|octet| format!("{octet:02x}")).collect();
        let print = at(Level::Fingerprint, &[&print.join(":")]);
        assert!(matched(&print, &shown(&[], false)));
        assert!(!matched(&print, &Shown { proven: false, ..shown(&[], true) }));
    }

    #[test]
    fn old_versions_cannot_be_had() {
        assert_eq!(versions("TLSv1, TLSv1.1"), None);
        assert_eq!(versions("<=TLSv1.2 !SSLv3"), Some((Version::Tls12, Some(Version::Tls12))));
        assert_eq!(versions(""), Some((Version::Tls12, None)));
        assert_eq!(versions(">=TLSv1.3"), Some((Version::Tls13, None)));
    }
}
