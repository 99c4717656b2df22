//! How a command ends: the tagged line, in Dovecot's words.

use std::time::{Duration, SystemTime};

use mailstore::StoreError;
use protocol::imap::date::DateTime;

/// To COPY and MOVE of a message that somebody else has taken away.
pub const EXPUNGED: &str = "[EXPUNGEISSUED] Some of the requested messages no longer exist.";

/// The tagged answer, without its tag and timing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Ok(String),
    No(String),
    Bad(String),
}

impl Reply {
    pub fn ok(text: impl Into<String>) -> Self {
        Self::Ok(text.into())
    }

    pub fn no(text: impl Into<String>) -> Self {
        Self::No(text.into())
    }

    pub fn bad(text: impl Into<String>) -> Self {
        Self::Bad(text.into())
    }

    /// `Select completed`
    #[must_use]
    pub fn completed(title: &str) -> Self {
        Self::Ok(format!("{title} completed"))
    }

    #[must_use]
    pub fn no_mailbox_selected() -> Self {
        Self::bad("No mailbox selected")
    }

    #[must_use]
    pub fn invalid_set(command: &str) -> Self {
        Self::Bad(format!("Error in IMAP command {command}: Invalid messageset"))
    }

    /// The complete line with its timing, which Dovecot rounds up.
    #[must_use]
    pub fn line(&self, tag: &str, took: Duration) -> String {
        let (word, text) = match self {
            Self::Ok(text) => ("OK", text),
            Self::No(text) => ("NO", text),
            Self::Bad(text) => ("BAD", text),
        };
        let seconds = took.as_secs_f64().max(0.001);
        let text = text.strip_suffix('.').unwrap_or(text);
        format!("{tag} {word} {text} ({seconds:.3} + 0.000 secs).\r\n")
    }
}

/// What a client learns of a failure in the store. What only the operator can mend is logged.
#[must_use]
pub fn refusal(error: &StoreError, log: impl FnOnce(&str)) -> Reply {
    match error {
        StoreError::NoMailbox(_) => Reply::No(error.to_string()),
        StoreError::Exists => Reply::No(format!("[ALREADYEXISTS] {error}")),
        StoreError::Name(_) | StoreError::RenameInbox => Reply::No(format!("[CANNOT] {error}")),
        StoreError::DeleteInbox => Reply::no("INBOX can't be deleted"),
        StoreError::ReadOnly => Reply::no("[NOPERM] Mailbox is read-only"),
        StoreError::Expunged(_) => Reply::no(EXPUNGED),
        StoreError::OverQuota => Reply::No(format!("[OVERQUOTA] {error}")),
        StoreError::TooManyKeywords => Reply::No(format!("[LIMIT] {error}")),
        StoreError::InvalidKeyword => Reply::no("[CANNOT] Invalid characters in keyword"),
        StoreError::Locked => Reply::no("[INUSE] Timeout while waiting for lock"),
        _ if error.is_full() => Reply::no("[OVERQUOTA] Not enough disk space"),
        StoreError::NoUidsLeft | StoreError::TooLarge { .. } | StoreError::Io { .. } => {
            log(&error.to_string());
            internal()
        }
    }
}

/// Something that the client need not know; the log tells it.
#[must_use]
pub fn internal() -> Reply {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    let at = DateTime { seconds, zone: 0 };
    Reply::No(format!(
        "[SERVERBUG] Internal error occurred. Refer to server log for more information. [{at}]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dovecots() {
        let line = |reply: &Reply| reply.line("a", Duration::from_micros(3));
        assert_eq!(
            line(&Reply::completed("Noop")),
            "a OK Noop completed (0.001 + 0.000 secs).\r\n"
        );
        assert_eq!(
            line(&Reply::no_mailbox_selected()),
            "a BAD No mailbox selected (0.001 + 0.000 secs).\r\n"
        );
        let missing = StoreError::NoMailbox("x".into());
        let reply = refusal(&missing, |_| {});
        assert_eq!(line(&reply), "a NO Mailbox doesn't exist: x (0.001 + 0.000 secs).\r\n");
    }
}
