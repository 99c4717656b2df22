//! What a sender wants to hear of (RFC 3461): NOTIFY and RET.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of NOTIFY values, with Postfix's bits. Empty means that the client asked for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notify(u8);

impl Notify {
    pub const NONE: Self = Self(0);
    pub const NEVER: Self = Self(1);
    pub const SUCCESS: Self = Self(2);
    pub const FAILURE: Self = Self(4);
    pub const DELAY: Self = Self(8);

    /// The set with these bits, or nothing if a bit is unknown or NEVER stands beside another.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        let set = Self(u8::try_from(bits).ok().filter(|bits| bits & !15 == 0)?);
        (!set.contains(Self::NEVER) || set == Self::NEVER).then_some(set)
    }

    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The value of `NOTIFY=` or of `sendmail -N`: `never`, or a comma list of the others.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let set = text.split(',').try_fold(Self::NONE, |set, word| {
            let one = match word.trim().to_ascii_lowercase().as_str() {
                "never" => Self::NEVER,
                "success" => Self::SUCCESS,
                "failure" => Self::FAILURE,
                "delay" => Self::DELAY,
                _ => return None,
            };
            (!set.contains(one)).then(|| set.union(one))
        })?;
        Self::from_bits(set.bits())
    }

    /// A failure report is wanted: asked for, or not spoken of.
    #[must_use]
    pub const fn wants_failure(self) -> bool {
        self.is_none() || self.contains(Self::FAILURE)
    }

    #[must_use]
    pub const fn wants_delay(self) -> bool {
        self.is_none() || self.contains(Self::DELAY)
    }

    #[must_use]
    pub const fn wants_success(self) -> bool {
        self.contains(Self::SUCCESS)
    }
}

/// `SUCCESS,FAILURE,DELAY` in this order, as the SMTP parameter shows it; nothing for an empty set.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::NEVER, "NEVER"),
            (Self::SUCCESS, "SUCCESS"),
            (Self::FAILURE, "FAILURE"),
            (Self::DELAY, "DELAY"),
        ];
        let mut separator = "";
        for (bit, name) in names {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// How much of the message a notice returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ret {
    Full,
    Headers,
}

impl Ret {
    /// The value of `RET=` or of `sendmail -R`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "full" => Some(Self::Full),
            "hdrs" => Some(Self::Headers),
            _ => None,
        }
    }

    /// As in Postfix's `ret_flags`; 0 there means that none was given.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Full),
            2 => Some(Self::Headers),
            _ => None,
        }
    }

    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Full => 1,
            Self::Headers => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_is_never_or_a_list() {
        for (text, bits) in [
            ("never", Some(1)),
            ("success,delay", Some(10)),
            ("SUCCESS,FAILURE,DELAY", Some(14)),
            ("never,delay", None),
            ("delay,delay", None),
            ("", None),
            ("sometimes", None),
        ] {
            assert_eq!(Notify::parse(text).map(Notify::bits), bits, "{text}");
        }
        assert_eq!(Notify::parse("delay,success").unwrap().to_string(), "SUCCESS,DELAY");
        assert_eq!(Notify::from_bits(3), None);
        assert_eq!(Notify::from_bits(16), None);
    }
}
