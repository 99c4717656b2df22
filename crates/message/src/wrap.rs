//! Long lines of text, broken at their blanks as Postfix's `line_wrap` does.

/// The lines of a text: none is longer than `width` unless a word is, and all but the first are indented.
#[must_use]
pub fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let (mut start, mut word, mut margin) = (0, 0, 0);
    let mut lines = Vec::new();
    let blank = |at: usize| matches!(text.as_bytes().get(at), Some(b' ' | b'\t'));
    let line =
        |margin: usize, text: &str| format!("{}{}", " ".repeat(margin), text.trim_ascii_end());
    loop {
        let rest = text.get(word..).unwrap_or_default();
        let end = word + rest.find([' ', '\t']).unwrap_or(rest.len());
        if word > start && end - start > width.saturating_sub(margin) {
            lines.push(line(margin, text.get(start..word).unwrap_or_default()));
            while blank(word) {
                word += 1;
            }
            (start, margin) = (word, indent);
        }
        if end >= text.len() {
            break;
        }
        word = word.max(end + 1);
    }
    lines.push(line(margin, text.get(start..).unwrap_or_default()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_blanks() {
        for (text, lines) in [
            ("", &[""][..]),
            ("one two ", &["one two"]),
            ("one two three four", &["one two", "  three", "  four"]),
            ("one  seventeen-octets   x", &["one", "  seventeen-octets", "  x"]),
            ("äöü äöü", &["äöü", "  äöü"]),
        ] {
            assert_eq!(wrapped(text, 8, 2), lines, "{text}");
        }
    }
}
