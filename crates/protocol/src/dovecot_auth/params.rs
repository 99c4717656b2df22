//! The `name=value` and bare `name` fields at the end of most lines.

use super::escape::{escape_to, fields};
use std::borrow::Cow;

/// Parameters in their order. A bare `name` has no value. Empty fields are skipped when read (the
/// original leaves some behind) and never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The parameters of the rest of a line.
    #[must_use]
    pub fn parse(rest: &[u8]) -> Self {
        Self::from_fields(fields(rest))
    }

    pub(super) fn from_fields<'a>(fields: impl Iterator<Item = Cow<'a, str>>) -> Self {
        fields.filter(|field| !field.is_empty()).map(|field| split(&field)).collect()
    }

    /// The value of the first parameter of this name; a bare name has the value "".
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Adds a parameter at the end; `value` `None` is a bare name.
    pub fn push(&mut self, name: impl Into<String>, value: Option<String>) {
        self.0.push((name.into(), value));
    }

    /// Gives a parameter a value: in its place, or at the end if it is new.
    pub fn replace(&mut self, name: &str, value: Option<String>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, known)) => *known = value,
            None => self.push(name, value),
        }
    }

    /// Adds `name=value`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.push(name, Some(value.into()));
    }

    /// Adds a bare `name`, once.
    pub fn set_flag(&mut self, name: &str) {
        if !self.has(name) {
            self.push(name, None);
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends each parameter with a tab before it.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.push(b'\t');
            escape_to(name, out);
            if let Some(value) = value {
                out.push(b'=');
                escape_to(value, out);
            }
        }
    }
}

impl FromIterator<(String, Option<String>)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, Option<String>)>>(params: I) -> Self {
        Self(params.into_iter().collect())
    }
}

fn split(field: &str) -> (String, Option<String>) {
    match field.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (field.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_skipped_and_none_are_written() {
        let params = Params::parse(b"user=info\t\tnologin\toriginal_user=a\x01tb\t");
        assert_eq!(params.get("user"), Some("info"));
        assert_eq!(params.get("nologin"), Some(""));
        assert_eq!(params.get("original_user"), Some("a\tb"));
        let mut out = Vec::new();
        params.write(&mut out);
        assert_eq!(out, b"\tuser=info\tnologin\toriginal_user=a\x01tb");
    }
}
