//! Maildir file names: `base[,S=n][,W=n][:2,FLAGS[,rest]]`.
//!
//! The base name, everything before the first colon, is the message's identity. What we do not
//! understand in the info part is kept when a flag changes.

use std::cmp::Ordering;

use mail_types::{Flag, Flags};

/// A set of keyword letters: bit 0 is `a`.
pub type KeywordBits = u32;

/// Splits a file name at the first colon.
#[must_use]
pub fn base(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == b':').next().unwrap_or(name)
}

/// What the part after `:2,` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub flags: Flags,
    pub keywords: KeywordBits,
    /// Letters of other programs, such as `P` (passed).
    unknown: Vec<u8>,
    /// From a second comma on.
    rest: Vec<u8>,
}

impl Info {
    #[must_use]
    pub fn new(flags: Flags, keywords: KeywordBits) -> Self {
        Self { flags, keywords, ..Self::default() }
    }

    /// Reads a file name's info. A name without one, or with one that is not `2,`, has no flags.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let mut info = Self::default();
        let Some(text) = name[base(name).len()..].strip_prefix(b":2,") else { return info };
        for (index, &letter) in text.iter().enumerate() {
            match letter {
                b',' => {
                    info.rest = text[index..].to_vec();
                    break;
                }
                b'a'..=b'z' => info.keywords |= 1 << (letter - b'a'),
                _ => match flag_of(letter) {
                    Some(flag) => info.flags = info.flags.with(flag),
                    None => info.unknown.push(letter),
                },
            }
        }
        info
    }

    /// The whole file name of `base` with this info, letters sorted as Dovecot sorts them.
    #[must_use]
    pub fn name(&self, base: &[u8]) -> Vec<u8> {
        let mut letters: Vec<u8> = self.flags.iter().map(letter_of).collect();
        letters.extend_from_slice(&self.unknown);
        letters.sort_unstable();
        letters.dedup();
        let mut name = [base, b":2,", &letters].concat();
        name.extend((b'a'..=b'z').filter(|letter| self.keywords & (1 << (letter - b'a')) != 0));
        name.extend_from_slice(&self.rest);
        name
    }
}

fn letter_of(flag: Flag) -> u8 {
    match flag {
        Flag::Draft => b'D',
        Flag::Flagged => b'F',
        Flag::Answered => b'R',
        Flag::Seen => b'S',
        Flag::Deleted => b'T',
    }
}

fn flag_of(letter: u8) -> Option<Flag> {
    Flag::ALL.into_iter().find(|&flag| letter_of(flag) == letter)
}

/// The size that a base name states after `,S=` (as stored) or `,W=` (with CRLF).
#[must_use]
pub fn stated_size(base: &[u8], key: u8) -> Option<u64> {
    let field = base.split(|&byte| byte == b',').skip(1).find_map(|field| match field {
        [name, b'=', digits @ ..] if *name == key => Some(digits),
        _ => None,
    })?;
    number(field)
}

/// A decimal number of at most 19 digits, nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// The order in which new files get their UIDs: seconds, then microseconds, then the name.
#[must_use]
pub fn arrival_order(left: &[u8], right: &[u8]) -> Ordering {
    arrival(left).cmp(&arrival(right)).then_with(|| left.cmp(right))
}

fn arrival(name: &[u8]) -> (u64, u64) {
    let mut fields = name.split(|&byte| byte == b'.');
    let seconds = fields.next().and_then(number).unwrap_or(u64::MAX);
    let micros = fields.next().and_then(|field| field.strip_prefix(b"M")).map_or(0, |field| {
        let digits = field.iter().take_while(|byte| byte.is_ascii_digit()).count();
        number(&field[..digits]).unwrap_or(0)
    });
    (seconds, micros)
}

/// Whether a directory entry can be a message at all.
#[must_use]
pub fn is_message(name: &[u8]) -> bool {
    !name.is_empty()
        && !matches!(name[0], b'.' | b':')
        && !name.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_survives_a_flag_change_as_in_dovecot() {
        for (before, after) in [
            ("x:2,aSPX,foo", "x:2,FPSXa,foo"),
            ("x", "x:2,F"),
            ("x:2,", "x:2,F"),
            ("x:1,weird", "x:2,F"),
            ("x:2,FS", "x:2,FS"),
            ("x:2,zTDa", "x:2,DFTaz"),
        ] {
            let mut info = Info::of(before.as_bytes());
            info.flags = info.flags.with(Flag::Flagged);
            assert_eq!(String::from_utf8(info.name(b"x")).unwrap(), after, "{before}");
        }
    }

    #[test]
    fn sizes_come_from_the_base_name_only() {
        let base = b"1795295627.M885745P448.mx1.example.com,S=368,W=382";
        assert_eq!(stated_size(base, b'S'), Some(368));
        assert_eq!(stated_size(base, b'W'), Some(382));
        for bad in ["x,S=", "x,S=1x", "x,S=-1", "S=5", "x,S=99999999999999999999"] {
            assert_eq!(stated_size(bad.as_bytes(), b'S'), None, "{bad}");
        }
    }

    #[test]
    fn new_files_are_ordered_by_their_stamp() {
        let mut names = ["20.M5P1.h", "9.M7P1.h", "20.M40P1.h", "20.M5P0.h", "odd"];
        names.sort_by(|left, right| arrival_order(left.as_bytes(), right.as_bytes()));
        assert_eq!(names, ["9.M7P1.h", "20.M5P0.h", "20.M5P1.h", "20.M40P1.h", "odd"]);
    }

    #[test]
    fn names_that_are_no_message() {
        for bad in ["", ".x", ":2,S", "a\nb", "a\rb"] {
            assert!(!is_message(bad.as_bytes()), "{bad:?}");
        }
        assert!(is_message(b"1.2.3:2,S"));
    }
}
