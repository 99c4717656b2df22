//! `reject_unverified_sender` and `reject_unverified_recipient`: does an address bounce?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dsn::SENDER;
use super::evaluate::{Evaluation, Outcome};
use super::{Tempfail, World};

/// What the verify service knows of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    Deliverable,
    Deferred(String),
    Undeliverable(String),
    /// A probe is under way.
    Pending(String),
}

/// `address_verify_*` and `unverified_*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verification {
    pub poll_count: u32,
    pub poll_delay: Duration,
    pub sender: Unverified,
    pub recipient: Unverified,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Unverified {
    pub defer_code: u16,
    pub reject_code: u16,
    /// Said instead of the probe's own reason.
    pub reason: String,
    pub tempfail: Tempfail,
}

impl<W: World> Evaluation<'_, W> {
    pub(super) async fn unverified(&mut self, address: &str, class: &str) -> Outcome {
        let verification = &self.settings.verification;
        let (kind, status) = if class == SENDER {
            (&verification.sender, "4.1.7")
        } else {
            (&verification.recipient, "4.1.1")
        };
        let mut polls = 0;
        let probe = loop {
            let answer = self.world.verify(address).await;
            polls += 1;
            if !matches!(answer, Ok(Probe::Pending(_))) || polls >= verification.poll_count {
                break answer;
            }
            tokio::time::sleep(verification.poll_delay).await;
        };
        let (code, why) = match probe {
            Ok(Probe::Deliverable) => return Outcome::Dunno,
            Ok(Probe::Deferred(why) | Probe::Pending(why)) => (kind.defer_code, why),
            Ok(Probe::Undeliverable(why)) => (kind.reject_code, why),
            Err(why) => {
                self.warn(&why);
                self.warn("verify service failure");
                let text = format!("<{address}>: {class} rejected: address verification problem");
                return self.tempfail(kind.tempfail, 450, status, &text);
            }
        };
        let why = if kind.reason.is_empty() { why } else { kind.reason.clone() };
        match code / 100 {
            2 => Outcome::Dunno,
            4 => {
                let why = crate::text::cut(&why, 250);
                let text = format!("<{address}>: {class} rejected: unverified address: {why}");
                self.tempfail(kind.tempfail, code, status, &text)
            }
            _ => {
                let text = format!("<{address}>: {class} rejected: undeliverable address: {why}");
                self.reject(code, status, &text)
            }
        }
    }
}
