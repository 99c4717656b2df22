//! The events that can be suppressed, left unanswered, or preceded by macros.

/// An event of the session, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    Unknown,
    Header,
    Eoh,
    Body,
    Eom,
}

impl Stage {
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Helo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Unknown,
        Self::Header,
        Self::Eoh,
        Self::Body,
        Self::Eom,
    ];

    /// The code of the event's frame.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Connect => b'C',
            Self::Helo => b'H',
            Self::Mail => b'M',
            Self::Rcpt => b'R',
            Self::Data => b'T',
            Self::Unknown => b'U',
            Self::Header => b'L',
            Self::Eoh => b'N',
            Self::Body => b'B',
            Self::Eom => b'E',
        }
    }

    #[must_use]
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.code() == code)
    }

    /// libmilter's name for the event, as it stands in warnings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "SMFIC_CONNECT",
            Self::Helo => "SMFIC_HELO",
            Self::Mail => "SMFIC_MAIL",
            Self::Rcpt => "SMFIC_RCPT",
            Self::Data => "SMFIC_DATA",
            Self::Unknown => "SMFIC_UNKNOWN",
            Self::Header => "SMFIC_HEADER",
            Self::Eoh => "SMFIC_EOH",
            Self::Body => "SMFIC_BODY",
            Self::Eom => "SMFIC_BODYEOB",
        }
    }
}

/// Where a list of macros applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MacroClass {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    /// Body and end of message.
    Eom,
    /// Header and end of header.
    Eoh,
    /// Not to be named in a negotiation.
    Unknown,
}

impl MacroClass {
    /// The number in a negotiation.
    #[must_use]
    pub const fn number(self) -> Option<u32> {
        match self {
            Self::Connect => Some(0),
            Self::Helo => Some(1),
            Self::Mail => Some(2),
            Self::Rcpt => Some(3),
            Self::Data => Some(4),
            Self::Eom => Some(5),
            Self::Eoh => Some(6),
            Self::Unknown => None,
        }
    }

    #[must_use]
    pub const fn of_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Connect),
            1 => Some(Self::Helo),
            2 => Some(Self::Mail),
            3 => Some(Self::Rcpt),
            4 => Some(Self::Data),
            5 => Some(Self::Eom),
            6 => Some(Self::Eoh),
            _ => None,
        }
    }

    /// The list that is sent with this event.
    #[must_use]
    pub const fn of(stage: Stage) -> Self {
        match stage {
            Stage::Connect => Self::Connect,
            Stage::Helo => Self::Helo,
            Stage::Mail => Self::Mail,
            Stage::Rcpt => Self::Rcpt,
            Stage::Data => Self::Data,
            Stage::Unknown => Self::Unknown,
            Stage::Header | Stage::Eoh => Self::Eoh,
            Stage::Body | Stage::Eom => Self::Eom,
        }
    }
}
