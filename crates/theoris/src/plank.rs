//! The planks of the ship: what one daemon of ours takes over, and whose work that was.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One part of a mail host that is taken over and given back on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plank {
    Dkim,
    Auth,
    Mda,
    Pop3,
    Imap,
    SmtpOut,
    SmtpIn,
    Queue,
}

impl Plank {
    /// In the order in which they are best taken over: the smallest loss if something goes wrong comes first.
    pub const ALL: [Self; 8] = [
        Self::Dkim,
        Self::Auth,
        Self::Mda,
        Self::Pop3,
        Self::Imap,
        Self::SmtpOut,
        Self::SmtpIn,
        Self::Queue,
    ];

    /// What the operator calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dkim => "dkim",
            Self::Auth => "auth",
            Self::Mda => "mda",
            Self::Pop3 => "pop3",
            Self::Imap => "imap",
            Self::SmtpOut => "smtp-out",
            Self::SmtpIn => "smtp-in",
            Self::Queue => "queue",
        }
    }

    /// The plank of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plank| plank.name() == name)
    }

    /// The daemon of ours that serves it.
    #[must_use]
    pub fn daemon(self) -> &'static str {
        match self {
            Self::Dkim => "dkim-milter",
            Self::Auth => "authd",
            Self::Mda => "lmtp-delivery",
            Self::Pop3 => "pop3d",
            Self::Imap => "imapd",
            Self::SmtpOut => "smtp-delivery",
            Self::SmtpIn => "smtpd",
            Self::Queue => "queue-manager",
        }
    }

    /// The programs of master.cf that it stands in for.
    #[must_use]
    pub fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Mda => &["local", "virtual", "pipe"],
            Self::SmtpOut => &["smtp", "lmtp"],
            Self::SmtpIn => &["smtpd", "postscreen", "dnsblog", "tlsproxy", "anvil"],
            Self::Queue => &[
                "pickup",
                "cleanup",
                "qmgr",
                "oqmgr",
                "bounce",
                "showq",
                "flush",
                "trivial-rewrite",
                "error",
                "discard",
            ],
            Self::Dkim | Self::Auth | Self::Pop3 | Self::Imap => &[],
        }
    }

    /// The programs of Dovecot, as the register calls them, whose settings it reads.
    #[must_use]
    pub fn dovecot_readers(self) -> &'static [&'static str] {
        match self {
            Self::Auth => &["auth", "auth-pam", "passwd-file", "auth-static"],
            Self::Mda => &["lmtp", "mail"],
            Self::Pop3 => &["login", "pop3-login", "mail", "pop3", "ssl"],
            Self::Imap => &["login", "imap-login", "mail", "imap", "ssl"],
            Self::Dkim | Self::SmtpOut | Self::SmtpIn | Self::Queue => &[],
        }
    }
}

impl fmt::Display for Plank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plank_has_a_name_and_a_daemon_of_its_own() {
        for plank in Plank::ALL {
            assert_eq!(Plank::named(plank.name()), Some(plank));
            assert_eq!(
                Plank::ALL.iter().filter(|other| other.daemon() == plank.daemon()).count(),
                1
            );
        }
        assert_eq!(Plank::named("smtp"), None);
    }
}
