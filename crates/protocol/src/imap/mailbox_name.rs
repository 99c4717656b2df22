//! Mailbox names in modified UTF-7 (RFC 3501 section 5.1.3), and LIST's patterns.

/// Whether `name` is well-formed modified UTF-7: printable ASCII, `&-` for `&`, and shifted runs of
/// base64 that hold UTF-16 which ASCII could not have said.
#[must_use]
pub fn is_valid(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'&' => {
                let Some(end) = rest.iter().position(|&byte| byte == b'-') else { return false };
                let shifted = rest.get(..end).unwrap_or_default();
                if !shifted.is_empty() && !is_shifted_run(shifted) {
                    return false;
                }
                rest = rest.get(end + 1..).unwrap_or_default();
                // Two runs side by side should have been one.
                if !shifted.is_empty() && rest.first() == Some(&b'&') && rest.get(1) != Some(&b'-')
                {
                    return false;
                }
            }
            0x20..=0x7e => {}
            _ => return false,
        }
    }
    true
}

fn is_shifted_run(base64: &[u8]) -> bool {
    let mut bits: u32 = 0;
    let mut held = 0;
    let mut units = Vec::new();
    for &byte in base64 {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b',' => 63,
            _ => return false,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push(u16::try_from(bits >> held & 0xffff).unwrap_or_default());
        }
    }
    let rest_is_zero = held < 6 && bits & ((1 << held) - 1) == 0;
    let texts: Result<Vec<char>, _> = char::decode_utf16(units.iter().copied()).collect();
    let Ok(characters) = texts else { return false };
    rest_is_zero
        && !characters.is_empty()
        && !characters.iter().any(|&character| matches!(character, ' '..='~'))
}

/// Whether `pattern` (`*` anything, `%` anything but the separator) matches the whole of `name`.
///
/// `INBOX` as the first level of either is compared without regard to case. The work is bounded by
/// the product of both lengths.
#[must_use]
pub fn matches(pattern: &str, name: &str, separator: char) -> bool {
    let inbox = |text: &str| match text.get(..5) {
        Some(first) if first.eq_ignore_ascii_case("INBOX") => {
            match text.get(5..).and_then(|rest| rest.chars().next()) {
                None => format!("INBOX{}", text.get(5..).unwrap_or_default()),
                Some(next) if next == separator => {
                    format!("INBOX{}", text.get(5..).unwrap_or_default())
                }
                Some(_) => text.to_owned(),
            }
        }
        _ => text.to_owned(),
    };
    let (pattern, name) = (inbox(pattern), inbox(name));
    // reachable[i]: the pattern read so far can match the first i characters.
    let name: Vec<char> = name.chars().collect();
    let mut reachable = vec![false; name.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for wanted in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        let mut open = false;
        for index in 0..=name.len() {
            let here = reachable.get(index).copied().unwrap_or_default();
            let before = index.checked_sub(1).and_then(|before| name.get(before)).copied();
            let arrived = match wanted {
                '*' | '%' => {
                    if wanted == '%' && before == Some(separator) {
                        open = false;
                    }
                    open |= here;
                    open
                }
                _ => {
                    before == Some(wanted)
                        && reachable.get(index.wrapping_sub(1)).copied().unwrap_or_default()
                }
            };
            if let Some(slot) = next.get_mut(index) {
                *slot = arrived;
            }
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or_default()
}

/// The name as it is compared: `INBOX` in any case is one mailbox.
#[must_use]
pub fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case("INBOX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_names_pass() {
        for (name, valid) in [
            ("INBOX", true),
            ("a&-b", true),
            ("&ZeVnLIqe-", true),
            ("&2D3cAA-", true),
            ("a&b", false),
            ("a&", false),
            ("&AGE-", false), // "a" needs no shift
            ("&2D0-", false), // half a surrogate pair
            ("&ZeVn\x01IqeA-", false),
            ("&AOk-&AOk-", false),
            ("caf\u{e9}", false),
            ("tab\t", false),
        ] {
            assert_eq!(is_valid(name.as_bytes()), valid, "{name:?}");
        }
    }

    #[test]
    fn patterns_respect_the_separator() {
        for (pattern, name, expected) in [
            ("*", "a.b.c", true),
            ("%", "a", true),
            ("%", "a.b", false),
            ("a.%", "a.b", true),
            ("a.%", "a.b.c", false),
            ("%.%", "a.b", true),
            ("a*c", "a.b.c", true),
            ("inbox", "INBOX", true),
            ("InBox.%", "INBOX.Sent", true),
            ("inboxes", "INBOXES", false),
            ("%.b", "x.b", true),
            ("", "a", false),
            ("", "", true),
            ("a%b*c", "axxb.yyc", true),
        ] {
            assert_eq!(matches(pattern, name, '.'), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length() {
        let pattern = "*a%".repeat(1000);
        assert!(!matches(&pattern, &"a".repeat(200), '.'));
    }
}
