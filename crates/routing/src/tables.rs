//! The lookup tables as routing sees them: named in a setting, asked for one key at a time.
//!
//! Files, databases and caches stay behind [`Tables`]; `tables` implements it for Postfix's file types.

use std::fmt;
use std::future::Future;

/// One table as a setting names it: `hash:/etc/aliases`, `static:5000`, `inline:{a=b}`.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct TableName(String);

impl TableName {
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The type in front of the first colon (`hash`), if there is one.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.0.split_once(':').map(|(kind, _)| kind)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a key is the whole subject or a part of it (`user`, `@domain`).
///
/// Pattern tables (regexp, pcre) see the whole subject only: `@example.com` would match a pattern
/// that its author wrote for addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Whole,
    Part,
}

/// A table could not answer. It is never the same as "not found": mail is deferred, not bounced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table}: table lookup problem: {why}")]
pub struct LookupError {
    pub table: TableName,
    pub why: String,
}

/// Answers for one key. A miss is `Ok(None)`.
pub trait Tables: Send + Sync {
    fn lookup(
        &self,
        table: &TableName,
        key: &str,
        part: Key,
    ) -> impl Future<Output = Result<Option<String>, LookupError>> + Send;
}

impl<T: Tables> Tables for std::sync::Arc<T> {
    fn lookup(
        &self,
        table: &TableName,
        key: &str,
        part: Key,
    ) -> impl Future<Output = Result<Option<String>, LookupError>> + Send {
        T::lookup(self, table, key, part)
    }
}

/// The tables that one setting lists, asked in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Maps(Vec<TableName>);

impl Maps {
    /// Reads the value of a setting such as `virtual_alias_maps`: names separated by white space or
    /// commas, where braces hold a name together.
    #[must_use]
    pub fn parse(setting: &str) -> Self {
        Self(split_list(setting).into_iter().map(|name| TableName::new(unbraced(name))).collect())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &TableName> {
        self.0.iter()
    }

    /// The first table's answer for `key`.
    ///
    /// # Errors
    ///
    /// [`LookupError`] of the first table that fails: later tables are not asked, as an answer of
    /// theirs might be the wrong one.
    pub async fn find(
        &self,
        tables: &impl Tables,
        key: &str,
        part: Key,
    ) -> Result<Option<String>, LookupError> {
        if key.is_empty() {
            return Ok(None); // Postfix: an empty key matches nothing
        }
        for table in &self.0 {
            match tables.lookup(table, key, part).await? {
                Some(answer) if answer.is_empty() => {} // "should return NO RESULT in case of NOT FOUND"
                Some(answer) => return Ok(Some(answer)),
                None => {}
            }
        }
        Ok(None)
    }
}

impl FromIterator<TableName> for Maps {
    fn from_iter<I: IntoIterator<Item = TableName>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

/// Splits a list setting at white space and commas; `{ … }` keeps its inside together.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut start = None;
    for (at, c) in text.char_indices() {
        let separator = depth == 0 && (c == ',' || c.is_ascii_whitespace());
        if separator {
            if let Some(begin) = start.take() {
                items.push(&text[begin..at]);
            }
            continue;
        }
        start.get_or_insert(at);
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    items.extend(start.map(|begin| &text[begin..]));
    items
}

/// `{ text }` without its braces and the blanks at their inside; other text as it is.
#[must_use]
pub fn unbraced(text: &str) -> &str {
    text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map_or(text, str::trim)
}

#[cfg(test)]
mod tests {
    use super::{Maps, split_list};

    #[test]
    fn a_list_is_split_at_blanks_and_commas_outside_of_braces() {
        for (list, items) in [
            ("hash:/a, hash:/b", &["hash:/a", "hash:/b"][..]),
            ("inline:{a=b, {c = d e}} ,static:x", &["inline:{a=b, {c = d e}}", "static:x"]),
            ("  ", &[]),
            ("{ unterminated a", &["{ unterminated a"]),
        ] {
            assert_eq!(split_list(list), items, "{list}");
        }
        assert_eq!(Maps::parse("{ static:a b }").iter().next().unwrap().as_str(), "static:a b");
    }
}
