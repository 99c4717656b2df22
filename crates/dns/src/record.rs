//! Questions and answers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Ns,
    Ptr,
    Tlsa,
    Txt,
}

impl Kind {
    /// As it stands in log lines: `AAAA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Tlsa => "TLSA",
            Self::Txt => "TXT",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The records of one name and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub records: Vec<T>,
    /// Whose records they are: the name that was asked for, or the last of its aliases.
    pub name: String,
    /// How long the answer may still be kept: the smallest of all records on the way to it.
    pub ttl: Duration,
    /// The server says that it validated the answer with DNSSEC (the AD bit). Worth as much as the way to that server.
    pub authentic: bool,
}

/// A mail exchanger of a domain (RFC 5321 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    pub preference: u16,
    /// Empty for the null MX.
    pub exchange: String,
}

impl Mx {
    /// The domain takes no mail (RFC 7505).
    pub fn is_null(&self) -> bool {
        self.exchange.is_empty()
    }
}

/// What a certificate must match (RFC 6698 section 2.1); numbers as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Vec<u8>,
}

/// One record of any [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Mx(Mx),
    /// NS and PTR.
    Name(String),
    Tlsa(Tlsa),
    Txt(Vec<u8>),
}

impl Data {
    pub fn a(self) -> Option<Ipv4Addr> {
        if let Self::A(address) = self { Some(address) } else { None }
    }

    pub fn aaaa(self) -> Option<Ipv6Addr> {
        if let Self::Aaaa(address) = self { Some(address) } else { None }
    }

    pub fn mx(self) -> Option<Mx> {
        if let Self::Mx(mx) = self { Some(mx) } else { None }
    }

    pub fn name(self) -> Option<String> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }

    pub fn tlsa(self) -> Option<Tlsa> {
        if let Self::Tlsa(tlsa) = self { Some(tlsa) } else { None }
    }

    pub fn txt(self) -> Option<Vec<u8>> {
        if let Self::Txt(text) = self { Some(text) } else { None }
    }
}
