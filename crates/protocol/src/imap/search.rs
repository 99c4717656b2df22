//! What SEARCH looks for (RFC 3501 section 6.4.4, RFC 4731, RFC 5032).

use mail_types::Flag;

use super::cursor::{Cursor, Syntax};
use super::date::Day;
use super::sequence::SequenceSet;

/// A SEARCH without its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// `RETURN (...)`: the answer is an ESEARCH.
    pub returns: Option<Returns>,
    /// Upper case; `None` for US-ASCII.
    pub charset: Option<String>,
    pub key: Key,
}

/// What an ESEARCH answer tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
}

/// Which of a message's dates is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOf {
    Received,
    Sent,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    All,
    Numbers(SequenceSet),
    Uids(SequenceSet),
    Flag(Flag),
    Recent,
    Keyword(String),
    Before(DateOf, Day),
    On(DateOf, Day),
    Since(DateOf, Day),
    /// Received more than so many seconds ago.
    Older(u32),
    /// Received at most so many seconds ago.
    Younger(u32),
    Larger(u64),
    Smaller(u64),
    /// A field of this name whose text contains this; an empty text means that the field exists.
    Header(String, Vec<u8>),
    Body(Vec<u8>),
    Text(Vec<u8>),
    Not(Box<Key>),
    Or(Box<Key>, Box<Key>),
    And(Vec<Key>),
}

/// Conditions within conditions. Dovecot has no bound but the length of the line; webmail nests one
/// level for each header and word it looks for.
const DEEPEST: usize = 200;

/// Reads everything behind `SEARCH`.
///
/// # Errors
///
/// A [`Syntax`] for the client.
pub fn parse(cursor: &mut Cursor<'_>) -> Result<Search, Syntax> {
    let mut returns = None;
    if next_word_is(cursor, "RETURN") {
        cursor.keyword()?;
        cursor.blank()?;
        returns = Some(returned(cursor)?);
        cursor.skip_blanks();
    }
    let mut charset = None;
    if next_word_is(cursor, "CHARSET") {
        cursor.keyword()?;
        cursor.blank()?;
        let name = cursor.astring()?;
        charset = Some(String::from_utf8_lossy(&name).to_ascii_uppercase());
        cursor.skip_blanks();
    }
    if cursor.rest().is_empty() {
        return Err(Syntax::new("Missing search parameters"));
    }
    let mut keys = vec![key(cursor, 0)?];
    while cursor.more() {
        keys.push(key(cursor, 0)?);
    }
    cursor.end()?;
    Ok(Search { returns, charset, key: all_of(keys) })
}

fn next_word_is(cursor: &Cursor<'_>, word: &str) -> bool {
    cursor.clone().keyword().is_ok_and(|found| found == word)
}

fn returned(cursor: &mut Cursor<'_>) -> Result<Returns, Syntax> {
    let mut returns = Returns::default();
    cursor.list(|cursor| {
        match cursor.keyword()?.as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            other => {
                return Err(Syntax::about(format!("Unknown SEARCH return options: {other}")));
            }
        }
        Ok(())
    })?;
    if returns == Returns::default() {
        returns.all = true; // RFC 4731 section 3.1
    }
    Ok(returns)
}

fn all_of(mut keys: Vec<Key>) -> Key {
    match keys.pop() {
        Some(only) if keys.is_empty() => only,
        Some(last) => {
            keys.push(last);
            Key::And(keys)
        }
        None => Key::All,
    }
}

fn key(cursor: &mut Cursor<'_>, depth: usize) -> Result<Key, Syntax> {
    if depth > DEEPEST {
        return Err(Syntax::new("Too many levels of search parameters"));
    }
    match cursor.peek() {
        Some(b'(') => {
            let keys = cursor.list(|cursor| key(cursor, depth + 1))?;
            if keys.is_empty() { Err(Syntax::INVALID) } else { Ok(all_of(keys)) }
        }
        Some(b'0'..=b'9' | b'*') => SequenceSet::parse(cursor).map(Key::Numbers),
        _ => {
            let word = cursor.keyword()?;
            match simple(&word) {
                Some(key) => Ok(key),
                None => with_arguments(cursor, &word, depth),
            }
        }
    }
}

