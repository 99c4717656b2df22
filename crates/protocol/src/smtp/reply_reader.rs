//! Replies as a client receives them, from a server that may be hostile.

use super::Reply;

/// The most lines one reply may have, and the most octets in a line, before we give up on the server.
const MAX_LINES: usize = 200;
const MAX_LINE: usize = 4096;

/// A reply that has arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedReply {
    pub code: u16,
    /// Text of each line without its code; octets that are not UTF-8 have been replaced.
    pub lines: Vec<String>,
}

impl ReceivedReply {
    /// `x.y.z` at the beginning of the first line, if its class fits the code (RFC 2034 section 4).
    #[must_use]
    pub fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut parts = word.split('.');
        let class = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let number =
            |text: &&str| (1..=3).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        let fits = class.parse::<u16>().ok() == Some(self.code / 100);
        (fits && rest.len() == 2 && rest.iter().all(number)).then_some(word)
    }
}

impl From<ReceivedReply> for Reply {
    fn from(received: ReceivedReply) -> Self {
        Self::lines(received.code, received.lines)
    }
}

/// The server does not speak SMTP, or speaks too much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    #[error("reply line without a three-digit code")]
    NoCode,
    #[error("reply line too long")]
    LineTooLong,
    #[error("reply has too many lines")]
    TooManyLines,
}

/// Collects one reply from bytes as they come.
#[derive(Debug, Default)]
pub struct ReplyReader {
    line: Vec<u8>,
    lines: Vec<String>,
}

impl ReplyReader {
    /// Takes bytes up to the end of one reply. Says how many were used, and the reply when it is complete; what
    /// is left belongs to the next one. As Postfix does, the code of the last line counts.
    ///
    /// # Errors
    ///
    /// [`BadReply`]: the conversation cannot go on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<ReceivedReply>), BadReply> {
        for (position, &byte) in bytes.iter().enumerate() {
            if byte != b'\n' {
                if self.line.len() >= MAX_LINE {
                    return Err(BadReply::LineTooLong);
                }
                self.line.push(byte);
                continue;
            }
            if let Some(reply) = self.end_of_line()? {
                return Ok((position + 1, Some(reply)));
            }
        }
        Ok((bytes.len(), None))
    }

    fn end_of_line(&mut self) -> Result<Option<ReceivedReply>, BadReply> {
        let mut line = std::mem::take(&mut self.line);
        while line.last() == Some(&b'\r') {
            line.pop();
        }
        let code = line
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u16>().ok())
            .filter(|code| (200..600).contains(code))
            .ok_or(BadReply::NoCode)?;
        let (more, text) = match line.get(3..).unwrap_or_default() {
            [b'-', text @ ..] => (true, text),
            [b' ', text @ ..] | text @ [] => (false, text),
            _ => return Err(BadReply::NoCode),
        };
        self.lines.push(String::from_utf8_lossy(text).into_owned());
        if more {
            return if self.lines.len() >= MAX_LINES {
                Err(BadReply::TooManyLines)
            } else {
                Ok(None)
            };
        }
        Ok(Some(ReceivedReply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<ReceivedReply>, BadReply> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            let mut rest = piece;
            while !rest.is_empty() {
                let (used, reply) = reader.feed(rest)?;
                replies.extend(reply);
                rest = &rest[used..];
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_read_across_lines() {
        let replies =
            all(b"250-mail.example\r\n250 DSN\r\n354 go\n221\r\n", 7).expect("three replies");
        assert_eq!(replies.iter().map(|reply| reply.code).collect::<Vec<_>>(), [250, 354, 221]);
        assert_eq!(replies[0].lines, ["mail.example", "DSN"]);
    }

    #[test]
    fn enhanced_codes_must_fit() {
        let enhanced = |code, text: &str| {
            let reply = ReceivedReply { code, lines: vec![text.to_owned()] };
            reply.enhanced().map(str::to_owned)
        };
        assert_eq!(enhanced(550, "5.1.1 no").as_deref(), Some("5.1.1"));
        assert_eq!(enhanced(550, "2.1.1 no"), None);
        assert_eq!(enhanced(550, "5.1 no"), None);
        assert_eq!(enhanced(550, "no"), None);
    }

    #[test]
    fn hostile_servers_are_bounded() {
        assert_eq!(all(b"hello\r\n", 1), Err(BadReply::NoCode));
        assert_eq!(all(b"2500 x\r\n", 1), Err(BadReply::NoCode));
        assert_eq!(all(b"999 x\r\n", 1), Err(BadReply::NoCode));
        assert_eq!(all(&b"250-x\r\n".repeat(1000), 100), Err(BadReply::TooManyLines));
        assert_eq!(all(&[b'2'; 5000], 100), Err(BadReply::LineTooLong));
    }

    proptest! {
        #[test]
        fn one_byte_at_a_time_is_all_at_once(
            bytes in proptest::collection::vec(prop_oneof![Just(b'2'), Just(b'5'), Just(b'0'), Just(b'-'), Just(b' '), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)
        ) {
            prop_assert_eq!(all(&bytes, 1), all(&bytes, bytes.len()));
        }
    }
}
