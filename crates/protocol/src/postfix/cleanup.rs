//! The cleanup service (`public/cleanup`): how a message enters the queue.
//!
//! The server greets with the queue id, the client sends flags and then records, the server
//! answers once. Both sides are here: [`Greeting`] and [`Outcome`] are the server's,
//! [`CleanupFlags`] and the records of [`super::record`] the client's.

use mail_types::QueueId;

use super::attr::{AttrError, AttrList, AttrWriter};
use super::{Dialect, protocols};

/// What the client wants done with the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupFlags(pub u32);

impl CleanupFlags {
    /// Bounce bad messages instead of returning an error.
    pub const BOUNCE: Self = Self(1);
    /// Header and body checks.
    pub const FILTER: Self = Self(2);
    pub const HOLD: Self = Self(4);
    pub const DISCARD: Self = Self(8);
    /// Add recipients of `always_bcc` and the bcc maps.
    pub const BCC_OK: Self = Self(16);
    /// Canonical, virtual alias and masquerade mapping.
    pub const MAP_OK: Self = Self(32);
    pub const MILTER: Self = Self(64);
    /// The reason of a refusal is an SMTP reply.
    pub const SMTP_REPLY: Self = Self(128);
    pub const SMTPUTF8: Self = Self(256);
    pub const AUTOUTF8: Self = Self(512);
    /// Since 3.11.
    pub const REQUIRE_TLS: Self = Self(1024);

    /// What smtpd asks for by default.
    pub const SMTPD: Self = Self(2 | 16 | 32 | 128);
    /// What pickup asks for.
    pub const PICKUP: Self = Self(1 | 2 | 16 | 32 | 64 | 512);
    /// What the bounce service asks for.
    pub const INTERNAL: Self = Self(32);

    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        list.uint("flags", self.0);
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if the list is another one.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let flags = Self(fields.uint("flags")?);
        fields.finish()?;
        Ok(flags)
    }
}

/// The server's first words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub queue_id: QueueId,
}

impl Greeting {
    #[must_use]
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let mut list = AttrWriter::new();
        if dialect.server_names_protocol() {
            list.text("protocol", protocols::CLEANUP);
        }
        list.text("queue_id", self.queue_id.as_str());
        list.end()
    }

    /// Takes the greeting of any version.
    ///
    /// # Errors
    ///
    /// [`AttrError`] if it is no greeting of cleanup.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        if fields.peek() == Some("protocol") {
            let name = fields.text("protocol")?;
            if name != protocols::CLEANUP {
                let value = super::attr::excerpt(name);
                return Err(AttrError::Value { name: "protocol", value });
            }
        }
        let id = fields.text("queue_id")?;
        let bad = |_| AttrError::Value { name: "queue_id", value: super::attr::excerpt(id) };
        let queue_id = QueueId::parse(id).map_err(bad)?;
        fields.finish()?;
        Ok(Self { queue_id })
    }
}

/// Why a message was not queued: bits, since several can come together. Zero: it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupStatus(pub u32);

impl CleanupStatus {
    pub const OK: Self = Self(0);
    pub const BAD: Self = Self(1);
    pub const WRITE: Self = Self(2);
    pub const SIZE: Self = Self(4);
    pub const CONT: Self = Self(8);
    pub const HOPS: Self = Self(16);
    pub const RCPT: Self = Self(64);
    pub const PROXY: Self = Self(128);
    pub const DEFER: Self = Self(256);
    pub const NOPERM: Self = Self(512);

    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The one fault that is told, of several: SMTP code, enhanced status, text.
    #[must_use]
    pub fn fault(self) -> Option<Fault> {
        FAULTS.into_iter().find(|fault| self.contains(fault.status)).or_else(|| {
            (!self.is_ok()).then_some(Fault { status: self, ..FAULTS[2] }) // an unknown bit
        })
    }

    /// Whether the client may try the same message again.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        self.fault().is_some_and(|fault| fault.code < 500)
    }
}

/// How a fault is told to an SMTP client: `CODE DSN Error: TEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: CleanupStatus,
    pub code: u16,
    pub dsn: &'static str,
    pub text: &'static str,
}

const fn fault(status: CleanupStatus, code: u16, dsn: &'static str, text: &'static str) -> Fault {
    Fault { status, code, dsn, text }
}

