//! `pop3_uidl_format`: how a message's UIDL is formed.

/// A format that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidlFormat(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Variable { name: Name, hex: bool, width: usize, zeros: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Uid,
    UidValidity,
    File,
    Guid,
}

/// A variable that a UIDL cannot be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown variable %{0}")]
pub struct UnknownVariable(pub String);

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
pub struct UidlFacts<'a> {
    pub uid: u32,
    pub uid_validity: u32,
    pub file_name: &'a str,
    pub guid: &'a str,
}

impl UidlFormat {
    /// Reads a format such as `%08Xu%08Xv`.
    ///
    /// # Errors
    ///
    /// [`UnknownVariable`], also for `%m`, which only mbox has.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (width, after) = rest.split_at(digits);
            let zeros = width.starts_with('0');
            let width = width.parse().unwrap_or(0);
            let (hex, after) = match after.strip_prefix('X') {
                Some(after) => (true, after),
                None => (false, after),
            };
            let mut letters = after.chars();
            let (name, after) = match letters.next() {
                Some('{') => {
                    let (name, after) = after[1..].split_once('}').unwrap_or((&after[1..], ""));
                    (name.to_owned(), after)
                }
                Some(letter) => (letter.to_string(), letters.as_str()),
                None => (String::new(), ""),
            };
            let name = match name.as_str() {
                "u" | "uid" => Name::Uid,
                "v" | "uidvalidity" => Name::UidValidity,
                "f" | "filename" => Name::File,
                "g" | "guid" => Name::Guid,
                _ => return Err(UnknownVariable(name)),
            };
            pieces.push(Piece::Variable { name, hex, width, zeros });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// Whether different messages get different UIDLs at all.
    #[must_use]
    pub fn tells_messages_apart(&self) -> bool {
        let apart = |piece: &Piece| {
            matches!(piece, Piece::Variable { name: Name::Uid | Name::File | Name::Guid, .. })
        };
        self.0.iter().any(apart)
    }

    /// The UIDL of a message.
    #[must_use]
    pub fn expand(&self, facts: &UidlFacts<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Variable { name, hex, width, zeros } => {
                    let number = |number: u32| match hex {
                        true => format!("{number:x}"),
                        false => number.to_string(),
                    };
                    let value = match name {
                        Name::Uid => number(facts.uid),
                        Name::UidValidity => number(facts.uid_validity),
                        Name::File => facts.file_name.to_owned(),
                        Name::Guid => facts.guid.to_owned(),
                    };
                    let missing = width.min(&64).saturating_sub(value.chars().count());
                    if *zeros {
                        out.extend(std::iter::repeat_n('0', missing));
                        out.push_str(&value);
                    } else if *width > 0 {
                        out.extend(value.chars().take(*width));
                    } else {
                        out.push_str(&value);
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results are Dovecot 2.3.19's.
    #[test]
    fn uidls_are_dovecots() {
        let facts = UidlFacts {
            uid: 3,
            uid_validity: 1_795_295_862,
            file_name: "1795295862.M911429P643.mx1.example.com,S=52,W=57",
            guid: "1795295862.M911429P643.mx1.example.com",
        };
        for (format, uidl) in [
            ("%08Xu%08Xv", "000000036b020a76"),
            ("%v.%u", "1795295862.3"),
            ("%v-%u", "1795295862-3"),
            ("UID%u-%v", "UID3-1795295862"),
            ("%f", facts.file_name),
            ("%g", facts.guid),
            ("%{uid}%%", "3%"),
        ] {
            assert_eq!(UidlFormat::parse(format).unwrap().expand(&facts), uidl, "{format}");
        }
        assert!(UidlFormat::parse("%m").is_err());
        assert!(UidlFormat::parse("%").is_err());
        assert!(!UidlFormat::parse("%v").unwrap().tells_messages_apart());
    }
}
