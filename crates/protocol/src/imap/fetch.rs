//! What FETCH asks for (RFC 3501 section 6.4.5).

use super::cursor::{Cursor, Syntax};

/// One item of a FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Uid,
    Flags,
    InternalDate,
    Size,
    Envelope,
    /// `BODY` without brackets: the structure without its extension data.
    Body,
    BodyStructure,
    Section(Section),
}

/// A part of the message that is sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// How the answer calls it: `BODY[1.HEADER.FIELDS (FROM)]<0>`, `RFC822`.
    pub label: String,
    /// `BODY[...]` sets `\Seen`; `BODY.PEEK[...]` and `RFC822.HEADER` do not.
    pub sets_seen: bool,
    /// The MIME part; empty for the message itself.
    pub part: Vec<u32>,
    pub text: Text,
    /// First octet and most octets, of `<first.most>`.
    pub partial: Option<(u64, u64)>,
}

/// Which text of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// The whole message, or the body of a part.
    All,
    Header,
    /// The header fields of these names, upper case; all but them when `except`.
    Fields {
        names: Vec<String>,
        except: bool,
    },
    /// The body of the message, or of an attached one.
    Body,
    /// The MIME header of a part.
    Mime,
}

/// Parts within parts that a client may ask for.
const DEEPEST_PART: usize = 100;
/// Items of one FETCH, and header names of one section.
const MOST_WORDS: usize = 1000;

const BAD_SECTION: Syntax = Syntax::new("Invalid BODY[..] section");

/// Reads one item, a macro, or a list of items.
///
/// # Errors
///
/// A [`Syntax`] for the client.
pub fn parse(cursor: &mut Cursor<'_>) -> Result<Vec<Item>, Syntax> {
    let mut items = Vec::new();
    if cursor.peek() == Some(b'(') {
        cursor.list(|cursor| item(cursor, &mut items))?;
    } else {
        item(cursor, &mut items)?;
    }
    cursor.end()?;
    if items.is_empty() { Err(Syntax::INVALID) } else { Ok(items) }
}

fn item(cursor: &mut Cursor<'_>, items: &mut Vec<Item>) -> Result<(), Syntax> {
    let word = cursor.run(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    let name = String::from_utf8_lossy(word).to_ascii_uppercase();
    let whole = |text, sets_seen| {
        let label = name.clone();
        Item::Section(Section { label, sets_seen, part: Vec::new(), text, partial: None })
    };
    let found = match name.as_str() {
        "BODY" | "BODY.PEEK" if cursor.eat(b'[') => Item::Section(section(cursor, name == "BODY")?),
        "UID" => Item::Uid,
        "FLAGS" => Item::Flags,
        "INTERNALDATE" => Item::InternalDate,
        "RFC822.SIZE" => Item::Size,
        "ENVELOPE" => Item::Envelope,
        "BODY" => Item::Body,
        "BODYSTRUCTURE" => Item::BodyStructure,
        "RFC822" => whole(Text::All, true),
        "RFC822.HEADER" => whole(Text::Header, false),
        "RFC822.TEXT" => whole(Text::Body, true),
        "ALL" | "FAST" | "FULL" => {
            items.extend([Item::Flags, Item::InternalDate, Item::Size]);
            match name.as_str() {
                "FAST" => return Ok(()),
                "ALL" => Item::Envelope,
                _ => {
                    items.push(Item::Envelope);
                    Item::Body
                }
            }
        }
        "" => return Err(Syntax::INVALID),
        _ => return Err(Syntax::about(format!("Unknown parameter: {name}"))),
    };
    if items.len() >= MOST_WORDS {
        return Err(Syntax::new("Too many items"));
    }
    if !items.contains(&found) {
        items.push(found);
    }
    Ok(())
}

/// The inside of `BODY[...]` and what follows it.
fn section(cursor: &mut Cursor<'_>, sets_seen: bool) -> Result<Section, Syntax> {
    let mut part = Vec::new();
    while cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        part.push(cursor.number().map_err(|_| BAD_SECTION)?);
        if part.len() > DEEPEST_PART || (!cursor.eat(b'.') && cursor.peek() != Some(b']')) {
            return Err(BAD_SECTION);
        }
    }
    let word = cursor.run(|byte| byte.is_ascii_alphabetic() || byte == b'.');
    let word = String::from_utf8_lossy(word).to_ascii_uppercase();
    let text = match word.as_str() {
        "" => Text::All,
        "HEADER" => Text::Header,
        "TEXT" => Text::Body,
        "MIME" if !part.is_empty() => Text::Mime,
        "HEADER.FIELDS" | "HEADER.FIELDS.NOT" => {
            cursor.blank().map_err(|_| BAD_SECTION)?;
            let names = cursor.list(|cursor| {
                let name = cursor.astring().map_err(|_| BAD_SECTION)?;
                let name = String::from_utf8_lossy(&name).to_ascii_uppercase();
                let sound =
                    !name.is_empty() && name.bytes().all(|byte| byte > 0x20 && byte != b':');
                if sound { Ok(name) } else { Err(BAD_SECTION) }
            })?;
            if names.is_empty() || names.len() > MOST_WORDS {
                return Err(BAD_SECTION);
            }
            Text::Fields { names, except: word == "HEADER.FIELDS.NOT" }
        }
        _ => return Err(BAD_SECTION),
    };
    if !cursor.eat(b']') {
        return Err(BAD_SECTION);
    }
    let partial = partial(cursor)?;
    let label = label(&part, &word, &text, partial);
    Ok(Section { label, sets_seen, part, text, partial })
}