/// The keys that stand alone.
fn simple(word: &str) -> Option<Key> {
    let not = |key| Key::Not(Box::new(key));
    Some(match word {
        "ALL" => Key::All,
        "ANSWERED" => Key::Flag(Flag::Answered),
        "DELETED" => Key::Flag(Flag::Deleted),
        "DRAFT" => Key::Flag(Flag::Draft),
        "FLAGGED" => Key::Flag(Flag::Flagged),
        "SEEN" => Key::Flag(Flag::Seen),
        "UNANSWERED" => not(Key::Flag(Flag::Answered)),
        "UNDELETED" => not(Key::Flag(Flag::Deleted)),
        "UNDRAFT" => not(Key::Flag(Flag::Draft)),
        "UNFLAGGED" => not(Key::Flag(Flag::Flagged)),
        "UNSEEN" => not(Key::Flag(Flag::Seen)),
        "RECENT" => Key::Recent,
        "OLD" => not(Key::Recent),
        "NEW" => Key::And(vec![Key::Recent, not(Key::Flag(Flag::Seen))]),
        _ => return None,
    })
}

fn with_arguments(cursor: &mut Cursor<'_>, word: &str, depth: usize) -> Result<Key, Syntax> {
    if !is_known(word) {
        return Err(Syntax::about(format!("Unknown argument {word}")));
    }
    if cursor.blank().is_err() {
        return Err(missing(word));
    }
    Ok(match word {
        "NOT" => Key::Not(Box::new(key(cursor, depth + 1)?)),
        "OR" => {
            let first = key(cursor, depth + 1)?;
            cursor.blank().map_err(|_| missing(word))?;
            Key::Or(Box::new(first), Box::new(key(cursor, depth + 1)?))
        }
        "UID" => Key::Uids(
            SequenceSet::parse(cursor).map_err(|_| Syntax::new("Invalid UID messageset"))?,
        ),
        "KEYWORD" | "UNKEYWORD" => {
            let keyword = Key::Keyword(cursor.atom()?.to_owned());
            if word == "KEYWORD" { keyword } else { Key::Not(Box::new(keyword)) }
        }
        "BEFORE" => Key::Before(DateOf::Received, date(cursor)?),
        "ON" => Key::On(DateOf::Received, date(cursor)?),
        "SINCE" => Key::Since(DateOf::Received, date(cursor)?),
        "SENTBEFORE" => Key::Before(DateOf::Sent, date(cursor)?),
        "SENTON" => Key::On(DateOf::Sent, date(cursor)?),
        "SENTSINCE" => Key::Since(DateOf::Sent, date(cursor)?),
        "OLDER" => Key::Older(interval(cursor)?),
        "YOUNGER" => Key::Younger(interval(cursor)?),
        "LARGER" => Key::Larger(size(cursor)?),
        "SMALLER" => Key::Smaller(size(cursor)?),
        "HEADER" => {
            let name = String::from_utf8_lossy(&cursor.astring()?).into_owned();
            cursor.blank().map_err(|_| missing(word))?;
            Key::Header(name, cursor.astring()?.into_owned())
        }
        "BODY" => Key::Body(cursor.astring()?.into_owned()),
        "TEXT" => Key::Text(cursor.astring()?.into_owned()),
        field => Key::Header(field.to_owned(), cursor.astring()?.into_owned()),
    })
}

fn missing(word: &str) -> Syntax {
    match word {
        "NOT" | "OR" => Syntax::new("Missing argument"),
        _ => Syntax::about(format!("Missing parameter for search key (for search key: {word})")),
    }
}

fn is_known(word: &str) -> bool {
    const WITH_ARGUMENTS: [&str; 23] = [
        "NOT",
        "OR",
        "UID",
        "KEYWORD",
        "UNKEYWORD",
        "BEFORE",
        "ON",
        "SINCE",
        "SENTBEFORE",
        "SENTON",
        "SENTSINCE",
        "OLDER",
        "YOUNGER",
        "LARGER",
        "SMALLER",
        "HEADER",
        "BODY",
        "TEXT",
        "FROM",
        "TO",
        "CC",
        "BCC",
        "SUBJECT",
    ];
    WITH_ARGUMENTS.contains(&word)
}

