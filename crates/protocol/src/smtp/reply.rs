//! Replies of a server (RFC 5321 section 4.2), with enhanced codes as part of their text (RFC 2034).

use std::fmt;

/// A reply of one or more lines. No text holds a line ending: what would, is cut or blanked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// One line. `text` begins with the enhanced code where there is one: `2.1.0 Ok`.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: vec![clean(text.into())] }
    }

    /// Several lines, `250-first` to `250 last`. With none, one empty line.
    pub fn lines(code: u16, lines: impl IntoIterator<Item = String>) -> Self {
        let mut lines: Vec<String> = lines.into_iter().map(clean).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, lines }
    }

    /// Reads a complete reply text that an administrator or a neighbour wrote, such as `550 5.7.1 no` or
    /// several such lines. `None` when it does not begin with a 4xx or 5xx code.
    #[must_use]
    pub fn from_rejection(text: &str) -> Option<Self> {
        let code = text.get(..3)?.parse::<u16>().ok().filter(|code| (400..600).contains(code))?;
        if !matches!(text.as_bytes().get(3), None | Some(b' ' | b'-')) {
            return None;
        }
        let lines = text.split("\r\n").filter(|line| !line.is_empty()).map(|line| {
            let rest = line.get(3..).unwrap_or_default();
            rest.strip_prefix([' ', '-']).unwrap_or(rest).to_owned()
        });
        Some(Self::lines(code, lines))
    }

    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The text of each line, without its code.
    #[must_use]
    pub fn text(&self) -> &[String] {
        &self.lines
    }

    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// A permanent failure as a temporary one, for `soft_bounce`.
    #[must_use]
    pub fn softened(mut self) -> Self {
        if (500..600).contains(&self.code) {
            self.code -= 100;
            for line in &mut self.lines {
                if line.starts_with("5.") {
                    line.replace_range(..1, "4");
                }
            }
        }
        self
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (position, line) in self.lines.iter().enumerate() {
            let separator = if position + 1 < self.lines.len() { '-' } else { ' ' };
            bytes.extend_from_slice(format!("{}{separator}{line}\r\n", self.code).as_bytes());
        }
        bytes
    }
}

/// As in a log line: lines joined by CRLF would tear it, so by `\n`'s place a blank.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" "))
    }
}

fn clean(mut text: String) -> String {
    if text.contains(['\r', '\n', '\0']) {
        text = text.replace(['\r', '\n', '\0'], " ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_cannot_be_split() {
        let reply = Reply::new(250, "2.1.5 Ok\r\n250 more");
        assert_eq!(reply.to_bytes(), b"250 2.1.5 Ok  250 more\r\n");
    }

    #[test]
    fn several_lines_are_joined_by_hyphens() {
        let reply = Reply::lines(250, ["mail.example".to_owned(), "SIZE 10".into(), "DSN".into()]);
        assert_eq!(reply.to_bytes(), b"250-mail.example\r\n250-SIZE 10\r\n250 DSN\r\n");
    }

    #[test]
    fn rejections_of_neighbours_are_checked() {
        let text = |text| Reply::from_rejection(text).map(|reply| reply.to_bytes());
        assert_eq!(text("550 5.7.1 no").as_deref(), Some(&b"550 5.7.1 no\r\n"[..]));
        assert_eq!(text("550-a\r\n550 b\r\n").as_deref(), Some(&b"550-a\r\n550 b\r\n"[..]));
        assert_eq!(text("250 2.0.0 Ok"), None);
        assert_eq!(text("5.7.1 no"), None);
        assert_eq!(text("5500"), None);
        assert_eq!(text(""), None);
    }

    #[test]
    fn soft_bounces_change_both_codes() {
        assert_eq!(Reply::new(550, "5.1.1 no").softened().to_bytes(), b"450 4.1.1 no\r\n");
        assert_eq!(Reply::new(250, "2.0.0 Ok").softened().to_bytes(), b"250 2.0.0 Ok\r\n");
    }
}
