//! LIST with its extensions, LSUB and STATUS (RFC 3501, RFC 5258, RFC 5819, RFC 6154, RFC 8438).

use super::cursor::{Cursor, Syntax};

/// What a client wants to see of the mailbox tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub reference: String,
    pub patterns: Vec<String>,
    pub select: Select,
    /// `RETURN (...)`; the plain LIST asks for the children attributes by itself.
    pub returns: Returns,
    /// A selection or `RETURN` was written: the answers follow RFC 5258.
    pub extended: bool,
}

/// Which mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Select {
    pub subscribed: bool,
    pub remote: bool,
    pub recursive_match: bool,
    pub special_use: bool,
}

/// What is told of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    pub subscribed: bool,
    pub children: bool,
    pub special_use: bool,
    pub status: Vec<StatusItem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Size,
}

impl StatusItem {
    /// Every item, in the order in which Dovecot answers.
    pub const ALL: [Self; 6] =
        [Self::Messages, Self::Recent, Self::UidNext, Self::UidValidity, Self::Unseen, Self::Size];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Size => "SIZE",
        }
    }
}

/// Patterns of one LIST.
const MOST_PATTERNS: usize = 100;

/// A mailbox name as text. Octets that are no UTF-8 become a character that no valid name holds.
#[must_use]
pub fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads `(MESSAGES UNSEEN)`.
///
/// # Errors
///
/// A [`Syntax`] for the client.
pub fn status_items(cursor: &mut Cursor<'_>) -> Result<Vec<StatusItem>, Syntax> {
    let mut asked = Vec::new();
    cursor.list(|cursor| {
        let word = cursor.keyword()?;
        let item = StatusItem::ALL.into_iter().find(|item| item.name() == word);
        let item = item.ok_or_else(|| Syntax::about(format!("Invalid status item {word}")))?;
        if !asked.contains(&item) {
            asked.push(item);
        }
        Ok(())
    })?;
    if asked.is_empty() {
        return Err(Syntax::new("Empty status list"));
    }
    asked.sort_by_key(|item| StatusItem::ALL.iter().position(|other| other == item));
    Ok(asked)
}

impl List {
    /// Reads the arguments of LIST.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] for the client.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let mut list = Self::default();
        if cursor.peek() == Some(b'(') {
            list.extended = true;
            list.select = Select::parse(cursor)?;
            cursor.blank()?;
        }
        list.reference = name(&cursor.astring()?);
        cursor.blank()?;
        if cursor.peek() == Some(b'(') {
            list.extended = true;
            list.patterns = cursor.list(|cursor| Ok(name(&cursor.astring()?)))?;
            if list.patterns.len() > MOST_PATTERNS {
                return Err(Syntax::new("Too many patterns"));
            }
        } else {
            list.patterns.push(name(&cursor.astring()?));
        }
        if cursor.more() {
            list.extended = true;
            if cursor.keyword()? != "RETURN" {
                return Err(Syntax::INVALID);
            }
            cursor.blank()?;
            list.returns = Returns::parse(cursor)?;
        }
        cursor.end()?;
        // What was selected by is told as well (RFC 5258 section 3.1, RFC 6154 section 2).
        list.returns.subscribed |= list.select.subscribed;
        list.returns.special_use |= list.select.special_use;
        Ok(list)
    }

    /// Reads the two arguments of LSUB.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] for the client.
    pub fn parse_lsub(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let reference = name(&cursor.astring()?);
        cursor.blank()?;
        let pattern = name(&cursor.astring()?);
        cursor.end()?;
        Ok(Self { reference, patterns: vec![pattern], ..Self::default() })
    }
}

impl Select {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let mut select = Self::default();
        cursor.list(|cursor| {
            match cursor.keyword()?.as_str() {
                "SUBSCRIBED" => select.subscribed = true,
                "REMOTE" => select.remote = true,
                "RECURSIVEMATCH" => select.recursive_match = true,
                "SPECIAL-USE" => select.special_use = true,
                _ => return Err(Syntax::new("Unknown select options")),
            }
            Ok(())
        })?;
        if select.recursive_match && !select.subscribed && !select.special_use {
            return Err(Syntax::new("RECURSIVEMATCH must not be the only selection."));
        }
        Ok(select)
    }
}

impl Returns {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let mut returns = Self::default();
        cursor.list(|cursor| {
            match cursor.keyword()?.as_str() {
                "SUBSCRIBED" => returns.subscribed = true,
                "CHILDREN" => returns.children = true,
                "SPECIAL-USE" => returns.special_use = true,
                "STATUS" => {
                    cursor.blank()?;
                    returns.status = status_items(cursor)?;
                }
                _ => return Err(Syntax::new("Unknown return options")),
            }
            Ok(())
        })?;
        Ok(returns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<List, String> {
        List::parse(&mut Cursor::new(text.as_bytes())).map_err(|error| error.0.into_owned())
    }

    #[test]
    fn plain_and_extended_forms() {
        let list = read("\"\" *").unwrap();
        assert!(!list.extended && list.patterns == ["*"]);
        let list = read("(SUBSCRIBED) \"\" (a* b.%) RETURN (CHILDREN STATUS (UNSEEN MESSAGES))");
        let list = list.unwrap();
        assert!(list.extended && list.select.subscribed && list.returns.subscribed);
        assert_eq!(list.patterns, ["a*", "b.%"]);
        assert_eq!(list.returns.status, [StatusItem::Messages, StatusItem::Unseen]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("\"\"", "Invalid arguments"),
            ("(FOO) \"\" *", "Unknown select options"),
            ("\"\" * RETURN (FOO)", "Unknown return options"),
            ("\"\" * FOO", "Invalid arguments"),
            ("\"\" * RETURN (STATUS ())", "Empty status list"),
            ("\"\" * RETURN (STATUS (X))", "Invalid status item X"),
            ("(RECURSIVEMATCH) \"\" *", "RECURSIVEMATCH must not be the only selection."),
        ] {
            assert_eq!(read(text), Err(reason.into()), "{text}");
        }
    }
}
