//! Lists of hosts as OpenDKIM matches them: names and the domains above them, addresses and the networks around them;
//! an entry with `!` in front takes away.

use std::net::IpAddr;

use crate::dataset::Dataset;

/// Whether the client is in the list.
pub fn matches(list: &Dataset, host: &str, address: IpAddr) -> bool {
    let host = host.to_ascii_lowercase();
    by_name(list, &host) || by_address(list, address)
}

fn by_name(list: &Dataset, host: &str) -> bool {
    if host.is_empty() || host.starts_with('[') {
        return false;
    }
    let above = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
    decide(list, std::iter::once(host).chain(above).map(str::to_owned)).unwrap_or(false)
}

fn by_address(list: &Dataset, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let networks = (0..=longest).rev().flat_map(|length| {
        let network = masked(address, length);
        let dotted = match network {
            IpAddr::V4(v4) => Some(format!("{v4}/{}", masked(IpAddr::from([255; 4]), length))),
            IpAddr::V6(_) => None,
        };
        std::iter::once(format!("{network}/{length}")).chain(dotted)
    });
    let alone = [address.to_string(), format!("[{address}]")];
    decide(list, alone.into_iter().chain(networks)).unwrap_or(false)
}

/// What the first of the keys that the list knows says.
fn decide(list: &Dataset, mut keys: impl Iterator<Item = String>) -> Option<bool> {
    keys.find_map(|key| {
        if list.contains(&format!("!{key}")) {
            Some(false)
        } else {
            list.contains(&key).then_some(true)
        }
    })
}

fn masked(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::from((v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::from((v6.to_bits() & mask).to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_networks_match_and_exceptions_come_first() {
        let mut problems = config::Problems::default();
        let list = Dataset::read(
            &config::files::Memory::default(),
            "127.0.0.1,10.0.0.0/8,!10.1.0.0/16,192.0.2.0/255.255.255.0,[2001:db8::1],2001:db8:1::/48,.example.com,!bad.example.com,host.example",
            None,
            crate::dataset::Case::Ignored,
            &mut problems,
        );
        for (host, address, expected) in [
            ("", "127.0.0.1", true),
            ("", "::ffff:127.0.0.1", true),
            ("", "127.0.0.2", false),
            ("", "10.2.3.4", true),
            ("", "10.1.3.4", false),
            ("", "192.0.2.99", true),
            ("", "2001:db8::1", true),
            ("", "2001:db8:1:2::3", true),
            ("", "2001:db8:2::", false),
            ("a.B.example.com", "198.51.100.1", true),
            ("bad.example.com", "198.51.100.1", false),
            ("host.example", "198.51.100.1", true),
            ("sub.host.example", "198.51.100.1", false),
            ("[127.0.0.1]", "198.51.100.1", false),
        ] {
            assert_eq!(
                matches(&list, host, address.parse().unwrap()),
                expected,
                "{host} {address}"
            );
        }
    }
}
