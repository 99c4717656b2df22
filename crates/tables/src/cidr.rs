//! `cidr:` tables: the first network that holds the client's address (cidr_table(5)).

use std::net::IpAddr;

use crate::source::{Line, Note};

#[derive(Debug)]
pub struct Cidr(Vec<Rule>);

#[derive(Debug)]
enum Rule {
    Answer {
        network: Network,
        inside: bool,
        answer: String,
    },
    /// Rules up to `end` count only for addresses that fit.
    If {
        network: Network,
        inside: bool,
        end: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    pub fn parse(lines: Vec<Line>, notes: &mut Vec<Note>) -> Self {
        let mut rules = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for Line { number, text } in lines {
            let text = text.trim();
            match keyword(text) {
                ("if", pattern) => match condition(pattern) {
                    Ok((network, inside)) => {
                        open.push(rules.len());
                        rules.push(Rule::If { network, inside, end: usize::MAX });
                    }
                    Err(why) => notes.push(Note::skipped(number, skipping(&why))),
                },
                ("endif", _) => match open.pop() {
                    Some(start) => close(&mut rules, start),
                    None => notes.push(Note::skipped(number, "ignoring ENDIF without matching IF")),
                },
                _ => match rule(text) {
                    Ok(rule) => rules.push(rule),
                    Err(why) => notes.push(Note::skipped(number, skipping(&why))),
                },
            }
        }
        for start in open {
            notes.push(Note::skipped(0, "IF has no matching ENDIF"));
            close(&mut rules, start);
        }
        Self(rules)
    }

    pub fn find(&self, key: &str) -> Option<&str> {
        let address: IpAddr = key.parse().ok()?;
        let mut at = 0;
        while let Some(rule) = self.0.get(at) {
            at += 1;
            match rule {
                Rule::Answer { network, inside, answer } if network.fits(address, *inside) => {
                    return Some(answer);
                }
                Rule::If { network, inside, end } if !network.fits(address, *inside) => at = *end,
                _ => {}
            }
        }
        None
    }
}

fn skipping(why: &str) -> String {
    format!("{why}: skipping this rule")
}

fn close(rules: &mut [Rule], start: usize) {
    let after = rules.len();
    if let Some(Rule::If { end, .. }) = rules.get_mut(start) {
        *end = after;
    }
}

/// The first word, lower-cased when it is `if` or `endif`, and what follows it.
pub fn keyword(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
    match word {
        w if w.eq_ignore_ascii_case("if") => ("if", rest.trim()),
        w if w.eq_ignore_ascii_case("endif") => ("endif", rest.trim()),
        _ => (word, rest.trim()),
    }
}

fn condition(pattern: &str) -> Result<(Network, bool), String> {
    let (inside, pattern) = negation(pattern);
    if pattern.is_empty() {
        return Err("no address pattern".to_owned());
    }
    Ok((Network::parse(pattern)?, inside))
}

fn rule(text: &str) -> Result<Rule, String> {
    let (inside, text) = negation(text);
    let (pattern, answer) = text
        .split_once(|c: char| c.is_ascii_whitespace())
        .ok_or_else(|| "no lookup result".to_owned())?;
    let network = Network::parse(pattern)?;
    Ok(Rule::Answer { network, inside, answer: answer.trim().to_owned() })
}

fn negation(mut text: &str) -> (bool, &str) {
    let mut inside = true;
    while let Some(rest) = text.strip_prefix('!') {
        inside = !inside;
        text = rest.trim_start();
    }
    (inside, text)
}

impl Network {
    fn parse(pattern: &str) -> Result<Self, String> {
        let (host, bits) = match pattern.split_once('/') {
            Some((host, bits)) => (host, Some(bits)),
            None => (pattern, None),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let kind = if bits.is_some() { "net/mask" } else { "address" };
        let bad = || format!("bad {kind} pattern: \"{pattern}\"");
        let address: IpAddr = host.parse().map_err(|_| bad())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => bits.parse().ok().filter(|&n| n <= width).ok_or_else(bad)?,
        };
        let masked = mask(address, bits);
        if masked != address {
            return Err(format!(
                "non-null host address bits in \"{pattern}\", perhaps you should use \"{masked}/{bits}\" instead"
            ));
        }
        Ok(Self { address, bits })
    }

    /// An address of the other family fits neither a network nor its negation.
    fn fits(self, address: IpAddr, inside: bool) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && (mask(address, self.bits) == self.address) == inside
    }
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & keep).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cidr;
    use crate::source::lines;

    /// Values of `postmap -q KEY cidr:FILE` (Postfix 3.7.11).
    #[test]
    fn the_first_network_that_holds_the_address_answers() {
        let mut notes = Vec::new();
        let text = b"10.0.0.0/8 ten\n!192.168.0.0/16 notpriv\n192.168.1.1 host\n192.168.2.3/24 badbits\n\
            if 192.168.0.0/16\n192.168.5.0/24 five\nendif\n2001:db8::/32 six\n[::1]/128 lo\n300.1.1.1 x\n";
        let lines = lines(text, &mut notes);
        let table = Cidr::parse(lines, &mut notes);
        for (key, answer) in [
            ("10.1.1.1", Some("ten")),
            ("1.2.3.4", Some("notpriv")),
            ("192.168.1.1", Some("host")),
            ("192.168.5.9", Some("five")),
            ("192.168.9.9", None),
            ("2001:db8::5", Some("six")),
            ("::1", Some("lo")),
            ("foo", None),
        ] {
            assert_eq!(table.find(key), answer, "{key}");
        }
        let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
        insta::assert_debug_snapshot!(notes, @r#"
        [
            "line 4: non-null host address bits in \"192.168.2.3/24\", perhaps you should use \"192.168.2.0/24\" instead: skipping this rule",
            "line 10: bad address pattern: \"300.1.1.1\": skipping this rule",
        ]
        "#);
    }
}
