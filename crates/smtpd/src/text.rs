//! Text of a peer made fit for log lines, replies and headers, with Postfix's rules.

/// Control characters become `replacement`; everything else is text.
#[must_use]
pub fn printable(text: &str, replacement: char) -> String {
    text.chars().map(|c| if c.is_control() { replacement } else { c }).collect()
}

/// What could end a comment, a route or a string becomes `?`: names from HELO and XFORWARD stand in headers.
#[must_use]
pub fn neutral(text: &str) -> String {
    printable(text, '?').replace([' ', '<', '>', '(', ')', '\\', '"', ';', '@'], "?")
}

/// At most `limit` characters.
#[must_use]
pub fn cut(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// C escapes, octal for what has none: how raw bytes are shown in a log.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            9 => text.push_str("\\t"),
            10 => text.push_str("\\n"),
            11 => text.push_str("\\v"),
            12 => text.push_str("\\f"),
            13 => text.push_str("\\r"),
            other => text.push_str(&format!("\\{other:03o}")),
        }
    }
    text
}

/// An address for `from=<>` and `to=<>`: in external form, the null one empty.
#[must_use]
pub fn logged(address: &str) -> String {
    if address.is_empty() { String::new() } else { mail_types::quote_822(address) }
}

/// Text inside a header comment: parentheses balanced away, backslashes and 8-bit masked.
#[must_use]
pub fn comment(text: &str) -> String {
    let mut depth = 0_u32;
    let mut safe: String = text
        .chars()
        .map(|c| match c {
            '\\' => '?',
            '(' => {
                depth += 1;
                c
            }
            ')' if depth == 0 => '?',
            ')' => {
                depth -= 1;
                c
            }
            _ if !c.is_ascii() || c.is_ascii_control() => '?',
            _ => c,
        })
        .collect();
    safe.extend(std::iter::repeat_n(')', depth as usize));
    safe
}

/// `Subject:`, as a spam program says that has lost its place.
#[must_use]
pub fn is_header_line(word: &str) -> bool {
    word.split_once(':').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|c| (b'!'..=b'~').contains(&c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_tamed() {
        assert_eq!(
            escaped(b"MAIL FROM:<a@b>\r\n\x00\xff\\"),
            "MAIL FROM:<a@b>\\r\\n\\000\\377\\\\"
        );
        assert_eq!(comment("a)b(c"), "a?b(c)");
        assert_eq!(comment("bob\n"), "bob?");
        assert_eq!(neutral("a b<c>"), "a?b?c?");
        assert_eq!(cut("ääää", 2), "ää");
        assert_eq!(logged("a b@c"), "\"a b\"@c");
    }
}
