//! Base64 between `-----BEGIN label-----` and `-----END label-----` (RFC 7468).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The first block of a text: its label and its octets. White space inside does not count.
#[must_use]
pub fn first(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    Some((label.to_owned(), decode(body.as_bytes())?))
}

/// A block with lines of 64 characters.
#[must_use]
pub fn write(label: &str, octets: &[u8]) -> String {
    let encoded = encode(octets);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// Base64 with padding (RFC 4648 section 4).
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit > group.len() {
                text.push('=');
            } else {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize]));
            }
        }
    }
    text
}

/// The octets of base64 that white space may break anywhere; padding may be left out, as keys in the
/// DNS have it. `None` for any other character, and for digits after the padding.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut digits, mut padding) = (0_u32, 0_usize, 0_usize);
    for &character in text {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(digit);
        digits += 1;
        if digits.is_multiple_of(4) {
            octets.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    let [_, high, middle, _] = (bits << (6 * ((4 - digits % 4) % 4))).to_be_bytes();
    match (digits % 4, padding) {
        (0, 0) => {}
        (2, 0 | 2) => octets.push(high),
        (3, 0 | 1) => octets.extend_from_slice(&[high, middle]),
        _ => return None,
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_there_and_back() {
        for (octets, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(encode(octets), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(octets));
            assert_eq!(decode(text.trim_end_matches('=').as_bytes()).as_deref(), Some(octets));
        }
        assert_eq!(decode(b" Zm9\r\n\t v ").as_deref(), Some(&b"foo"[..]));
        for wrong in ["Z", "Zg=", "Zg===", "Zm9v=", "Zg==Zg==", "Zm9*", "="] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_block_is_found_behind_other_text() {
        let text = format!("Bag Attributes\n{}", write("PRIVATE KEY", &[7; 100]));
        assert_eq!(first(text.as_bytes()), Some(("PRIVATE KEY".to_owned(), vec![7; 100])));
        assert_eq!(first(b"-----BEGIN X-----\nZg==\n-----END Y-----\n"), None);
    }
}
