//! The two bit sets of the negotiation.

use super::Stage;

/// `SMFIF_`: what the filter may do to the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actions(pub u32);

impl Actions {
    pub const ADD_HEADERS: Self = Self(0x01);
    pub const CHANGE_BODY: Self = Self(0x02);
    pub const ADD_RECIPIENTS: Self = Self(0x04);
    pub const DELETE_RECIPIENTS: Self = Self(0x08);
    pub const CHANGE_HEADERS: Self = Self(0x10);
    pub const QUARANTINE: Self = Self(0x20);
    pub const CHANGE_FROM: Self = Self(0x40);
    pub const ADD_RECIPIENTS_WITH_PARAMETERS: Self = Self(0x80);
    /// The answer may name macros.
    pub const SET_MACROS: Self = Self(0x100);
    pub const ALL: Self = Self(0x1ff);
}

/// `SMFIP_`: which events are not sent, which get no answer, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Steps(pub u32);

impl Steps {
    pub const NO_CONNECT: Self = Self(1);
    pub const NO_HELO: Self = Self(1 << 1);
    pub const NO_MAIL: Self = Self(1 << 2);
    pub const NO_RCPT: Self = Self(1 << 3);
    pub const NO_BODY: Self = Self(1 << 4);
    pub const NO_HEADERS: Self = Self(1 << 5);
    pub const NO_EOH: Self = Self(1 << 6);
    pub const SILENT_HEADERS: Self = Self(1 << 7);
    pub const NO_UNKNOWN: Self = Self(1 << 8);
    pub const NO_DATA: Self = Self(1 << 9);
    /// The filter may answer [`Reply::Skip`](super::Reply::Skip).
    pub const SKIP: Self = Self(1 << 10);
    /// Recipients that the server rejects are shown too.
    pub const REJECTED_RCPT: Self = Self(1 << 11);
    pub const SILENT_CONNECT: Self = Self(1 << 12);
    pub const SILENT_HELO: Self = Self(1 << 13);
    pub const SILENT_MAIL: Self = Self(1 << 14);
    pub const SILENT_RCPT: Self = Self(1 << 15);
    pub const SILENT_DATA: Self = Self(1 << 16);
    pub const SILENT_UNKNOWN: Self = Self(1 << 17);
    pub const SILENT_EOH: Self = Self(1 << 18);
    pub const SILENT_BODY: Self = Self(1 << 19);
    /// A header value is all that stands behind the colon, and edits are written as they are.
    pub const LEADING_SPACE: Self = Self(1 << 20);
    /// Larger body chunks; Postfix offers neither.
    pub const BODY_256K: Self = Self(0x1000_0000);
    pub const BODY_1M: Self = Self(0x2000_0000);

    /// All that a server of this version offers; none for a version that is not spoken (1 and 5 are not).
    #[must_use]
    pub const fn offered(version: u32) -> Option<Self> {
        match version {
            2 => Some(Self(0x7f)),
            3 => Some(Self(0x17f)),
            4 => Some(Self(0x37f)),
            6 => Some(Self(0x1f_ffff)),
            _ => None,
        }
    }

    /// The bit that keeps this event from being sent; end of message, abort and quit have none.
    #[must_use]
    pub const fn suppressing(stage: Stage) -> Self {
        match stage {
            Stage::Connect => Self::NO_CONNECT,
            Stage::Helo => Self::NO_HELO,
            Stage::Mail => Self::NO_MAIL,
            Stage::Rcpt => Self::NO_RCPT,
            Stage::Data => Self::NO_DATA,
            Stage::Unknown => Self::NO_UNKNOWN,
            Stage::Header => Self::NO_HEADERS,
            Stage::Eoh => Self::NO_EOH,
            Stage::Body => Self::NO_BODY,
            Stage::Eom => Self(0),
        }
    }

    /// The bit by which the filter promises no answer to this event.
    #[must_use]
    pub const fn silent(stage: Stage) -> Self {
        match stage {
            Stage::Connect => Self::SILENT_CONNECT,
            Stage::Helo => Self::SILENT_HELO,
            Stage::Mail => Self::SILENT_MAIL,
            Stage::Rcpt => Self::SILENT_RCPT,
            Stage::Data => Self::SILENT_DATA,
            Stage::Unknown => Self::SILENT_UNKNOWN,
            Stage::Header => Self::SILENT_HEADERS,
            Stage::Eoh => Self::SILENT_EOH,
            Stage::Body => Self::SILENT_BODY,
            Stage::Eom => Self(0),
        }
    }

    /// Whether the event is sent.
    #[must_use]
    pub const fn wants(self, stage: Stage) -> bool {
        self.0 & Self::suppressing(stage).0 == 0
    }

    /// Whether the event gets an answer.
    #[must_use]
    pub const fn answers(self, stage: Stage) -> bool {
        self.0 & Self::silent(stage).0 == 0
    }
}

macro_rules! set {
    ($set:ident) => {
        impl $set {
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Without the bits of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// The bits of both.
            #[must_use]
            pub const fn both(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        impl std::ops::BitOr for $set {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    };
}
set!(Actions);
set!(Steps);
