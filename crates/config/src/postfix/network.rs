//! Networks in mynetworks and its like: `127.0.0.0/8`, `[::1]/128`, `192.0.2.1`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::words::{Match, Pattern};

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("no address")]
    NotAnAddress,
    #[error("prefix length must be 0 to {0}")]
    BadPrefix(u8),
    #[error("host bits are set; {0} may be meant")]
    HostBits(Network),
}

impl Network {
    /// The network of `prefix` bits that holds `address`.
    pub fn holding(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & bits))
            }
            IpAddr::V6(v6) => {
                let bits = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & bits))
            }
        };
        Self { address, prefix }
    }

    /// `address` or `address/length`; IPv6 with or without brackets.
    ///
    /// # Errors
    ///
    /// [`NetworkError`]
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address =
            address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        let address = address
            .strip_prefix("ipv6:")
            .or_else(|| address.strip_prefix("IPv6:"))
            .unwrap_or(address);
        let address: IpAddr = address.parse().map_err(|_| NetworkError::NotAnAddress)?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => widest,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= widest)
                .ok_or(NetworkError::BadPrefix(widest))?,
        };
        let network = Self::holding(address, prefix);
        if network.address != address {
            return Err(NetworkError::HostBits(network));
        }
        Ok(network)
    }

    /// Whether the address is inside; an IPv4 address in IPv6 clothes counts as IPv4 too.
    pub fn contains(&self, address: IpAddr) -> bool {
        let inside = |address: IpAddr| {
            address.is_ipv4() == self.address.is_ipv4()
                && Self::holding(address, self.prefix).address == self.address
        };
        inside(address) || inside(address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}/{}", self.prefix),
            IpAddr::V6(address) => write!(f, "[{address}]/{}", self.prefix),
        }
    }
}

/// The item with its text read as a network, where it is one.
pub fn as_network(item: Match) -> Match {
    if let Pattern::Text(text) = &item.pattern
        && let Ok(network) = Network::parse(text)
    {
        return Match { pattern: Pattern::Network(network), ..item };
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_bad_ones_refused() {
        for (text, shown) in [
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("[::1]/128", "[::1]/128"),
            ("2001:db8::/32", "[2001:db8::]/32"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.168.1.0/16", "! host bits are set; 192.168.0.0/16 may be meant"),
            ("192.168.1.0/33", "! prefix length must be 0 to 32"),
            ("mail.example.com", "! no address"),
        ] {
            let read = Network::parse(text)
                .map_or_else(|error| format!("! {error}"), |network| network.to_string());
            assert_eq!(read, shown, "{text}");
        }
        let lan = Network::parse("192.168.0.0/16").unwrap();
        assert!(
            lan.contains("192.168.7.9".parse().unwrap())
                && lan.contains("::ffff:192.168.7.9".parse().unwrap())
        );
        assert!(
            !lan.contains("192.169.0.1".parse().unwrap()) && !lan.contains("::1".parse().unwrap())
        );
    }
}
