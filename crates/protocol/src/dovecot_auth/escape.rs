//! How a field holds the bytes that would end it.
//!
//! 0x01 is the escape byte: `0` after it is NUL, `1` is 0x01, `t` is TAB, `r` is CR, `n` is LF, and
//! any other byte is itself.

use std::borrow::Cow;

/// Appends `field` to `out`, escaped.
pub fn escape_to(field: &str, out: &mut Vec<u8>) {
    for byte in field.bytes() {
        let code = match byte {
            0 => b'0',
            1 => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            other => {
                out.push(other);
                continue;
            }
        };
        out.extend_from_slice(&[1, code]);
    }
}

/// What an escaped field says. Bytes that are not UTF-8 become U+FFFD: no name or address that we
/// could look up holds them.
#[must_use]
pub fn unescape(field: &[u8]) -> Cow<'_, str> {
    if !field.contains(&1) {
        return String::from_utf8_lossy(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != 1 {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => plain.push(0),
            Some(b'1') => plain.push(1),
            Some(b't') => plain.push(b'\t'),
            Some(b'r') => plain.push(b'\r'),
            Some(b'n') => plain.push(b'\n'),
            Some(other) => plain.push(other),
            None => {} // a lone escape byte at the end says nothing
        }
    }
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

/// The unescaped fields of a line.
pub fn fields(line: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    line.split(|&byte| byte == b'\t').map(unescape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_escape_code_is_known() {
        assert_eq!(unescape(b"a\x01tb\x01nc\x01rd\x010e\x011f\x01xg"), "a\tb\nc\rd\0e\x01fxg");
        assert_eq!(unescape(b"end\x01"), "end");
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(field in any::<String>()) {
            let mut escaped = Vec::new();
            escape_to(&field, &mut escaped);
            prop_assert!(!escaped.iter().any(|b| matches!(b, 0 | b'\t' | b'\r' | b'\n')));
            prop_assert_eq!(unescape(&escaped), field);
        }
    }
}
