//! Flags that a client sets: STORE and APPEND (RFC 3501 section 6.4.6).

use mail_types::{Flag, Flags};

use super::cursor::{Cursor, Syntax};

/// The flags of one command: system flags and keywords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagWords {
    pub flags: Flags,
    pub keywords: Vec<String>,
}

/// What happens to the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Replace,
    Add,
    Remove,
}

/// `STORE set [+|-]FLAGS[.SILENT] flags`, without its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub change: Change,
    pub silent: bool,
    pub words: FlagWords,
}

impl FlagWords {
    /// Reads `(\Seen keyword)`.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] for what cannot be set: `\Recent`, an unknown system flag.
    pub fn parse_list(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let mut words = Self::default();
        cursor.list(|cursor| words.add(cursor))?;
        Ok(words)
    }

    fn add(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Syntax> {
        let word = cursor.atom()?;
        if !word.starts_with('\\') {
            if !self.keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)) {
                self.keywords.push(word.to_owned());
            }
            return Ok(());
        }
        match Flag::from_name(word.as_bytes()) {
            Some(flag) => self.flags = self.flags.with(flag),
            None => {
                let word = word.to_ascii_uppercase();
                return Err(Syntax::about(format!("Invalid system flag {word}")));
            }
        }
        Ok(())
    }

    /// Whether a keyword holds a character that no keyword may have.
    #[must_use]
    pub fn has_bad_keyword(&self) -> bool {
        let bad = |byte: u8| !(0x21..0x7f).contains(&byte) || b"(){%*\"\\]".contains(&byte);
        self.keywords.iter().any(|keyword| keyword.bytes().any(bad))
    }
}

impl Store {
    /// # Errors
    ///
    /// A [`Syntax`] for the client.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let word = cursor.keyword()?;
        let (change, item) = match word.split_at_checked(1) {
            Some(("+", item)) => (Change::Add, item),
            Some(("-", item)) => (Change::Remove, item),
            _ => (Change::Replace, word.as_str()),
        };
        let silent = match item {
            "FLAGS" => false,
            "FLAGS.SILENT" => true,
            _ => return Err(Syntax::INVALID),
        };
        cursor.blank()?;
        let mut words = FlagWords::default();
        if cursor.peek() == Some(b'(') {
            words = FlagWords::parse_list(cursor)?;
        } else {
            words.add(cursor)?;
            while cursor.more() {
                words.add(cursor)?;
            }
        }
        cursor.end()?;
        Ok(Self { change, silent, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_with_and_without_parentheses() {
        for text in ["+FLAGS.SILENT (\\Seen $a \\deleted)", "+flags.silent \\seen $a \\Deleted"] {
            let store = Store::parse(&mut Cursor::new(text.as_bytes())).unwrap();
            assert!(store.silent && store.change == Change::Add);
            assert_eq!(store.words.flags, [Flag::Seen, Flag::Deleted].into_iter().collect());
            assert_eq!(store.words.keywords, ["$a"]);
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        for (text, reason) in [
            ("FLAGS (\\Recent)", "Invalid system flag \\RECENT"),
            ("FLAGS (\\Foo)", "Invalid system flag \\FOO"),
            ("FOO (a)", "Invalid arguments"),
            ("FLAGS (a", "Missing ')'"),
            ("FLAGS", "Invalid arguments"),
        ] {
            let error = Store::parse(&mut Cursor::new(text.as_bytes())).unwrap_err();
            assert_eq!(error.0, reason, "{text}");
        }
        let store = Store::parse(&mut Cursor::new(b"FLAGS (a]b)")).unwrap();
        assert!(store.words.has_bad_keyword());
    }
}
