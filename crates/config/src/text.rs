//! Text that remembers where each part of it was written.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Place;

/// A value put together from lines of several files: `mark` n says that from this byte on, the text stood there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sourced {
    text: String,
    marks: Vec<(usize, Place)>,
}

impl Sourced {
    pub fn new(text: impl Into<String>, at: &Place) -> Self {
        Self { text: text.into(), marks: vec![(0, at.clone())] }
    }

    /// Text that no file holds: a default.
    pub fn built_in(text: impl Into<String>) -> Self {
        Self { text: text.into(), marks: Vec::new() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Where the byte at `offset` was written; nowhere for a default.
    pub fn place_at(&self, offset: usize) -> Option<&Place> {
        let after = self.marks.partition_point(|(start, _)| *start <= offset);
        self.marks.get(after.checked_sub(1)?).map(|(_, place)| place)
    }

    pub fn place(&self) -> Option<&Place> {
        self.marks.first().map(|(_, place)| place)
    }

    pub fn push(&mut self, text: &str, at: Option<&Place>) {
        if text.is_empty() {
            return;
        }
        if let Some(at) = at
            && self.marks.last().is_none_or(|(_, last)| last != at)
        {
            self.marks.push((self.text.len(), at.clone()));
        }
        self.text.push_str(text);
    }

    /// Appends a part of another text with its places.
    pub fn push_part(&mut self, other: &Sourced, range: std::ops::Range<usize>) {
        let Some(part) = other.text.get(range.clone()) else { return };
        let mut start = range.start;
        for (offset, _) in &other.marks {
            if *offset > range.start && *offset < range.end && other.text.is_char_boundary(*offset)
            {
                self.push(&other.text[start..*offset], other.place_at(start));
                start = *offset;
            }
        }
        self.push(&part[start - range.start..], other.place_at(start));
    }

    /// The same text without blanks at its ends.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let start = self.text.len() - self.text.trim_ascii_start().len();
        let end = self.text.trim_ascii_end().len().max(start);
        let mut trimmed = Self::default();
        trimmed.push_part(self, start..end);
        if trimmed.marks.is_empty() {
            // An empty value was still written somewhere.
            trimmed.marks.extend(self.marks.first().map(|(_, place)| (0, place.clone())));
        }
        trimmed
    }
}

impl fmt::Display for Sourced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One element of a list, with its place when a file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub text: String,
    pub at: Option<Place>,
}

impl Word {
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_its_places() {
        let mut text = Sourced::new("  one", &Place::new("a", 1));
        text.push(" two", Some(&Place::new("a", 2)));
        text.push(" three ", Some(&Place::new("b", 9)));
        let trimmed = text.trimmed();
        assert_eq!(trimmed.as_str(), "one two three");
        let line = |offset| trimmed.place_at(offset).map(|place| place.line);
        assert_eq!([line(0), line(3), line(4), line(8)], [Some(1), Some(2), Some(2), Some(9)]);
    }

    #[test]
    fn an_empty_value_still_has_a_place() {
        assert_eq!(
            Sourced::new("   ", &Place::new("a", 4)).trimmed().place(),
            Some(&Place::new("a", 4))
        );
    }
}
