//! Making a signature: which fields, which tags, in OpenDKIM's order and lines.

use crypto::{PrivateKey, SigningFailed};

use super::canonical::Canonicalization;
use super::{Algorithm, fold, select};
use crate::Field;

/// Fields that OpenDKIM signs when nothing else is said: those RFC 6376 section 5.4.1 names, but for the MIME fields.
pub const SIGNED: &[&str] = &[
    "from",
    "reply-to",
    "subject",
    "date",
    "to",
    "cc",
    "resent-date",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "in-reply-to",
    "references",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
];

/// Fields that change on the way and are never signed unless asked for.
pub const OMITTED: &[&str] = &["return-path", "received", "comments", "keywords"];

/// What one signature says, but for what the message gives.
#[derive(Clone, Debug)]
pub struct Request {
    pub domain: String,
    pub selector: String,
    pub algorithm: Algorithm,
    pub header: Canonicalization,
    pub body: Canonicalization,
    /// `t=`, in seconds since 1970.
    pub time: u64,
    /// `x=` this many seconds later.
    pub valid_for: Option<u64>,
    pub identity: Option<String>,
    /// `r=y`: reports are welcome (RFC 6651).
    pub reports: bool,
    /// `l=`: the octets of the canonical body that were hashed.
    pub length: Option<u64>,
    /// `z=` with the fields as they were.
    pub copies: bool,
    /// Names of the fields to sign, and those to name once more than they occur.
    pub choice: Choice,
}

/// Which fields are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Lower case.
    pub signed: Vec<String>,
    pub omitted: Vec<String>,
    /// As spelled in `h=`.
    pub oversigned: Vec<String>,
}

impl Default for Choice {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { signed: owned(SIGNED), omitted: owned(OMITTED), oversigned: Vec::new() }
    }
}

impl Choice {
    fn includes(&self, field: &Field) -> bool {
        let name = field.name().to_ascii_lowercase();
        let among = |list: &[String]| list.iter().any(|one| one.as_bytes() == name);
        among(&self.signed) && !among(&self.omitted)
    }

    /// `h=`: the chosen fields from top to bottom, as spelled, then the oversigned names.
    #[must_use]
    pub fn names(&self, fields: &[Field]) -> Vec<String> {
        let present = fields
            .iter()
            .filter(|field| self.includes(field))
            .map(|field| String::from_utf8_lossy(field.name()).into_owned());
        present.chain(self.oversigned.iter().cloned()).collect()
    }
}

/// Signs a header and the digest of the canonical body. The result is the value of a DKIM-Signature field, without white
/// space in front and folded with CRLF.
///
/// # Errors
///
/// [`SigningFailed`], which no message causes.
pub fn sign(
    request: &Request,
    fields: &[Field],
    body_hash: &[u8],
    key: &PrivateKey,
) -> Result<String, SigningFailed> {
    let names = request.choice.names(fields);
    let mut tags = request.tags(fields, &names, body_hash);
    let mut data = Vec::new();
    for field in select(&names, fields) {
        request.header.field(field, &mut data);
        data.extend_from_slice(b"\r\n");
    }
    let unsigned = format!(" {}", fold::fold(&tags));
    request.header.field(&Field::new(b"DKIM-Signature", unsigned.as_bytes()), &mut data);
    let octets = match request.algorithm {
        Algorithm::Ed25519Sha256 => key.sign(&crypto::sha256(&data))?,
        Algorithm::RsaSha1 | Algorithm::RsaSha256 => key.sign(&data)?,
    };
    if let Some((_, text)) = tags.last_mut() {
        *text = crypto::pem::encode(&octets);
    }
    Ok(fold::fold(&tags))
}

impl Request {
    fn tags(
        &self,
        fields: &[Field],
        names: &[String],
        body_hash: &[u8],
    ) -> Vec<(&'static str, String)> {
        let mut tags = vec![
            ("v", "1".to_owned()),
            ("a", self.algorithm.name().to_owned()),
            ("c", format!("{}/{}", self.header.name(), self.body.name())),
            ("d", self.domain.clone()),
            ("s", self.selector.clone()),
            ("t", self.time.to_string()),
        ];
        if let Some(seconds) = self.valid_for {
            tags.push(("x", self.time.saturating_add(seconds).to_string()));
        }
        tags.extend(self.identity.clone().map(|identity| ("i", identity)));
        if self.reports {
            tags.push(("r", "y".to_owned()));
        }
        tags.push(("bh", crypto::pem::encode(body_hash)));
        tags.extend(self.length.map(|length| ("l", length.to_string())));
        tags.push(("h", names.join(":")));
        if self.copies {
            let copies = fields.iter().filter(|field| self.choice.includes(field));
            tags.push(("z", copies.map(copy).collect::<Vec<_>>().join("|")));
        }
        tags.push(("b", String::new()));
        tags
    }
}

/// A field in DKIM's own quoted-printable, for `z=`.
fn copy(field: &Field) -> String {
    let mut text = String::new();
    for &octet in field.octets() {
        match octet {
            b'=' | b';' | b'|' => text.push_str(&format!("={octet:02X}")),
            octet if octet.is_ascii_graphic() => text.push(char::from(octet)),
            octet => text.push_str(&format!("={octet:02X}")),
        }
    }
    text
}
