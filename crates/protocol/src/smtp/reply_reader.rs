//! Replies as a client receives them, from a server that may be hostile: read as Postfix's client reads them.

use mail_types::EnhancedStatus;

/// Lines of one reply, after which the server is not listened to any more.
const MAX_LINES: usize = 1000;
/// Of a reply, only so much text is kept (`line_length_limit`).
const MAX_TEXT: usize = 2048;

/// A reply that has arrived whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedReply {
    /// Of the last line, which alone counts.
    pub code: u16,
    /// The enhanced code of the last line if it fits the code, else its class: `5.0.0`. `5.5.0` for what is no final
    /// reply (RFC 2034 section 4).
    pub status: String,
    /// All lines with their codes, joined by line feeds. What cannot be shown is a question mark.
    pub text: String,
    /// Lines among them that were no reply lines.
    pub garbage: usize,
}

impl ReceivedReply {
    #[must_use]
    pub fn class(&self) -> u16 {
        self.code / 100
    }

    /// As it stands in a log line or a notice.
    #[must_use]
    pub fn one_line(&self) -> String {
        self.text.replace('\n', " ")
    }

    /// The words of each line behind its code.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(|line| {
            let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
            rest.strip_prefix(['-', ' ']).unwrap_or(rest).trim_matches([' ', '\t'])
        })
    }
}

/// The server sends more than a reply can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reply has too many lines")]
pub struct TooManyLines;

/// Collects one reply, line by line.
#[derive(Debug, Default)]
pub struct ReplyReader {
    text: String,
    lines: usize,
    garbage: usize,
}

impl ReplyReader {
    /// Takes one line without its ending; the reply when it was the last one. A line without a code is kept as text and
    /// does not end the reply.
    ///
    /// # Errors
    ///
    /// [`TooManyLines`]: the conversation cannot go on.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<ReceivedReply>, TooManyLines> {
        let line = printable(line);
        self.lines += 1;
        if self.text.len() < MAX_TEXT {
            if !self.text.is_empty() {
                self.text.push('\n');
            }
            self.text.push_str(&line);
        }
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let (code, rest) = line.split_at_checked(digits).unwrap_or(("", &line));
        match rest.bytes().next() {
            None | Some(b' ') if digits == 3 => {}
            Some(b'-') if digits == 3 => return self.more(),
            _ => {
                self.garbage += 1;
                return self.more();
            }
        }
        let status = status(code, rest.trim_start_matches(' '));
        let Self { text, garbage, .. } = std::mem::take(self);
        Ok(Some(ReceivedReply { code: code.parse().unwrap_or(0), status, text, garbage }))
    }

    fn more(&mut self) -> Result<Option<ReceivedReply>, TooManyLines> {
        if self.lines >= MAX_LINES { Err(TooManyLines) } else { Ok(None) }
    }
}

fn status(code: &str, text: &str) -> String {
    let class = code.get(..1).unwrap_or_default();
    if !matches!(class, "2" | "4" | "5") {
        return "5.5.0".to_owned();
    }
    match EnhancedStatus::prefix_of(text) {
        Some((status, _)) if status.to_string().starts_with(class) => status.to_string(),
        _ => format!("{class}.0.0"),
    }
}

/// A line as people may see it: up to its first NUL, without its carriage returns at the end, and with one question mark
/// for each octet that cannot be shown.
#[must_use]
pub fn printable(line: &[u8]) -> String {
    let mut line = line.split(|&octet| octet == 0).next().unwrap_or_default();
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if c.is_ascii_control() { '?' } else { c }));
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<ReceivedReply> {
        let mut reader = ReplyReader::default();
        lines.iter().find_map(|line| reader.line(line.as_bytes()).unwrap())
    }

    #[test]
    fn the_last_line_counts() {
        let reply = read(&["250-mail.example", "250-SIZE 10", "550 5.7.1 no", "250 next"]).unwrap();
        assert_eq!((reply.code, reply.status.as_str()), (550, "5.7.1"));
        assert_eq!(reply.one_line(), "250-mail.example 250-SIZE 10 550 5.7.1 no");
        assert_eq!(reply.lines().collect::<Vec<_>>(), ["mail.example", "SIZE 10", "5.7.1 no"]);
    }

    #[test]
    fn enhanced_codes_must_fit() {
        for (line, status) in [
            ("550 5.1.1 no", "5.1.1"),
            ("550 2.1.1 no", "5.0.0"),
            ("450 4.1 no", "4.0.0"),
            ("250", "2.0.0"),
            ("354 go", "5.5.0"),
            ("999 x", "5.5.0"),
            ("250 2.0.0", "2.0.0"),
        ] {
            assert_eq!(read(&[line]).unwrap().status, status, "{line}");
        }
    }

    #[test]
    fn garbage_is_text_and_ends_nothing() {
        let reply = read(&["hello", "2500 x", "25 x", "250x", "220 \u{7}ok"]).unwrap();
        assert_eq!((reply.code, reply.garbage), (220, 4));
        assert_eq!(reply.one_line(), "hello 2500 x 25 x 250x 220 ?ok");
        assert_eq!(read(&["550 5.1.1 a\0b"]).unwrap().text, "550 5.1.1 a");
        let mut reader = ReplyReader::default();
        let reply = reader.line(b"220 caf\xe9 \xc3\xa9\r\r").unwrap().unwrap();
        assert_eq!(reply.text, "220 caf? \u{e9}");
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut reader = ReplyReader::default();
        let long = format!("250-{}", "x".repeat(2000));
        let ended = (0..2000).find_map(|_| reader.line(long.as_bytes()).err());
        assert_eq!(ended, Some(TooManyLines));
        assert!(reader.text.len() < 2 * MAX_TEXT + 10);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line: Vec<u8>) {
            let _ = ReplyReader::default().line(&line);
        }
    }
}
