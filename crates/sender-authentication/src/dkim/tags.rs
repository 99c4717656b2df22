//! `tag=value` lists (RFC 6376 section 3.2).

/// Tags in one list that are read.
const MAX_TAGS: usize = 100;

/// Why a list is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTags {
    /// A control octet or one beyond ASCII, and where.
    Octet(u8, usize),
    /// Something where a name or `=` had to come.
    Syntax(u8, usize),
    WithoutValue,
    TooMany,
    /// One name twice makes the list invalid.
    Duplicate(String),
}

impl BadTags {
    /// The sentence in the log, `what` being "signature" or "key".
    #[must_use]
    pub fn text(&self, what: &str) -> String {
        match self {
            Self::Octet(octet, at) => {
                format!("invalid character (ASCII 0x{octet:02x} at offset {at}) in {what} data")
            }
            Self::Syntax(octet, at) => {
                format!("syntax error in {what} data (ASCII 0x{octet:02x} at offset {at})")
            }
            Self::WithoutValue => format!("tag without value at end of {what} data"),
            Self::TooMany => format!("more than {MAX_TAGS} tags in {what} data"),
            Self::Duplicate(name) => format!("duplicate tag \"{name}\" in {what} data"),
        }
    }
}

/// A list, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// Reads a list. Values are kept without the white space around them.
    ///
    /// # Errors
    ///
    /// [`BadTags`] says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, BadTags> {
        let is_space = |octet: u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n');
        if let Some(at) =
            text.iter().position(|&octet| !is_space(octet) && !octet.is_ascii_graphic())
        {
            return Err(BadTags::Octet(text[at], at));
        }
        let mut tags: Vec<(String, String)> = Vec::new();
        let mut offset = 0;
        for item in text.split(|&octet| octet == b';') {
            let start = offset;
            offset += item.len() + 1;
            if item.iter().all(|&octet| is_space(octet)) {
                if offset <= text.len() {
                    return Err(BadTags::Syntax(b';', start + item.len()));
                }
                break;
            }
            let Some(equals) = item.iter().position(|&octet| octet == b'=') else {
                return Err(if offset <= text.len() {
                    BadTags::Syntax(b';', start + item.len())
                } else {
                    BadTags::WithoutValue
                });
            };
            let (name, value) = item.split_at(equals);
            let name = name.trim_ascii();
            let is_name =
                |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-');
            if !name.first().is_some_and(u8::is_ascii_alphanumeric) || !name.iter().all(is_name) {
                return Err(BadTags::Syntax(b'=', start + equals));
            }
            let name = String::from_utf8_lossy(name).into_owned();
            if tags.iter().any(|(other, _)| *other == name) {
                return Err(BadTags::Duplicate(name));
            }
            if tags.len() >= MAX_TAGS {
                return Err(BadTags::TooMany);
            }
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            tags.push((name, String::from_utf8_lossy(value).into_owned()));
        }
        Ok(Self(tags))
    }

    /// The value without any white space, as every tag but the free texts wants it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(tag, _)| tag == name)?;
        Some(value.split_ascii_whitespace().collect())
    }

    #[must_use]
    pub fn first_name(&self) -> Option<&str> {
        self.0.first().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_with_white_space_anywhere_are_read() {
        let tags = Tags::parse(b" v = 1 ;\r\n\ta=b c ;x=; h = From :\r\n To;").unwrap();
        assert_eq!(tags.get("v").as_deref(), Some("1"));
        assert_eq!(tags.get("a").as_deref(), Some("bc"));
        assert_eq!(tags.get("x").as_deref(), Some(""));
        assert_eq!(tags.get("h").as_deref(), Some("From:To"));
        assert_eq!(tags.get("V"), None);
        assert_eq!(tags.first_name(), Some("v"));
        assert_eq!(Tags::parse(b"").unwrap(), Tags::default());
    }

    #[test]
    fn what_is_no_list_is_told() {
        for (text, why) in [
            (&b"v=1; v=1"[..], "duplicate tag \"v\" in signature data"),
            (b"v=1; a", "tag without value at end of signature data"),
            (b"v=1; a; b=2", "syntax error in signature data (ASCII 0x3b at offset 6)"),
            (b"v=1;; b=2", "syntax error in signature data (ASCII 0x3b at offset 4)"),
            (b"v=\xff", "invalid character (ASCII 0xff at offset 2) in signature data"),
            (b"=1", "syntax error in signature data (ASCII 0x3d at offset 0)"),
            (b"a b=1", "syntax error in signature data (ASCII 0x3d at offset 3)"),
        ] {
            assert_eq!(Tags::parse(text).unwrap_err().text("signature"), why);
        }
        let many: String = (0..200).map(|n| format!("t{n}=1;")).collect();
        assert_eq!(Tags::parse(many.as_bytes()), Err(BadTags::TooMany));
    }
}
