//! Sequence sets: `1,3:5,*` (RFC 3501 section 9, `sequence-set`).

use super::{Cursor, Syntax};

/// A number of a set, `*` being the largest in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Number(u32),
    Last,
}

/// A set of message numbers or of UIDs, as the client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSet {
    ranges: Vec<(End, End)>,
}

impl SequenceSet {
    /// # Errors
    ///
    /// `Invalid messageset` (UIDs: `Invalid uidset`) for anything that is none.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        const WRONG: Syntax = Syntax::new("Invalid messageset");
        let mut ranges = Vec::new();
        loop {
            let first = End::parse(cursor).ok_or(WRONG)?;
            let last = if cursor.eat(b':') { End::parse(cursor).ok_or(WRONG)? } else { first };
            ranges.push((first, last));
            if !cursor.eat(b',') {
                return Ok(Self { ranges });
            }
        }
    }

    /// The numbers as ascending ranges that do not touch, with `*` replaced by `last`.
    ///
    /// In an empty mailbox `*` is nothing, as for Dovecot.
    #[must_use]
    pub fn resolve(&self, last: u32) -> Vec<(u32, u32)> {
        let number = |end| match end {
            End::Number(number) => number,
            End::Last => last,
        };
        let mut ranges: Vec<(u32, u32)> = self
            .ranges
            .iter()
            .map(|&(first, second)| (number(first), number(second)))
            .map(|(first, second)| (first.min(second), first.max(second)))
            .filter(|range| range.1 > 0)
            .collect();
        ranges.sort_unstable();
        join(ranges)
    }

    /// The largest number that is written out, to tell a set beyond the mailbox.
    #[must_use]
    pub fn largest_number(&self) -> u32 {
        let numbers = self.ranges.iter().flat_map(|&(first, second)| [first, second]);
        numbers.fold(0, |largest, end| match end {
            End::Number(number) => largest.max(number),
            End::Last => largest,
        })
    }

    /// Whether it names the last message by `*`, which an empty mailbox has not.
    #[must_use]
    pub fn names_last(&self) -> bool {
        self.ranges.iter().any(|&(first, second)| first == End::Last || second == End::Last)
    }
}

impl End {
    fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        if cursor.eat(b'*') {
            return Some(Self::Last);
        }
        cursor.number().ok().filter(|&number| number > 0).map(Self::Number)
    }
}

fn join(sorted: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut joined: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Ascending numbers as a set: `1:3,7`. Nothing for no numbers.
#[must_use]
pub fn compact(numbers: impl IntoIterator<Item = u32>) -> String {
    use std::fmt::Write;
    let ranges = join(numbers.into_iter().map(|number| (number, number)).collect());
    let mut text = String::new();
    for (first, last) in ranges {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match first == last {
            true => write!(text, "{comma}{first}"),
            false => write!(text, "{comma}{first}:{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, last: u32) -> Option<Vec<(u32, u32)>> {
        let mut cursor = Cursor::new(text.as_bytes());
        let set = SequenceSet::parse(&mut cursor).ok()?;
        cursor.end().ok()?;
        Some(set.resolve(last))
    }

    #[test]
    fn sets_become_ranges() {
        for (text, expected) in [
            ("1", Some(vec![(1, 1)])),
            ("1,3:5,*", Some(vec![(1, 1), (3, 5), (9, 9)])),
            ("5:3,4,6", Some(vec![(3, 6)])),
            ("99:*", Some(vec![(9, 99)])),
            ("*:*", Some(vec![(9, 9)])),
            ("0", None),
            ("1,", None),
            ("4294967296", None),
            ("", None),
            ("1:2:3", None),
        ] {
            assert_eq!(resolved(text, 9), expected, "{text}");
        }
        assert_eq!(resolved("*", 0), Some(vec![]));
    }

    #[test]
    fn numbers_become_sets() {
        assert_eq!(compact([1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
        assert_eq!(compact([]), "");
    }
}
