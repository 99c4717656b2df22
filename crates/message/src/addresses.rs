//! Where the addresses stand in a field such as To, without touching anything around them.

use std::ops::Range;

/// The octets of each addr-spec: inside `<…>`, or a bare address. Display names, comments, group
/// names, quotes and folding stay outside; `<>` is none.
#[must_use]
pub fn spans(value: &str) -> Vec<Range<usize>> {
    let mut scanner = Scanner::new(value);
    scanner.scan();
    scanner.spans
}

/// A field whose addresses were changed, folded anew: as many addresses on a line as fit in 70 octets.
#[must_use]
pub fn fold(field: &str) -> String {
    let line: String = field.chars().filter(|&c| c != '\n').collect();
    let mut scanner = Scanner::new(&line);
    scanner.scan();
    let (mut folded, mut length, mut start) = (String::new(), 0, 0);
    for end in scanner.commas.into_iter().map(|comma| comma + 1).chain([line.len()]) {
        let item = line.get(start..end).unwrap_or_default();
        let item = if start == 0 { item } else { item.trim_start() };
        if start > 0 {
            length += 1 + item.len();
            folded.push_str(if length < 70 { " " } else { "\n\t" });
            if length >= 70 {
                length = item.len();
            }
        } else {
            length = item.len();
        }
        folded.push_str(item);
        start = end;
    }
    folded
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    spans: Vec<Range<usize>>,
    /// Words of the current mailbox so far.
    bare: Option<Range<usize>>,
    /// What stood in angle brackets.
    angle: Option<Range<usize>>,
    commas: Vec<usize>,
}

impl<'a> Scanner<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, at: 0, spans: Vec::new(), bare: None, angle: None, commas: Vec::new() }
    }

    fn scan(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'(' => self.at = self.end_of_comment(),
                b'"' => self.word(self.end_of_quoted(b'"')),
                b'[' => self.word(self.end_of_quoted(b']')),
                b'<' => {
                    let end = self.end_of_angle();
                    let inside = trimmed(self.text, self.at + 1..end);
                    self.angle = Some(inside);
                    self.at = end + 1;
                }
                b',' | b';' => {
                    if byte == b',' {
                        self.commas.push(self.at);
                    }
                    self.end_mailbox();
                    self.at += 1;
                }
                b':' if self.angle.is_none() && !self.bare_has_route() => {
                    self.bare = None; // the name of a group
                    self.at += 1;
                }
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'\\' => self.word(self.at + 2),
                _ => self.word(self.at + 1),
            }
        }
        self.end_mailbox();
    }

    fn word(&mut self, end: usize) {
        let mut end = end.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        let start = self.bare.as_ref().map_or(self.at, |bare| bare.start);
        self.bare = Some(start..end);
        self.at = end;
    }

    fn end_mailbox(&mut self) {
        let (bare, angle) = (self.bare.take(), self.angle.take());
        let span = angle.or(bare).filter(|span| !span.is_empty());
        // Words with blanks between them and no sign of an address are no address.
        let plausible = |span: &Range<usize>| {
            let text = self.text.get(span.clone()).unwrap_or_default();
            text.contains('@') || !text.contains(char::is_whitespace)
        };
        self.spans.extend(span.filter(plausible));
    }

    /// `@a,@b:user@dom`.
    fn bare_has_route(&self) -> bool {
        let bare = self.bare.clone().unwrap_or(0..0);
        self.text.get(bare).is_some_and(|text| text.starts_with('@'))
    }

    fn end_of_comment(&self) -> usize {
        let (mut depth, mut at) = (0_usize, self.at);
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at.min(bytes.len())
    }

    fn end_of_quoted(&self, closing: u8) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        while let Some(&byte) = bytes.get(at) {
            at += if byte == b'\\' { 2 } else { 1 };
            if byte == closing {
                break;
            }
        }
        at.min(bytes.len())
    }

    /// The offset of the `>` that closes, or the end of the text.
    fn end_of_angle(&self) -> usize {
        let bytes = self.text.as_bytes();
        let (mut at, mut quoted) = (self.at + 1, false);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'"' => quoted = !quoted,
                b'>' if !quoted => return at,
                _ => {}
            }
            at += 1;
        }
        bytes.len()
    }
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let Some(inside) = text.get(range.clone()) else { return 0..0 };
    let start = range.start + (inside.len() - inside.trim_start().len());
    start..(start + inside.trim().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_among_names_and_comments() {
        for (value, found) in [
            (" joe", &["joe"][..]),
            (" Joe User <joe>, \"Doe, Jane\" <jane@host>", &["joe", "jane@host"]),
            (" joe@host (Joe (the) User), (x) ann", &["joe@host", "ann"]),
            (" friends: a, b@c;, undisclosed:;", &["a", "b@c"]),
            (" <>", &[]),
            (" < joe@host >", &["joe@host"]),
            (" \"a b\"@host,\n\tjörg@host", &["\"a b\"@host", "jörg@host"]),
            (" joe@[192.0.2.1]", &["joe@[192.0.2.1]"]),
            (" <@a,@b:joe@c>", &["@a,@b:joe@c"]),
            (" Joe User", &[]),
            (" <joe@host", &["joe@host"]),
            (" \"unclosed", &["\"unclosed"]),
            (" (unclosed", &[]),
            ("", &[]),
        ] {
            let spans: Vec<&str> = spans(value).into_iter().map(|span| &value[span]).collect();
            assert_eq!(spans, found, "{value}");
        }
    }

    #[test]
    fn changed_fields_are_folded_at_commas() {
        assert_eq!(fold("To: a@b,\n\t\"x, y\" <c@d>"), "To: a@b, \"x, y\" <c@d>");
        let list: Vec<String> = (0..5).map(|n| format!("user{n}@example.com")).collect();
        assert_eq!(
            fold(&format!("To: {}", list.join(","))),
            "To: user0@example.com, user1@example.com, user2@example.com,\n\tuser3@example.com, user4@example.com"
        );
    }

    #[test]
    fn nothing_breaks_on_odd_text() {
        for value in ["\\", "<\\", "\"\\", "(\\", "é\\é", "<é", "[é", ",,;;::", ")", ">"] {
            let _ = spans(value);
        }
    }
}
