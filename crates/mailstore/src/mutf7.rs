//! Modified UTF-7, the spelling of mailbox names in IMAP and on disk (RFC 3501 section 5.1.3).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Spells a name for the wire and for Dovecot's directories.
#[must_use]
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut pending: Vec<u16> = Vec::new();
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush(&mut out, &mut pending);
            out.push(character);
            if character == '&' {
                out.push('-');
            }
        } else {
            pending.extend_from_slice(character.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut out, &mut pending);
    out
}

fn flush(out: &mut String, pending: &mut Vec<u16>) {
    if pending.is_empty() {
        return;
    }
    out.push('&');
    let (mut bits, mut count) = (0_u32, 0);
    for unit in pending.drain(..) {
        bits = (bits << 16) | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            push_digit(out, bits >> count);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        push_digit(out, bits << (6 - count));
    }
    out.push('-');
}

fn push_digit(out: &mut String, bits: u32) {
    out.push(char::from(ALPHABET[(bits & 63) as usize]));
}

/// Reads a name. `None` for what is not modified UTF-7 in its one canonical spelling: two
/// spellings of one name would be two directories.
#[must_use]
pub fn decode(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('&') {
        let (plain, coded) = rest.split_at(at);
        out.push_str(plain);
        let (digits, after) = coded[1..].split_once('-')?;
        if digits.is_empty() {
            out.push('&');
        } else {
            out.push_str(&decode_digits(digits)?);
        }
        rest = after;
    }
    out.push_str(rest);
    (encode(&out) == name).then_some(out)
}

fn decode_digits(digits: &str) -> Option<String> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut units = Vec::new();
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|&known| known == digit)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from((bits >> count) & 0xffff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_spellings() {
        for (name, spelt) in [
            ("INBOX", "INBOX"),
            ("日本語", "&ZeVnLIqe-"),
            ("A&B", "A&-B"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("😀", "&2D3eAA-"),
        ] {
            assert_eq!(encode(name), spelt);
            assert_eq!(decode(spelt).as_deref(), Some(name));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in ["&", "&ZeVnLIqe", "&AGE-", "a&b", "\u{fc}", "&2D0-", "&ZeVnLIqe-&ZeVnLIqe-"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{0,20}") {
            prop_assert_eq!(decode(&encode(&name)), Some(name));
        }

        #[test]
        fn no_input_panics(name in ".{0,30}") {
            let _ = decode(&name);
        }
    }
}
