//! The DKIM-Signature field (RFC 6376 section 3.5).

use super::canonical::Canonicalization;
use super::fault::Fault;
use super::tags::{BadTags, Tags};
use super::{Algorithm, MAX_NAMES};

/// A signature that can be computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub algorithm: Algorithm,
    pub header: Canonicalization,
    pub body: Canonicalization,
    pub names: Vec<String>,
    pub length: Option<u64>,
    pub body_hash: Vec<u8>,
    pub octets: Vec<u8>,
}

/// One DKIM-Signature field as received, good or bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which field of the header it is.
    pub field: usize,
    pub domain: Option<String>,
    pub selector: Option<String>,
    /// Whom `i=` names.
    pub identity: String,
    /// `None` as long as `a=` was not reached.
    pub algorithm: Option<Algorithm>,
    /// `b=` without its white space.
    pub text: String,
    /// For the log, when the field cannot be read at all.
    pub syntax: Option<String>,
    pub signature: Result<Signature, Fault>,
}

/// When "now" is, and what clocks may differ.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Seconds since 1970.
    pub now: u64,
    pub drift: u64,
}

impl Received {
    /// Reads the value of the field at index `field`.
    #[must_use]
    pub fn read(field: usize, value: &[u8], times: Times) -> Self {
        let mut received = Self {
            field,
            domain: None,
            selector: None,
            identity: String::new(),
            algorithm: None,
            text: String::new(),
            syntax: None,
            signature: Err(Fault::Syntax),
        };
        match Tags::parse(value).map_err(|bad: BadTags| bad.text("signature")).and_then(complete) {
            Ok(tags) => {
                received.text = tags.get("b").unwrap_or_default();
                received.signature = received.check(&tags, times);
            }
            Err(why) => received.syntax = Some(why),
        }
        received
    }

    /// The checks that need neither key nor message, in OpenDKIM's order.
    fn check(&mut self, tags: &Tags, times: Times) -> Result<Signature, Fault> {
        let domain = present(tags, "d", Fault::MissingDomain, Fault::EmptyDomain)?;
        self.identity =
            tags.get("i").map_or_else(|| format!("@{domain}"), |identity| unquoted(&identity));
        self.domain = Some(domain.clone());
        self.selector = Some(present(tags, "s", Fault::MissingSelector, Fault::EmptySelector)?);
        if tags.get("v").as_deref() != Some("1") {
            return Err(Fault::Version);
        }
        if !covers(&domain, &self.identity) {
            return Err(Fault::DomainCoverage);
        }
        check_times(tags, times)?;
        let (header, body) = canonicalizations(tags)?;
        let algorithm = tags.get("a").ok_or(Fault::MissingAlgorithm)?;
        let algorithm = Algorithm::named(&algorithm).ok_or(Fault::Algorithm)?;
        self.algorithm = Some(algorithm);
        let names = present(tags, "h", Fault::MissingHeaderList, Fault::EmptyHeaderList)?;
        let names: Vec<String> = names.split(':').map(str::to_owned).collect();
        if names.len() > MAX_NAMES || !names.iter().any(|name| name.eq_ignore_ascii_case("from")) {
            return Err(Fault::HeaderList);
        }
        let length = match tags.get("l") {
            Some(text) => Some(number(&text).ok_or(Fault::Length)?),
            None => None,
        };
        query_method(tags)?;
        let body_hash = present(tags, "bh", Fault::MissingBodyHash, Fault::EmptyBodyHash)?;
        let octets = present(tags, "b", Fault::MissingSignature, Fault::EmptySignature)?;
        Ok(Signature {
            algorithm,
            header,
            body,
            names,
            length,
            body_hash: decode(&body_hash).ok_or(Fault::CorruptBodyHash)?,
            octets: decode(&octets).ok_or(Fault::CorruptSignature)?,
        })
    }
}

fn complete(tags: Tags) -> Result<Tags, String> {
    if ["s", "h", "d", "b", "v", "a"].iter().any(|name| tags.get(name).is_none()) {
        return Err("missing parameter(s) in signature data".to_owned());
    }
    for name in ["t", "x"] {
        if tags.get(name).is_some_and(|text| number(&text).is_none()) {
            return Err(format!("invalid \"{name}\" value in signature data"));
        }
    }
    Ok(tags)
}

fn present(tags: &Tags, name: &str, missing: Fault, empty: Fault) -> Result<String, Fault> {
    let value = tags.get(name).ok_or(missing)?;
    if value.is_empty() { Err(empty) } else { Ok(value) }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whether `identity` belongs to `domain` or to a name below it, at the border of a label.
fn covers(domain: &str, identity: &str) -> bool {
    let Some((_, host)) = identity.rsplit_once('@') else { return false };
    let host = host.to_ascii_lowercase();
    host.strip_suffix(&domain.to_ascii_lowercase())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn check_times(tags: &Tags, times: Times) -> Result<(), Fault> {
    let time = |name| tags.get(name).and_then(|text| number(&text));
    let (signed, expires) = (time("t"), time("x"));
    if expires.is_some_and(|expires| times.now >= expires.saturating_add(times.drift)) {
        return Err(Fault::Expired);
    }
    if signed.is_some_and(|signed| signed > times.now.saturating_add(times.drift)) {
        return Err(Fault::Future);
    }
    match (signed, expires) {
        (Some(signed), Some(expires)) if signed >= expires => Err(Fault::TimestampOrder),
        _ => Ok(()),
    }
}

fn canonicalizations(tags: &Tags) -> Result<(Canonicalization, Canonicalization), Fault> {
    let Some(text) = tags.get("c") else { return Ok(Default::default()) };
    let (header, body) = text.split_once('/').unwrap_or((&text, "simple"));
    Ok((
        Canonicalization::named(header).ok_or(Fault::HeaderCanonicalization)?,
        Canonicalization::named(body).ok_or(Fault::BodyCanonicalization)?,
    ))
}

fn query_method(tags: &Tags) -> Result<(), Fault> {
    let Some(text) = tags.get("q") else { return Ok(()) };
    if text.split(':').any(|method| method == "dns/txt") {
        Ok(())
    } else if text.split(':').any(|method| method.split('/').next() == Some("dns")) {
        Err(Fault::QueryOption)
    } else {
        Err(Fault::QueryMethod)
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    crypto::pem::decode(text.as_bytes())
}

/// DKIM's own quoted-printable (RFC 6376 section 2.11): `=XX`, anything else as it is.
fn unquoted(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        let coded = (octet == b'=')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match coded {
            Some(decoded) => {
                octets.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                octets.push(octet);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// The value of a DKIM-Signature field with nothing behind `b=`, up to the next `;` (RFC 6376 section 3.7).
#[must_use]
pub fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (index, item) in value.split(|&octet| octet == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        match item.iter().position(|&octet| octet == b'=') {
            Some(equals) if item.get(..equals).unwrap_or_default().trim_ascii() == b"b" => {
                out.extend_from_slice(item.get(..=equals).unwrap_or_default());
            }
            _ => out.extend_from_slice(item),
        }
    }
    out
}
