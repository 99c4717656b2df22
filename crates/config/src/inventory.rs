//! Every setting that a host's files write, with what the register says of it: for reports, not for daemons.

use serde::Serialize;

use crate::Place;
use crate::register::{Fact, Ignored, Mark};

/// One line that sets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// As in the file: `smtpd_banner`, `slow_destination_rate_delay`, `mode`.
    pub name: String,
    /// What it is set for: empty for the whole product, `submission/inet` of master.cf, `service/unix_listener` of dovecot.conf.
    pub of: String,
    pub at: Place,
    pub standing: Standing,
    /// It has the value that holds without it.
    pub is_default: bool,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a row of the register, its own or that of its kind (`default_destination_rate_delay` of all transports).
    Known(&'static Fact),
    /// Known, and obeyed in other places alone.
    Misplaced(&'static Fact),
    /// A name of the operator's own, which some value reads.
    Own,
    /// Of a plugin that no program loads.
    Idle,
    /// Of a plugin that is loaded and of which nothing is known here.
    Foreign,
    /// Nothing reads it.
    Unknown,
}

/// What a line means to whoever wants to replace the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// Obeyed as the original does.
    Obeyed,
    /// Obeyed, with a difference.
    Differs,
    /// About what we do not have.
    Harmless,
    /// Not obeyed, but it says what holds anyway.
    Default,
    /// Not obeyed.
    Ignored,
    /// Not obeyed, and a daemon that would read it does not start.
    Refused,
    /// Nothing reads it, of the original's neither.
    Unknown,
}

impl Meaning {
    /// Whether the host behaves the same without anybody's doing.
    #[must_use]
    pub fn is_covered(self) -> bool {
        !matches!(self, Self::Ignored | Self::Refused)
    }
}

impl Written {
    #[must_use]
    pub fn fact(&self) -> Option<&'static Fact> {
        match self.standing {
            Standing::Known(fact) | Standing::Misplaced(fact) => Some(fact),
            Standing::Own | Standing::Idle | Standing::Foreign | Standing::Unknown => None,
        }
    }

    #[must_use]
    pub fn meaning(&self) -> Meaning {
        match self.standing {
            Standing::Known(fact) => match (fact.mark, fact.ignored) {
                (Mark::Supported, _) => Meaning::Obeyed,
                (Mark::Differs, _) => Meaning::Differs,
                (Mark::Harmless, _) => Meaning::Harmless,
                (Mark::Unsupported, _) if self.is_default => Meaning::Default,
                (Mark::Unsupported, Ignored::Tell) => Meaning::Ignored,
                (Mark::Unsupported, Ignored::Refuse) => Meaning::Refused,
            },
            Standing::Misplaced(_) => Meaning::Refused,
            Standing::Own => Meaning::Obeyed,
            Standing::Idle => Meaning::Harmless,
            Standing::Foreign => Meaning::Ignored,
            Standing::Unknown => Meaning::Unknown,
        }
    }

    /// The register's sentence, or ours where it has none.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        match self.standing {
            Standing::Known(fact) => fact.sentence,
            Standing::Misplaced(_) => "not obeyed inside a block of this kind",
            Standing::Own => "a name of the host's own, which other values read",
            Standing::Idle => "of a plugin that no program loads",
            Standing::Foreign => "of a plugin that is not ours: what it does is not done",
            Standing::Unknown => "nothing reads it, neither here nor there",
        }
    }
}
