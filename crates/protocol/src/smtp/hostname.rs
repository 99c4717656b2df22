//! What Postfix takes for a host name, an address and an address literal.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host name: labels of letters, digits, `_` and inner `-`, at most 63 octets each and 255 in all, and not
/// digits and dots alone.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 255
        && name.split('.').all(label)
        && name.bytes().any(|c| !c.is_ascii_digit() && c != b'.')
}

/// An IPv4 or IPv6 address without brackets or prefix.
#[must_use]
pub fn is_host_address(text: &str) -> bool {
    if text.contains(':') { is_ipv6_address(text) } else { is_ipv4_address(text) }
}

/// A dotted quad. `0.0.0.0` is one, `0.1.2.3` is not; leading zeros are allowed, as in Postfix.
#[must_use]
pub fn is_ipv4_address(text: &str) -> bool {
    let octets: Vec<&str> = text.split('.').collect();
    let value = |octet: &str| {
        let digits =
            !octet.is_empty() && octet.len() <= 16 && octet.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| octet.parse::<u64>().ok()).flatten().filter(|&value| value <= 255)
    };
    let values: Vec<u64> = octets.iter().filter_map(|octet| value(octet)).collect();
    octets.len() == 4
        && values.len() == 4
        && (values.first() != Some(&0) || values.iter().all(|&value| value == 0))
}

/// An IPv6 address, compressed or not, with or without a dotted quad at its end.
#[must_use]
pub fn is_ipv6_address(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// An address as it stands between the brackets of a literal: IPv4, or IPv6 behind `IPv6:`.
#[must_use]
pub fn is_mail_host_address(text: &str) -> bool {
    match text.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("IPv6:") => is_ipv6_address(&text[5..]),
        _ => is_ipv4_address(text),
    }
}

/// An address literal with its brackets (RFC 5321 section 4.1.3).
#[must_use]
pub fn is_mail_host_literal(text: &str) -> bool {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).is_some_and(is_mail_host_address)
}

/// Reads a literal's inside, or a bare address, as XCLIENT and XFORWARD send it.
#[must_use]
pub fn parse_mail_host_address(text: &str) -> Option<std::net::IpAddr> {
    match text.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("IPv6:") => {
            text[5..].parse::<Ipv6Addr>().ok().map(Into::into)
        }
        _ => text.parse::<Ipv4Addr>().ok().map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (text, name, address) in [
            ("mail.example.com", true, false),
            ("localhost", true, false),
            ("a_b.example", true, false),
            ("-a.example", false, false),
            ("a-.example", false, false),
            ("a..example", false, false),
            ("a.example.", false, false),
            ("192.0.2.1", false, true),
            ("192.0.2", false, false),
            ("192.0.2.256", false, false),
            ("0.1.2.3", false, false),
            ("0.0.0.0", false, true),
            ("::1", false, true),
            ("2001:db8::1", false, true),
            ("1.2.3.a", true, false),
            ("", false, false),
            ("exa mple.com", false, false),
        ] {
            assert_eq!((is_host_name(text), is_host_address(text)), (name, address), "{text:?}");
        }
        assert!(is_mail_host_literal("[192.0.2.1]"));
        assert!(is_mail_host_literal("[IPv6:::1]"));
        assert!(!is_mail_host_literal("[::1]"));
        assert!(!is_mail_host_literal("192.0.2.1"));
    }
}
