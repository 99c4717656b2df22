//! `APPEND mailbox [(flags)] [date] {size}` up to its message (RFC 3501 section 6.3.11).

use super::cursor::{Cursor, Syntax};
use super::date::DateTime;
use super::store::FlagWords;

/// What is known of a message before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub mailbox: Vec<u8>,
    pub flags: FlagWords,
    pub date: Option<DateTime>,
}

/// What a literal is that comes next in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An argument like any other.
    Argument,
    /// The message of an APPEND.
    Message,
    /// An APPEND whose arguments are wrong: the literal will be refused with it.
    Wrong,
}

/// What a literal after `before` is; `before` is a command without the literal's announcement.
#[must_use]
pub fn message_follows(before: &[u8]) -> Place {
    let mut cursor = Cursor::new(before);
    let is_append = cursor.atom().is_ok()
        && cursor.eat(b' ')
        && cursor.keyword().is_ok_and(|name| name == "APPEND");
    if !is_append {
        return Place::Argument;
    }
    if !cursor.more() {
        return Place::Argument; // the mailbox name itself
    }
    match Append::parse(&mut cursor) {
        Ok(_) => Place::Message,
        Err(_) => Place::Wrong,
    }
}

impl Append {
    /// Reads the arguments in front of the message.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] for the client.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let mailbox = cursor.astring()?.into_owned();
        let mut append = Self { mailbox, flags: FlagWords::default(), date: None };
        if cursor.more() && cursor.peek() == Some(b'(') {
            append.flags = FlagWords::parse_list(cursor)?;
            cursor.more();
        }
        if cursor.peek() == Some(b'"') {
            let text = cursor.string()?;
            let date = DateTime::parse(&text);
            append.date = Some(date.ok_or(Syntax::new("Invalid internal date"))?);
            cursor.skip_blanks();
        }
        cursor.end()?;
        Ok(append)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_told_from_other_literals() {
        for (before, expected) in [
            ("a NOOP ", Place::Argument),
            ("a APPEND ", Place::Argument),
            ("a append INBOX ", Place::Message),
            ("a APPEND {2}\r\nin ", Place::Message),
            ("a APPEND in (\\Seen $a) \"01-Jan-2020 10:11:12 +0100\" ", Place::Message),
            ("a APPEND in () ", Place::Message),
            ("a APPEND in \"32-Jan-2020 10:11:12 +0100\" ", Place::Wrong),
            ("a APPEND in (\\Recent) ", Place::Wrong),
            ("a APPEND in (", Place::Wrong),
        ] {
            assert_eq!(message_follows(before.as_bytes()), expected, "{before}");
        }
    }
}
