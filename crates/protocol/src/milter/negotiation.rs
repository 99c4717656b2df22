//! The first frame of each side.

use bytes::Bytes;

use super::fields::{Fields, put};
use super::{Actions, BadMessage, LONGEST_LIST, Steps, VERSION};

/// The server's offer, or the filter's answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    pub version: u32,
    pub actions: Actions,
    pub steps: Steps,
    /// Macros that the filter wants (`i {auth_type}`), by the number of their class
    /// ([`MacroClass::of_number`](super::MacroClass::of_number)); numbers that nobody knows stay in.
    pub macros: Vec<(u32, Bytes)>,
}

impl Default for Negotiation {
    /// A filter that sees everything and changes nothing.
    fn default() -> Self {
        Self { version: VERSION, actions: Actions(0), steps: Steps(0), macros: Vec::new() }
    }
}

impl Negotiation {
    /// What Postfix offers in this version; none if the version is not spoken.
    #[must_use]
    pub fn offer(version: u32) -> Option<Self> {
        let steps = Steps::offered(version)?;
        Some(Self { version, actions: Actions::ALL, steps, macros: Vec::new() })
    }

    pub(super) fn read(mut fields: Fields) -> Result<Self, BadMessage> {
        let (version, actions, steps) = (fields.long()?, fields.long()?, fields.long()?);
        let mut macros = Vec::new();
        while !fields.is_empty() {
            if macros.len() == LONGEST_LIST {
                return Err(BadMessage::TooMany(b'O'));
            }
            macros.push((fields.long()?, fields.text()?));
        }
        Ok(Self { version, actions: Actions(actions), steps: Steps(steps), macros })
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        for number in [self.version, self.actions.0, self.steps.0] {
            to.extend_from_slice(&number.to_be_bytes());
        }
        for (class, names) in &self.macros {
            to.extend_from_slice(&class.to_be_bytes());
            put(to, names);
        }
    }
}
