//! What is known of a connection from its first moment: addresses, protection, session id.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Addresses and protection of one connection, for log lines, limits and the auth server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub session: String,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub security: Security,
    /// The server name that the client asked TLS for.
    pub server_name: Option<String>,
}

/// How far nobody can listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    None,
    /// Without TLS, but from this machine or a trusted network.
    Trusted,
    Tls,
}

impl Facts {
    #[must_use]
    pub fn new(remote: SocketAddr, local: SocketAddr, trusted: &[Network]) -> Self {
        let (remote, local) = (unmapped(remote), unmapped(local));
        let near = remote.ip() == local.ip()
            || trusted.iter().any(|network| network.contains(remote.ip()));
        let security = if near { Security::Trusted } else { Security::None };
        let session = session_id(SystemTime::now(), remote);
        Self { session, remote, local, security, server_name: None }
    }

    /// Passwords may be sent in the clear.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.security != Security::None
    }
}

/// An IPv4 address that came over an IPv6 socket is an IPv4 address.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::new(IpAddr::V4(four), six.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Base64 of six octets of microseconds, two of the port (little endian both) and the address: what
/// Dovecot writes in `session=<...>`.
fn session_id(now: SystemTime, remote: SocketAddr) -> String {
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let mut octets: Vec<u8> = micros.to_le_bytes().into_iter().take(6).collect();
    octets.extend(remote.port().to_le_bytes());
    match remote.ip() {
        IpAddr::V4(four) => octets.extend(four.octets()),
        IpAddr::V6(six) => octets.extend(six.octets()),
    }
    protocol::base64::encode(&octets)
}

/// An address range of `login_trusted_networks`: `192.0.2.0/24`, `2001:db8::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `None` for what is no network.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = |address| match address {
            IpAddr::V4(four) => u128::from(Ipv4Addr::to_bits(four)) << 96,
            IpAddr::V6(six) => six.to_bits(),
        };
        let shift = 128 - u32::from(self.bits);
        let same = number(self.address).checked_shr(shift) == number(address).checked_shr(shift);
        self.address.is_ipv4() == address.is_ipv4() && (self.bits == 0 || same)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn session_ids_have_dovecots_form() {
        let at = UNIX_EPOCH + Duration::from_micros(0x0000_6051_2aaf_71e4);
        let id = session_id(at, "127.0.0.1:48798".parse().unwrap());
        assert_eq!(id.len(), 16);
        assert!(id.ends_with("f/AAAB") || id.ends_with("/AAAB"), "{id}");
        let id = session_id(at, "[2001:db8::1]:48798".parse().unwrap());
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn only_the_own_machine_and_trusted_networks_are_near() {
        let trusted = [Network::parse("192.0.2.0/24").unwrap()];
        let facts = |remote: &str, local: &str| {
            Facts::new(remote.parse().unwrap(), local.parse().unwrap(), &trusted).security
        };
        assert_eq!(facts("127.0.0.1:9", "127.0.0.1:143"), Security::Trusted);
        assert_eq!(facts("[::ffff:127.0.0.1]:9", "127.0.0.1:143"), Security::Trusted);
        assert_eq!(facts("192.0.2.7:9", "198.51.100.1:143"), Security::Trusted);
        assert_eq!(facts("192.0.3.7:9", "198.51.100.1:143"), Security::None);
        assert_eq!(Network::parse("192.0.2.0/33"), None);
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("9.9.9.9".parse().unwrap()));
    }
}
