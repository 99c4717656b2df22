//! Queue ids as Postfix makes them: the name of a queue file, made from a time and its inode.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The digits of long ids: no vowels, so that no id spells a word.
const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
/// Stands between time and inode in a long id; base 51 never produces it.
const SEPARATOR: char = 'z';
const SECONDS_WIDTH: usize = 6;
const MICROS_WIDTH: usize = 4;
const LONGEST: usize = 255;

/// The name of a queue file: 1 to 255 letters, digits and `_`.
///
/// A *short* id is the microsecond and the inode in hexadecimal; it is unique only while the file
/// exists. A *long* id also holds the second (`enable_long_queue_ids`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId(String);

/// A name that Postfix would not accept for a queue file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id: {0:?}")]
pub struct BadQueueId(pub String);

impl QueueId {
    /// # Errors
    ///
    /// [`BadQueueId`] if `name` is empty, longer than 255 octets or holds anything but `[A-Za-z0-9_]`.
    pub fn parse(name: &str) -> Result<Self, BadQueueId> {
        let valid = !name.is_empty()
            && name.len() <= LONGEST
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadQueueId(name.chars().take(LONGEST).collect()))
        }
    }

    /// `%05X` of the microsecond, `%lX` of the inode.
    #[must_use]
    pub fn short(micros: u32, inode: u64) -> Self {
        Self(format!("{:05X}{inode:X}", micros % 1_000_000))
    }

    /// Second and microsecond in base 52, `z`, the inode in base 51.
    #[must_use]
    pub fn long(seconds: u64, micros: u32, inode: u64) -> Self {
        let mut id = digits(seconds, 52, SECONDS_WIDTH);
        id.push_str(&digits(u64::from(micros % 1_000_000), 52, MICROS_WIDTH));
        id.push(SEPARATOR);
        id.push_str(&digits(inode, 51, 0));
        Self(id)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_long(&self) -> bool {
        self.separator().is_some()
    }

    /// The inode that the name promises, if it is well formed.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        match self.separator() {
            Some(at) => number(self.0.get(at + 1..)?, 51),
            None => u64::from_str_radix(self.0.get(5..)?, 16).ok(),
        }
    }

    /// The same time with another inode: the name of a file that was copied.
    #[must_use]
    pub fn with_inode(&self, inode: u64) -> Self {
        match self.separator() {
            Some(at) => Self(format!("{}{}", &self.0[..=at], digits(inode, 51, 0))),
            None => Self(format!("{}{inode:X}", self.0.get(..5).unwrap_or(&self.0))),
        }
    }

    /// The second in which a long id was made.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        let at = self.separator()?;
        number(self.0.get(..at.checked_sub(MICROS_WIDTH)?)?, 52)
    }

    /// The directories below a hashed queue, such as `4/` for depth 1.
    #[must_use]
    pub fn hash_directory(&self, depth: usize) -> String {
        let mut key = self.hash_key().into_bytes().into_iter();
        let mut path = String::with_capacity(depth * 2);
        for _ in 0..depth {
            path.push(char::from(key.next().unwrap_or(b'_')));
            path.push('/');
        }
        path
    }

    /// Short ids are their own key; for long ones it is the microsecond, as a short id would show it.
    fn hash_key(&self) -> String {
        self.separator()
            .and_then(|at| number(self.0.get(at.checked_sub(MICROS_WIDTH)?..at)?, 52))
            .map_or_else(|| self.0.clone(), |micros| format!("{micros:05X}"))
    }

    /// A `z` further left belongs to a hexadecimal or foreign name.
    fn separator(&self) -> Option<usize> {
        self.0.rfind(SEPARATOR).filter(|&at| at >= SECONDS_WIDTH + MICROS_WIDTH)
    }
}

fn digits(mut value: u64, base: u64, width: usize) -> String {
    let mut reversed = Vec::new();
    while value > 0 {
        let digit = usize::try_from(value % base).unwrap_or_default();
        reversed.push(DIGITS.get(digit).copied().unwrap_or(b'0'));
        value /= base;
    }
    while reversed.len() < width {
        reversed.push(b'0');
    }
    reversed.iter().rev().map(|&byte| char::from(byte)).collect()
}

fn number(text: &str, base: u64) -> Option<u64> {
    let text = Some(text).filter(|text| !text.is_empty())?;
    text.bytes().try_fold(0_u64, |value, byte| {
        let digit = DIGITS.iter().position(|&known| known == byte)? as u64;
        if digit >= base {
            return None;
        }
        value.checked_mul(base)?.checked_add(digit)
    })
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for QueueId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for QueueId {
    type Error = BadQueueId;
    fn try_from(name: String) -> Result<Self, BadQueueId> {
        Self::parse(&name)
    }
}

impl std::str::FromStr for QueueId {
    type Err = BadQueueId;
    fn from_str(name: &str) -> Result<Self, BadQueueId> {
        Self::parse(name)
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_postfix_makes() {
        let short = QueueId::short(612_449, 0x9A_4924);
        assert_eq!(short.as_str(), "958619A4924");
        assert_eq!((short.inode(), short.is_long()), (Some(0x9A_4924), false));
        let long = QueueId::long(1_795_296_579, 290_644, 10_111_277);
        assert_eq!(long.as_str(), "4jX52C23TJz1TCRK");
        assert_eq!(long.inode(), Some(10_111_277));
        assert_eq!(long.seconds(), Some(1_795_296_579));
        for id in [short, long] {
            assert_eq!(id.with_inode(77).inode(), Some(77));
            assert_eq!(id.with_inode(77).with_inode(id.inode().unwrap()), id);
        }
    }

    #[test]
    fn a_queue_is_hashed_by_the_microsecond() {
        for (id, depth, directory) in [
            ("640A99A4A51", 1, "6/"),
            ("640A99A4A51", 2, "6/4/"),
            ("4jX52C23TJz1TCRK", 1, "4/"),
            ("4jX52C23TJz1TCRK", 3, "4/6/F/"),
            ("A", 3, "A/_/_/"),
            ("A", 0, ""),
        ] {
            assert_eq!(
                QueueId::parse(id).unwrap().hash_directory(depth),
                directory,
                "{id} {depth}"
            );
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "999.888", "a/b", "..", "a b", "é", &"A".repeat(256)] {
            assert!(QueueId::parse(name).is_err(), "{name}");
        }
        let odd = QueueId::parse("zzzzzzzzzzzzzz").unwrap();
        assert_eq!(odd.inode(), None);
        assert_eq!(odd.hash_directory(1), "6/"); // a number above a million, as Postfix prints it
    }
}
