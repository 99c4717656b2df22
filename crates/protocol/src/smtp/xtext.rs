//! xtext (RFC 3461 section 4) and its UTF-8 sister (RFC 6533): how parameters carry any octet in printable ASCII.

/// Decodes `+XX`. `None` when a `+` is not followed by two hexadecimal digits, or the octets are not UTF-8.
#[must_use]
pub fn xtext_decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'+' {
            let (high, low) = (hexadecimal(rest.next()?)?, hexadecimal(rest.next()?)?);
            octets.push(high << 4 | low);
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).ok()
}

/// Encodes what xtext forbids: anything outside `!`..`~`, and `+` and `=`.
#[must_use]
pub fn xtext_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => encoded.push(char::from(octet)),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                encoded.push('+');
                encoded.push(char::from(DIGITS[usize::from(octet >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(octet & 15)]));
            }
        }
    }
    encoded
}

/// Decodes `\x{HEX}` of utf-8-addr-xtext. `None` for an unfinished escape or no code point.
pub(super) fn utf8_xtext_decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        decoded.push_str(before);
        let (digits, after) = escape.strip_prefix("x{")?.split_once('}')?;
        if !(2..=6).contains(&digits.len()) || !digits.bytes().all(|d| d.is_ascii_hexdigit()) {
            return None;
        }
        decoded.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    decoded.push_str(rest);
    Some(decoded)
}

fn hexadecimal(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_checked() {
        assert_eq!(xtext_decode("a+2Bb@c").as_deref(), Some("a+b@c"));
        assert_eq!(xtext_decode("a+2"), None);
        assert_eq!(xtext_decode("a+G0"), None);
        assert_eq!(xtext_decode("+FF"), None);
        assert_eq!(utf8_xtext_decode("\\x{E5}@b").as_deref(), Some("å@b"));
        assert_eq!(utf8_xtext_decode("\\x{D800}"), None);
        assert_eq!(utf8_xtext_decode("\\x{E5"), None);
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in ".*") {
            prop_assert_eq!(xtext_decode(&xtext_encode(&text)), Some(text));
        }
    }
}
