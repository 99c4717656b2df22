//! What a mailbox calls its messages: UIDs, UIDVALIDITY and the system flags (RFC 3501 section 2.3).

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{BitAnd, BitOr, Not};

/// A message's unique identifier. Never zero; `u32::MAX` is kept free, as Dovecot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(NonZeroU32);

impl Uid {
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for zero and for `u32::MAX`, which no message may have.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        if value == u32::MAX { None } else { NonZeroU32::new(value).map(Self) }
    }

    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The UID after this one, or `None` when the mailbox has used them all.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.get().checked_add(1).and_then(Self::new)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epoch of a mailbox's UIDs: while it stays the same, a UID names the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UidValidity(NonZeroU32);

impl UidValidity {
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        NonZeroU32::new(value).map(Self)
    }

    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for UidValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A system flag that is stored with a message. `\Recent` is not one: it belongs to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    Answered,
    Flagged,
    Deleted,
    Seen,
    Draft,
}

impl Flag {
    /// Every flag, in the order in which Dovecot prints them.
    pub const ALL: [Self; 5] =
        [Self::Answered, Self::Flagged, Self::Deleted, Self::Seen, Self::Draft];

    /// The flag as IMAP writes it, with its backslash.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "\\Answered",
            Self::Flagged => "\\Flagged",
            Self::Deleted => "\\Deleted",
            Self::Seen => "\\Seen",
            Self::Draft => "\\Draft",
        }
    }

    /// The flag of an IMAP flag word, in any case; `None` for `\Recent` and unknown ones.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.name().as_bytes().eq_ignore_ascii_case(name))
    }

    fn bit(self) -> u8 {
        match self {
            Self::Answered => 1,
            Self::Flagged => 2,
            Self::Deleted => 4,
            Self::Seen => 8,
            Self::Draft => 16,
        }
    }
}

/// A set of system flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub fn has(self, flag: Flag) -> bool {
        self.0 & flag.bit() != 0
    }

    #[must_use]
    pub fn with(self, flag: Flag) -> Self {
        Self(self.0 | flag.bit())
    }

    #[must_use]
    pub fn without(self, flag: Flag) -> Self {
        Self(self.0 & !flag.bit())
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.into_iter().filter(move |&flag| self.has(flag))
    }

    /// The set as five bits, for an index of our own.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x1f)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self(flag.bit())
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        flags.into_iter().fold(Self::NONE, Self::with)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & 0x1f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_have_bounds() {
        assert_eq!(Uid::new(0), None);
        assert_eq!(Uid::new(u32::MAX), None);
        assert_eq!(Uid::new(u32::MAX - 1).and_then(Uid::next), None);
        assert_eq!(Uid::FIRST.next(), Uid::new(2));
    }

    #[test]
    fn flags_are_a_set() {
        let flags: Flags = [Flag::Seen, Flag::Deleted].into_iter().collect();
        assert!(flags.has(Flag::Seen) && !flags.has(Flag::Draft));
        assert_eq!(flags.without(Flag::Seen), Flags::from(Flag::Deleted));
        assert_eq!((flags & !Flags::from(Flag::Deleted)), Flags::from(Flag::Seen));
        assert_eq!(Flag::from_name(b"\\sEEN"), Some(Flag::Seen));
        assert_eq!(Flag::from_name(b"\\Recent"), None);
    }
}
