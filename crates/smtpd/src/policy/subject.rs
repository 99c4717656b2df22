//! What is known of a client and its transaction when a restriction looks at it.

use neighbours::postmaster::Classes;
use protocol::smtp::Reply;

use crate::client::{Client, Login};
use crate::text::logged;

/// Where in the dialogue we are, by the name that log lines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connect,
    /// The verb of the command that is looked at.
    Command(&'static str),
    EndOfMessage,
}

impl Stage {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Command(verb) => verb,
            Self::EndOfMessage => "END-OF-MESSAGE",
        }
    }
}

/// One question to the restrictions.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub client: &'a Client,
    pub helo: Option<&'a str>,
    pub protocol: &'static str,
    /// Internal form; empty for the null sender.
    pub sender: Option<&'a str>,
    pub recipient: Option<&'a str>,
    pub etrn: Option<&'a str>,
    pub login: Option<&'a Login>,
    /// AUTH can be used on this connection: what `permit_sasl_authenticated` depends on.
    pub sasl_active: bool,
    pub tls: bool,
    pub smtputf8: bool,
    /// The client sent commands where it had to wait.
    pub pipelined: bool,
    pub recipients: usize,
    pub stage: Stage,
    /// Octets of the message, or what the client announced.
    pub size: u64,
    /// Names the transaction to policy servers.
    pub instance: &'a str,
    /// `AUTH=` of MAIL.
    pub sasl_sender: Option<&'a str>,
    pub stress: bool,
    /// TLS version, cipher and bits.
    pub encryption: Option<(&'a str, &'a str, u16)>,
    /// `NOQUEUE` until the queue file has a name.
    pub queue_id: Option<&'a str>,
}

impl Subject<'_> {
    /// The line that Postfix writes for an event: `ID: WHAT: STAGE from CLIENT: TEXT; from=<…> to=<…> …`.
    #[must_use]
    pub fn line(&self, what: &str, text: &str) -> String {
        let mut line = format!(
            "{}: {what}: {} from {}: {text};",
            self.queue_id.unwrap_or("NOQUEUE"),
            self.stage.name(),
            self.client.name_and_address(),
        );
        if let Some(sender) = self.sender {
            line.push_str(&format!(" from=<{}>", logged(sender)));
        }
        if let Some(recipient) = self.recipient {
            line.push_str(&format!(" to=<{}>", logged(recipient)));
        }
        line.push_str(&format!(" proto={}", self.protocol));
        if let Some(helo) = self.helo {
            line.push_str(&format!(" helo=<{helo}>"));
        }
        line
    }
}

/// What access tables want done with the message, if it is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub filter: Option<String>,
    pub redirect: Option<String>,
    pub bcc: Vec<String>,
    pub prepend: Vec<String>,
    pub hold: bool,
    /// Claim to have accepted it; no further restriction is looked at.
    pub discard: bool,
}

/// A postponed refusal: it counts only if the request would be permitted, or refused, in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postponed {
    pub code: u16,
    pub status: String,
    pub text: String,
}

/// What restrictions leave behind from stage to stage of one connection.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    pub wishes: Wishes,
    /// Lines to log, in order, each with whether it is a warning about our own configuration.
    pub log: Vec<String>,
    /// What refusals and faults of ours mean to the postmaster.
    pub wrong: Classes,
    pub defer_if_permit: Option<Postponed>,
    pub(super) permit_deferred: bool,
    pub(super) deferred_by_client: bool,
    pub(super) deferred_by_helo: bool,
    pub(super) deferred_by_sender: bool,
    pub(super) sender_checked: bool,
    pub(super) recipient_checked: bool,
}

impl Transcript {
    /// Forgets what belongs to a transaction.
    pub fn end_transaction(&mut self) {
        self.wishes = Wishes::default();
    }
}

/// The reply that a finished rejection text means; what it cannot mean was checked when it was made.
pub(super) fn reply(text: &str) -> Reply {
    Reply::from_rejection(text).unwrap_or_else(|| Reply::new(450, "4.7.1 Service unavailable"))
}
