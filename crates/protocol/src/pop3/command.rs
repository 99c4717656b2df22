//! One command line, read as Dovecot reads it: names in any case, blanks before the arguments skipped.

/// A command before the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    Capa,
    Quit,
    Stls,
    User(&'a [u8]),
    Pass(&'a [u8]),
    Apop,
    /// Without a mechanism: list them. The initial response is as the client wrote it.
    Auth {
        mechanism: Option<&'a str>,
        initial: Option<&'a str>,
    },
    Unknown,
}

/// A command after the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    Capa,
    Stat,
    /// `None`: all messages.
    List(Option<MessageNumber>),
    Uidl(Option<MessageNumber>),
    Retr(MessageNumber),
    Top {
        message: MessageNumber,
        lines: Result<u64, BadArgument>,
    },
    Dele(MessageNumber),
    Last,
    Noop,
    Rset,
    Quit,
    /// The name in upper case.
    Unknown(String),
}

/// A message's number, counted from 1 and not yet compared with the mailbox.
pub type MessageNumber = Result<u32, BadArgument>;

/// An argument that is no number, in Dovecot's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArgument {
    #[error("Invalid message number: {0}")]
    InvalidNumber(String),
    #[error("Message number too large: {0}")]
    NumberTooLarge(String),
    #[error("Noise after message number: {0}")]
    NoiseAfterNumber(String),
    #[error("Invalid size: {0}")]
    InvalidSize(String),
    #[error("Size too large: {0}")]
    SizeTooLarge(String),
    #[error("Noise after size: {0}")]
    NoiseAfterSize(String),
}

fn split(line: &[u8]) -> (String, &[u8]) {
    let at = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    let (name, rest) = line.split_at(at);
    let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
    (String::from_utf8_lossy(name).to_ascii_uppercase(), &rest[blanks..])
}

impl<'a> Login<'a> {
    /// Reads a line without its CRLF.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Self {
        let (name, arguments) = split(line);
        match name.as_str() {
            "CAPA" => Self::Capa,
            "QUIT" => Self::Quit,
            "STLS" => Self::Stls,
            "USER" => Self::User(arguments),
            "PASS" => Self::Pass(arguments),
            "APOP" => Self::Apop,
            "AUTH" => {
                let text = std::str::from_utf8(arguments).unwrap_or("\u{fffd}");
                let mut words = text.split(' ').filter(|word| !word.is_empty());
                Self::Auth { mechanism: words.next(), initial: words.next() }
            }
            _ => Self::Unknown,
        }
    }
}

impl Transaction {
    /// Reads a line without its CRLF.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let (name, arguments) = split(line);
        let arguments = String::from_utf8_lossy(arguments);
        let optional = || (!arguments.is_empty()).then(|| message(&arguments));
        match name.as_str() {
            "CAPA" => Self::Capa,
            "STAT" => Self::Stat,
            "LIST" => Self::List(optional()),
            "UIDL" => Self::Uidl(optional()),
            "RETR" => Self::Retr(message(&arguments)),
            "TOP" => match number(&arguments) {
                Number::Is(number, rest) if rest.starts_with(' ') => {
                    Self::Top { message: Ok(number), lines: size(rest.trim_start_matches(' ')) }
                }
                Number::Is(_, rest) => {
                    let noise = BadArgument::NoiseAfterNumber(shown(rest));
                    Self::Top { message: Err(noise), lines: Ok(0) }
                }
                Number::TooLarge(rest) => {
                    let large = BadArgument::NumberTooLarge(shown(rest));
                    Self::Top { message: Err(large), lines: Ok(0) }
                }
                Number::None => {
                    let invalid = BadArgument::InvalidNumber(shown(&arguments));
                    Self::Top { message: Err(invalid), lines: Ok(0) }
                }
            },
            "DELE" => Self::Dele(message(&arguments)),
            "LAST" => Self::Last,
            "NOOP" => Self::Noop,
            "RSET" => Self::Rset,
            "QUIT" => Self::Quit,
            _ => Self::Unknown(shown(&name)),
        }
    }
}

