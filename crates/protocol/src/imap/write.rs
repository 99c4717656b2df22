//! Writes IMAP's values: atoms, strings, literals, flag lists, addresses (RFC 3501 section 9).

use mail_types::{Flag, Flags};

fn is_atom(bytes: &[u8]) -> bool {
    let plain = |&byte: &u8| {
        byte > 0x20
            && byte < 0x7f
            && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
    };
    !bytes.is_empty() && bytes.iter().all(plain) && !bytes.eq_ignore_ascii_case(b"NIL")
}

fn is_quotable(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte < 0x80 && !matches!(byte, 0 | b'"' | b'\\' | b'\r' | b'\n'))
}

/// An atom where that can be, else a quoted string, else a literal: mailbox names.
pub fn astring(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_atom(bytes) { out.extend_from_slice(bytes) } else { string(out, bytes) }
}

/// A quoted string; a literal where one would need escapes, as Dovecot writes it.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_quotable(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        out.extend_from_slice(format!("{{{}}}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
    }
}

/// A quoted string with escapes where they are needed; a literal for what cannot be quoted.
pub fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let quotable = bytes.iter().all(|&byte| byte < 0x80 && !matches!(byte, 0 | b'\r' | b'\n'));
    if !quotable {
        return string(out, bytes);
    }
    out.push(b'"');
    for &byte in bytes {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A string, or `NIL` for nothing.
pub fn nstring(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => string(out, bytes),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `(\Seen \Recent keyword)`, in Dovecot's order.
pub fn flags<'a>(
    out: &mut Vec<u8>,
    flags: Flags,
    recent: bool,
    keywords: impl IntoIterator<Item = &'a str>,
) {
    let recent = recent.then_some("\\Recent");
    let system = flags.iter().map(|flag| -> &'a str { Flag::name(flag) });
    let words = system.chain(recent).chain(keywords);
    out.push(b'(');
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word.as_bytes());
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_safe_form_is_written() {
        for (text, expected) in [
            ("INBOX", "INBOX"),
            ("with space", "\"with space\""),
            ("", "\"\""),
            ("nil", "\"nil\""),
            ("a\"b", "{3}\r\na\"b"),
            ("a\\b", "{3}\r\na\\b"),
            ("é", "{2}\r\né"),
            ("&AOk-", "&AOk-"),
        ] {
            let mut out = Vec::new();
            astring(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn flags_stand_in_order() {
        let mut out = Vec::new();
        let set = [Flag::Seen, Flag::Answered].into_iter().collect();
        flags(&mut out, set, true, ["$Junk", "b"]);
        assert_eq!(out, b"(\\Answered \\Seen \\Recent $Junk b)");
    }
}
