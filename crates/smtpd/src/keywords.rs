//! EHLO keywords that `smtpd_discard_ehlo_keywords` can take away.

use serde::{Deserialize, Serialize};

/// A set of keywords not to announce. A keyword that is not announced is not obeyed either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded(Vec<String>);

const KNOWN: [&str; 13] = [
    "8BITMIME",
    "AUTH",
    "CHUNKING",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "ETRN",
    "PIPELINING",
    "SIZE",
    "SMTPUTF8",
    "STARTTLS",
    "VERP",
    "VRFY",
    "XCLIENT",
];

impl Discarded {
    /// Reads a list of words; words that name no keyword do nothing, as in Postfix.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set: Vec<String> = words
            .into_iter()
            .map(str::to_ascii_uppercase)
            .map(|word| if word == "XVERP" { "VERP".to_owned() } else { word })
            .filter(|word| {
                KNOWN.contains(&word.as_str()) || word == "XFORWARD" || word == "SILENT-DISCARD"
            })
            .collect();
        set.sort();
        set.dedup();
        Self(set)
    }

    #[must_use]
    pub fn has(&self, keyword: &str) -> bool {
        self.0.iter().any(|word| word == keyword)
    }

    /// What to log when the rest is announced; nothing for an empty set or `silent-discard`.
    #[must_use]
    pub fn to_log(&self) -> Option<String> {
        (!self.0.is_empty() && !self.has("SILENT-DISCARD"))
            .then(|| format!("discarding EHLO keywords: {}", self.0.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case() {
        let set = Discarded::parse(["dsn", "Chunking", "nonsense"]);
        assert!(set.has("DSN") && set.has("CHUNKING") && !set.has("SIZE"));
        assert_eq!(set.to_log().as_deref(), Some("discarding EHLO keywords: CHUNKING DSN"));
        assert_eq!(Discarded::parse(["dsn", "silent-discard"]).to_log(), None);
    }
}
