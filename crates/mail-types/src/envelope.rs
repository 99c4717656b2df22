//! The envelope of a message: who sends it, to whom, and what they want to hear of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Address, Notify, Ret};

/// The argument of MAIL FROM: an address, or nothing for notices that must not be answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReversePath {
    Null,
    Address(Address),
}

/// The argument of RCPT TO; `<Postmaster>` needs no domain (RFC 5321 section 4.5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForwardPath(pub Address);

/// The encoding that the client announced with `BODY=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    SevenBit,
    EightBitMime,
}

/// One recipient with its delivery status options (RFC 3461).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub path: ForwardPath,
    pub notify: Notify,
    /// `ORCPT=`, decoded: `rfc822;user@example.com`.
    pub original: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub reverse_path: ReversePath,
    pub recipients: Vec<Recipient>,
    pub body: Option<Body>,
    pub smtputf8: bool,
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded.
    pub id: Option<String>,
}

impl Envelope {
    #[must_use]
    pub const fn new(reverse_path: ReversePath) -> Self {
        let recipients = Vec::new();
        Self { reverse_path, recipients, body: None, smtputf8: false, ret: None, id: None }
    }
}

impl ReversePath {
    #[must_use]
    pub const fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl Recipient {
    #[must_use]
    pub const fn new(path: ForwardPath) -> Self {
        Self { path, notify: Notify::NONE, original: None }
    }
}

impl Body {
    /// Postfix's `encoding` attribute.
    #[must_use]
    pub const fn encoding(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBitMime => "8bit",
        }
    }
}

/// The internal form, without the angle brackets: empty for the null reverse-path.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Address(address) => fmt::Display::fmt(address, f),
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