fn date(cursor: &mut Cursor<'_>) -> Result<Day, Syntax> {
    Day::parse(&cursor.astring()?).ok_or(Syntax::new("Invalid search date parameter"))
}

fn size(cursor: &mut Cursor<'_>) -> Result<u64, Syntax> {
    cursor.number().map_err(|_| Syntax::new("Invalid search size parameter"))
}

fn interval(cursor: &mut Cursor<'_>) -> Result<u32, Syntax> {
    let seconds = cursor.number().ok().filter(|&seconds| seconds > 0);
    seconds.ok_or(Syntax::new("Invalid search interval parameter"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Search, String> {
        parse(&mut Cursor::new(text.as_bytes())).map_err(|error| error.0.into_owned())
    }

    #[test]
    fn keys_are_read() {
        let seen = || Box::new(Key::Flag(Flag::Seen));
        for (text, expected) in [
            ("ALL", Key::All),
            ("unseen", Key::Not(seen())),
            ("SEEN DELETED", Key::And(vec![*seen(), Key::Flag(Flag::Deleted)])),
            ("OR SEEN NOT SEEN", Key::Or(seen(), Box::new(Key::Not(seen())))),
            ("((SEEN))", *seen()),
            ("SUBJECT \"a b\"", Key::Header("SUBJECT".into(), b"a b".to_vec())),
            ("HEADER X-A \"\"", Key::Header("X-A".into(), vec![])),
            ("BEFORE 2-Jan-1970", Key::Before(DateOf::Received, Day(1))),
            ("SENTON \"2-jan-1970\"", Key::On(DateOf::Sent, Day(1))),
            ("LARGER 5000000000", Key::Larger(5_000_000_000)),
            ("KEYWORD $Junk", Key::Keyword("$Junk".into())),
            ("YOUNGER 60", Key::Younger(60)),
        ] {
            assert_eq!(read(text).map(|search| search.key), Ok(expected), "{text}");
        }
        let search = read("RETURN (MIN COUNT) CHARSET utf-8 TEXT {2+}\r\n\u{e9} UID 1:*").unwrap();
        assert_eq!(search.returns, Some(Returns { min: true, count: true, ..Returns::default() }));
        assert_eq!(search.charset.as_deref(), Some("UTF-8"));
        assert!(read("RETURN () ALL").unwrap().returns.unwrap().all);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("", "Missing search parameters"),
            ("FOO", "Unknown argument FOO"),
            ("OR SEEN", "Missing argument"),
            ("SUBJECT", "Missing parameter for search key (for search key: SUBJECT)"),
            ("BEFORE foo", "Invalid search date parameter"),
            ("LARGER abc", "Invalid search size parameter"),
            ("(SEEN", "Missing ')'"),
            ("SEEN)", "Unexpected ')'"),
            ("()", "Invalid arguments"),
            ("RETURN (FOO) ALL", "Unknown SEARCH return options: FOO"),
        ] {
            assert_eq!(read(text), Err(reason.into()), "{text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = "Too many levels of search parameters";
        for (text, fine) in [
            (format!("{}ALL{}", "(".repeat(150), ")".repeat(150)), true),
            (format!("{}ALL{}", "(".repeat(10_000), ")".repeat(10_000)), false),
            (format!("{}ALL", "NOT ".repeat(10_000)), false),
            (format!("{}ALL", "OR ALL ".repeat(10_000)), false),
            (vec!["ALL"; 10_000].join(" "), true),
        ] {
            match read(&text) {
                Ok(_) => assert!(fine),
                Err(reason) => assert!(!fine && reason == deep, "{reason}"),
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_nothing_worse(text in "([ ()a-z0-9\"]|OR |NOT |UID |TEXT ){0,40}") {
            let _ = read(&text);
        }
    }
}
