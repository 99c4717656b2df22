//! A mailbox address and its parts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quoting::{quote_822, unquote_822};

/// A domain as it was written; two are equal when they differ in case alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Domain(String);

/// An address in internal form: `local@domain`, or `local` before qualification, never empty.
///
/// The local part is kept as it came (it belongs to its host alone, RFC 5321 section 2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    local: String,
    domain: Option<Domain>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address: {0:?}")]
pub struct BadAddress(pub String);

impl Domain {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For keys of tables.
    #[must_use]
    pub fn to_lowercase(&self) -> String {
        self.0.to_lowercase()
    }

    /// `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[') && self.0.ends_with(']')
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Domain {}

impl std::hash::Hash for Domain {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.bytes().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Address {
    /// From internal form: the last `@` divides.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is empty, has an empty part, or holds a NUL or a line break.
    pub fn internal(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.chars().take(200).collect());
        if text.is_empty() || text.contains(['\0', '\n', '\r']) {
            return Err(bad());
        }
        match text.rsplit_once('@') {
            Some((local, domain)) if local.is_empty() || domain.is_empty() => Err(bad()),
            Some((local, domain)) => {
                Ok(Self { local: local.to_owned(), domain: Some(Domain::new(domain)) })
            }
            None => Ok(Self { local: text.to_owned(), domain: None }),
        }
    }

    /// From the form in header fields and SMTP commands, where a local part may be quoted.
    ///
    /// # Errors
    ///
    /// As [`Address::internal`].
    pub fn external(text: &str) -> Result<Self, BadAddress> {
        Self::internal(&unquote_822(text))
    }

    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    #[must_use]
    pub const fn domain(&self) -> Option<&Domain> {
        self.domain.as_ref()
    }

    #[must_use]
    pub fn with_domain(self, domain: Domain) -> Self {
        Self { local: self.local, domain: Some(domain) }
    }

    /// Quoted where it must be.
    #[must_use]
    pub fn to_external(&self) -> String {
        quote_822(&self.to_string())
    }
}

/// The internal form.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "{}@{domain}", self.local),
            None => f.write_str(&self.local),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_two_forms() {
        let address = Address::external("\"a b\"@Example.COM").unwrap();
        assert_eq!(address.to_string(), "a b@Example.COM");
        assert_eq!(address.to_external(), "\"a b\"@Example.COM");
        assert_eq!(address.domain(), Some(&Domain::new("example.com")));
        for bad in ["", "@b", "a@", "a\nb@c", "a\0@c"] {
            assert!(Address::internal(bad).is_err(), "{bad:?}");
        }
    }
}
