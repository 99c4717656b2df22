//! Patterns for the addresses that a DNS list answers: `127.0.0.2`, `127.0.0.[2..4;10]`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Each octet is any of these ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Octets([Vec<(u8, u8)>; 4]);

impl Octets {
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: [Vec<(u8, u8)>; 4] = Default::default();
        let mut rest = text;
        for (at, field) in fields.iter_mut().enumerate() {
            if at > 0 {
                rest = rest.strip_prefix('.').ok_or_else(|| four(text))?;
            }
            let inside = rest.strip_prefix('[');
            let end = match inside {
                Some(inside) => inside.find(']').ok_or_else(|| format!("no ] in \"{text}\""))? + 1,
                None => rest.find('.').unwrap_or(rest.len()),
            };
            let (members, after) = rest.split_at_checked(end).ok_or_else(|| four(text))?;
            rest = if inside.is_some() { after.strip_prefix(']').unwrap_or(after) } else { after };
            *field = members
                .trim_start_matches('[')
                .split(';')
                .map(|member| range(member).ok_or_else(|| format!("bad octet \"{member}\"")))
                .collect::<Result<_, _>>()?;
        }
        if rest.is_empty() { Ok(Self(fields)) } else { Err(four(text)) }
    }

    #[must_use]
    pub fn matches(&self, address: Ipv4Addr) -> bool {
        self.0.iter().zip(address.octets()).all(|(ranges, octet)| {
            ranges.iter().any(|&(first, last)| (first..=last).contains(&octet))
        })
    }
}

fn four(text: &str) -> String {
    format!("\"{text}\" has not four fields")
}

fn range(text: &str) -> Option<(u8, u8)> {
    let octet = |text: &str| text.parse::<u8>().ok();
    match text.split_once("..") {
        Some((first, last)) => {
            let (first, last) = (octet(first)?, octet(last)?);
            (first <= last).then_some((first, last))
        }
        None => octet(text).map(|octet| (octet, octet)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_matched() {
        for (pattern, address, hit) in [
            ("127.0.0.2", "127.0.0.2", true),
            ("127.0.0.2", "127.0.0.3", false),
            ("127.0.0.[2..4]", "127.0.0.4", true),
            ("127.0.0.[2..4;10]", "127.0.0.10", true),
            ("127.0.0.[2..4;10]", "127.0.0.9", false),
            ("127.[0;1].[0..255].1", "127.1.77.1", true),
        ] {
            let octets = Octets::parse(pattern).expect(pattern);
            assert_eq!(octets.matches(address.parse().unwrap()), hit, "{pattern} {address}");
        }
        for bad in [
            "",
            "127.0.0",
            "127.0.0.",
            "127.0.0.256",
            "127.0.0.[2",
            "127.0.0.[4..2]",
            "1.2.3.4.5",
            "1.2.[3.4]",
        ] {
            assert!(Octets::parse(bad).is_err(), "{bad}");
        }
    }
}