enum Number<'t, T> {
    Is(T, &'t str),
    TooLarge(&'t str),
    None,
}

fn number<T: std::str::FromStr>(text: &str) -> Number<'_, T> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Number::None;
    }
    digits.parse().map_or(Number::TooLarge(rest), |number| Number::Is(number, rest))
}

fn message(text: &str) -> MessageNumber {
    match number(text) {
        Number::Is(number, "") => Ok(number),
        Number::Is(_, rest) => Err(BadArgument::NoiseAfterNumber(shown(rest))),
        Number::TooLarge(rest) => Err(BadArgument::NumberTooLarge(shown(rest))),
        Number::None => Err(BadArgument::InvalidNumber(shown(text))),
    }
}

fn size(text: &str) -> Result<u64, BadArgument> {
    match number(text) {
        Number::Is(number, "") => Ok(number),
        Number::Is(_, rest) => Err(BadArgument::NoiseAfterSize(shown(rest))),
        Number::TooLarge(_) => Err(BadArgument::SizeTooLarge(shown(text))),
        Number::None => Err(BadArgument::InvalidSize(shown(text))),
    }
}

/// What is said back to the client: no control bytes, and not endlessly.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_before_the_login() {
        for (line, command) in [
            ("capa", Login::Capa),
            ("USER  taro", Login::User(b"taro")),
            ("PASS a b c ", Login::Pass(b"a b c ")),
            ("PASS", Login::Pass(b"")),
            ("AUTH", Login::Auth { mechanism: None, initial: None }),
            ("AUTH plain AGFi", Login::Auth { mechanism: Some("plain"), initial: Some("AGFi") }),
            ("auth PLAIN", Login::Auth { mechanism: Some("PLAIN"), initial: None }),
            ("STLS", Login::Stls),
            ("quit", Login::Quit),
            ("APOP x 00", Login::Apop),
            ("STAT", Login::Unknown),
            ("", Login::Unknown),
        ] {
            assert_eq!(Login::parse(line.as_bytes()), command, "{line}");
        }
    }

    #[test]
    fn commands_after_the_login() {
        for (line, command) in [
            ("list", Transaction::List(None)),
            ("LIST 1", Transaction::List(Some(Ok(1)))),
            ("RETR 12", Transaction::Retr(Ok(12))),
            ("TOP 1 0", Transaction::Top { message: Ok(1), lines: Ok(0) }),
            ("TOP 1  7", Transaction::Top { message: Ok(1), lines: Ok(7) }),
            ("XTND x", Transaction::Unknown("XTND".into())),
            ("last", Transaction::Last),
        ] {
            assert_eq!(Transaction::parse(line.as_bytes()), command, "{line}");
        }
    }

    #[test]
    fn bad_numbers_are_told_in_dovecots_words() {
        let retr = |line: &str| match Transaction::parse(line.as_bytes()) {
            Transaction::Retr(Err(bad)) | Transaction::Top { message: Err(bad), .. } => {
                bad.to_string()
            }
            Transaction::Top { lines: Err(bad), .. } => bad.to_string(),
            other => format!("{other:?}"),
        };
        for (line, text) in [
            ("RETR", "Invalid message number: "),
            ("RETR x", "Invalid message number: x"),
            ("RETR -1", "Invalid message number: -1"),
            ("RETR 99999999999", "Message number too large: "),
            ("RETR 1 2", "Noise after message number:  2"),
            ("TOP 1", "Noise after message number: "),
            ("TOP 1 x", "Invalid size: x"),
            ("TOP 1 2 3", "Noise after size:  3"),
            ("TOP 1 99999999999999999999999", "Size too large: 99999999999999999999999"),
        ] {
            assert_eq!(retr(line), text, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in any::<Vec<u8>>()) {
            let _ = (Login::parse(&line), Transaction::parse(&line));
        }
    }
}