/// In order of importance.
const FAULTS: [Fault; 9] = [
    fault(CleanupStatus::DEFER, 451, "4.7.1", "service unavailable"),
    fault(CleanupStatus::PROXY, 451, "4.3.0", "queue file write error"),
    fault(CleanupStatus::BAD, 451, "4.3.0", "internal protocol error"),
    fault(CleanupStatus::RCPT, 550, "5.1.0", "no recipients specified"),
    fault(CleanupStatus::HOPS, 554, "5.4.0", "too many hops"),
    fault(CleanupStatus::SIZE, 552, "5.3.4", "message file too big"),
    fault(CleanupStatus::CONT, 550, "5.7.1", "message content rejected"),
    fault(CleanupStatus::WRITE, 451, "4.3.0", "queue file write error"),
    fault(CleanupStatus::NOPERM, 550, "5.7.1", "service denied"),
];

/// The server's last words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub status: CleanupStatus,
    /// Text of a header or body check or a milter; empty otherwise.
    pub reason: String,
}

impl Outcome {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        list.uint("status", self.status.0);
        list.text("reason", &self.reason);
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if the list is another one.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let status = CleanupStatus(fields.uint("status")?);
        let reason = fields.string("reason")?;
        fields.finish()?;
        Ok(Self { status, reason })
    }

    /// The SMTP reply that this outcome means, or nothing when the message is queued.
    ///
    /// With CONT or DEFER a reason that begins with a reply code is the reply; any other reason
    /// gets the fault's code, and its own or the fault's enhanced status.
    #[must_use]
    pub fn smtp_reply(&self) -> Option<String> {
        let fault = self.status.fault()?;
        let told = fault.status == CleanupStatus::CONT || fault.status == CleanupStatus::DEFER;
        if !told || self.reason.is_empty() {
            return Some(format!("{} {} Error: {}", fault.code, fault.dsn, fault.text));
        }
        let code = self.reason.get(..4).filter(|code| {
            code.starts_with(['4', '5'])
                && code.ends_with([' ', '-'])
                && code.bytes().take(3).all(|byte| byte.is_ascii_digit())
        });
        if code.is_some() {
            return Some(self.reason.clone());
        }
        match mail_types::EnhancedStatus::prefix_of(&self.reason) {
            Some((dsn, text)) => Some(format!("{} {dsn} {text}", fault.code)),
            None => Some(format!("{} {} {}", fault.code, fault.dsn, self.reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversation_is_the_captured_one() {
        let greeting = Greeting { queue_id: QueueId::parse("640A99A4A51").unwrap() };
        let new = greeting.encode(Dialect::V3_6);
        assert_eq!(new, b"protocol\0cleanup_protocol\0queue_id\x00640A99A4A51\0\0");
        let old = greeting.encode(Dialect::V3_5);
        assert_eq!(old, b"queue_id\x00640A99A4A51\0\0");
        for bytes in [new, old] {
            assert_eq!(Greeting::decode(&AttrList::parse(&bytes).unwrap()), Ok(greeting.clone()));
        }
        assert_eq!(CleanupFlags::SMTPD.encode(), b"flags\x00178\0\0");
        assert_eq!(CleanupFlags::PICKUP.encode(), b"flags\x00627\0\0");
        assert_eq!(Outcome::default().encode(), b"status\x000\0reason\0\0\0");
    }

    #[test]
    fn a_fault_is_an_smtp_reply() {
        for (status, reason, reply) in [
            (0, "", None),
            (16, "", Some("554 5.4.0 Error: too many hops")),
            (4 | 2, "", Some("552 5.3.4 Error: message file too big")),
            (8, "5.7.1 no such subject", Some("550 5.7.1 no such subject")),
            (8, "no", Some("550 5.7.1 no")),
            (8, "450 4.2.0 later", Some("450 4.2.0 later")),
            (8, "", Some("550 5.7.1 Error: message content rejected")),
            (256 | 8, "", Some("451 4.7.1 Error: service unavailable")),
            (1 << 20, "", Some("451 4.3.0 Error: internal protocol error")),
        ] {
            let outcome = Outcome { status: CleanupStatus(status), reason: reason.to_owned() };
            assert_eq!(outcome.smtp_reply().as_deref(), reply);
            let list = AttrList::parse(&outcome.encode()).unwrap();
            assert_eq!(Outcome::decode(&list), Ok(outcome));
        }
    }
}
