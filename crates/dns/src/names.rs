//! Names as text: which may be asked for, which may be hosts, and the names of addresses.

use std::fmt::Write;
use std::net::IpAddr;

use hickory_proto::rr::Name;

/// What a question is asked for: lower-case, without a final dot; `None` if no name can look like this.
pub(crate) fn normal(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = !name.is_empty() && name.len() <= 253;
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(may_be_asked);
    (fits && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

fn may_be_asked(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'\\' | b'"' | b'.' | b'(' | b')' | b';' | b'@' | b'$')
}

/// Whether this may be the name of a host, by Postfix's rule: letters, digits, `-` and `_` in labels of 1 to 63 octets
/// that neither begin nor end with `-`, and not all digits and dots.
pub fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 255
        && name.split('.').all(label)
        && !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The domain as it is asked for: U-labels become A-labels, all in lower case. `None` if IDNA has no such name.
pub fn to_ascii(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        return Some(domain.to_ascii_lowercase());
    }
    let name = Name::from_utf8(domain).ok()?.to_lowercase().to_ascii();
    Some(name.strip_suffix('.').unwrap_or(&name).to_owned())
}

/// The parts of an address in reverse, as block lists are asked: `4.3.2.1`, or 32 hexadecimal digits.
pub fn reversed(address: IpAddr) -> String {
    let mut text = String::new();
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            let _ = write!(text, "{d}.{c}.{b}.{a}");
        }
        IpAddr::V6(address) => {
            for (index, octet) in address.octets().iter().rev().enumerate() {
                let dot = if index == 0 { "" } else { "." };
                let _ = write!(text, "{dot}{:x}.{:x}", octet & 15, octet >> 4);
            }
        }
    }
    text
}

/// Where the names of an address are kept: `4.3.2.1.in-addr.arpa`.
pub fn reverse_name(address: IpAddr) -> String {
    let zone = if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    format!("{}.{zone}", reversed(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_name_is_asked_for() {
        let long = "a".repeat(64);
        let deep = "abcdefg.".repeat(32);
        for (name, asked) in [
            ("Example.ORG.", Some("example.org")),
            ("_dmarc.example.org", Some("_dmarc.example.org")),
            ("0/25.2.0.192.in-addr.arpa", Some("0/25.2.0.192.in-addr.arpa")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("a b", None),
            ("a\\046b", None),
            ("é.example", None),
            (&long, None),
            (&deep, None),
        ] {
            assert_eq!(normal(name).as_deref(), asked, "{name}");
        }
    }

    #[test]
    fn host_names_are_judged_as_postfix_does() {
        for (name, is) in [
            ("mx.example.org", true),
            ("mx_1.example.org", true),
            ("1.example", true),
            ("", false),
            ("192.0.2.1", false),
            ("-mx.example.org", false),
            ("mx-.example.org", false),
            ("mx..example.org", false),
            ("m*x.example.org", false),
        ] {
            assert_eq!(is_host_name(name), is, "{name}");
        }
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(reverse_name([192, 0, 2, 1].into()), "1.2.0.192.in-addr.arpa");
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let expected = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse_name(address), expected);
    }

    #[test]
    fn labels_of_other_scripts_become_ascii() {
        for (domain, ascii) in [
            ("Example.ORG", Some("example.org")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.example", Some("xn--bcher-kva.example")),
            ("例え.jp", Some("xn--r8jz45g.jp")),
        ] {
            assert_eq!(to_ascii(domain).as_deref(), ascii, "{domain}");
        }
    }
}