fn partial(cursor: &mut Cursor<'_>) -> Result<Option<(u64, u64)>, Syntax> {
    const WRONG: Syntax = Syntax::new("Invalid BODY[..] parameter");
    if !cursor.eat(b'<') {
        return Ok(None);
    }
    let first = cursor.number().map_err(|_| WRONG)?;
    let most = if cursor.eat(b'.') { cursor.number().map_err(|_| WRONG)? } else { u64::MAX };
    if most == 0 || !cursor.eat(b'>') {
        return Err(WRONG);
    }
    Ok(Some((first, most)))
}

fn label(part: &[u32], word: &str, text: &Text, partial: Option<(u64, u64)>) -> String {
    let mut label = String::from("BODY[");
    let numbers: Vec<String> = part.iter().map(u32::to_string).collect();
    label.push_str(&numbers.join("."));
    if !part.is_empty() && !word.is_empty() {
        label.push('.');
    }
    label.push_str(word);
    if let Text::Fields { names, .. } = text {
        let mut written = Vec::new();
        for name in names {
            written.push(b' ');
            super::write::astring(&mut written, name.as_bytes());
        }
        let names = String::from_utf8_lossy(&written);
        label.push_str(&format!(" ({})", names.trim_start()));
    }
    label.push(']');
    if let Some((first, _)) = partial {
        label.push_str(&format!("<{first}>"));
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Result<Vec<String>, String> {
        let items =
            parse(&mut Cursor::new(text.as_bytes())).map_err(|error| error.0.to_string())?;
        let label = |item: &Item| match item {
            Item::Section(section) => {
                format!("{}{}", if section.sets_seen { "!" } else { "" }, section.label)
            }
            other => format!("{other:?}"),
        };
        Ok(items.iter().map(label).collect())
    }

    #[test]
    fn items_are_read() {
        for (text, expected) in [
            ("FLAGS", "Flags"),
            ("(UID FLAGS uid)", "Uid Flags"),
            ("FULL", "Flags InternalDate Size Envelope Body"),
            ("(BODY BODY[] BODY.PEEK[1.2.header])", "Body !BODY[] BODY[1.2.HEADER]"),
            ("RFC822.HEADER", "RFC822.HEADER"),
            ("RFC822", "!RFC822"),
            (
                "BODY.PEEK[1.HEADER.FIELDS.NOT (From \"To\")]<10.20>",
                "BODY[1.HEADER.FIELDS.NOT (FROM TO)]<10>",
            ),
            ("BODY[TEXT]<5>", "!BODY[TEXT]<5>"),
            ("BODY[1]", "!BODY[1]"),
            ("BODY[1.MIME]", "!BODY[1.MIME]"),
        ] {
            assert_eq!(labels(text).map(|labels| labels.join(" ")), Ok(expected.into()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("FOO", "Unknown parameter: FOO"),
            ("(FLAGS", "Missing ')'"),
            ("()", "Invalid arguments"),
            ("BODY[foo]", "Invalid BODY[..] section"),
            ("BODY[MIME]", "Invalid BODY[..] section"),
            ("BODY[1..2]", "Invalid BODY[..] section"),
            ("BODY[HEADER.FIELDS ()]", "Invalid BODY[..] section"),
            ("BODY[text", "Invalid BODY[..] section"),
            ("BODY[]<1.0>", "Invalid BODY[..] parameter"),
            ("BODY[]<1.2", "Invalid BODY[..] parameter"),
        ] {
            assert_eq!(labels(text), Err(expected.into()), "{text}");
        }
        let deep = format!("BODY[{}1]", "1.".repeat(200));
        assert!(labels(&deep).is_err());
    }
}
