//! The log lines of the queue manager and of the agents inside it, in Postfix's words.

use mail_types::{QueueId, Timestamp, quote_822};
use protocol::postfix::{Dsn, MsgStats, Recipient};

/// Writes lines as one of Postfix's programs.
#[derive(Clone, Debug)]
pub struct Log {
    ident: String,
}

impl Log {
    #[must_use]
    pub fn new(syslog_name: &str, program: &str) -> Self {
        Self { ident: format!("{syslog_name}/{program}") }
    }

    pub fn info(&self, id: &QueueId, text: &str) {
        tracing::info!(target: "mail", ident = %self.ident, queue_id = %id, "{id}: {text}");
    }

    pub fn warning(&self, text: &str) {
        tracing::warn!(target: "mail", ident = %self.ident, "warning: {text}");
    }

    /// What became of one recipient.
    pub fn recipient(
        &self,
        id: &QueueId,
        recipient: &Recipient,
        stats: &MsgStats,
        now: Timestamp,
        relay: &str,
        status: &str,
        dsn: &Dsn,
    ) {
        let line = recipient_line(recipient, stats, now, relay, status, dsn);
        self.info(id, &line);
    }
}

/// `to=<>, [orig_to=<>, ]relay=…, delay=…, delays=a/b/c/d, dsn=…, status=WORD (TEXT)`.
#[must_use]
pub fn recipient_line(
    recipient: &Recipient,
    stats: &MsgStats,
    now: Timestamp,
    relay: &str,
    status: &str,
    dsn: &Dsn,
) -> String {
    let original = &recipient.original;
    let original = if original.is_empty() || original.eq_ignore_ascii_case(&recipient.address) {
        String::new()
    } else {
        format!("orig_to=<{}>, ", quote_822(original))
    };
    format!(
        "to=<{}>, {original}relay={relay}, {}, dsn={}, status={status} ({})",
        external(&recipient.address),
        stats.delays(now),
        dsn.status,
        dsn.reason
    )
}

/// The address as logs show it; nobody is nothing.
#[must_use]
pub fn external(address: &str) -> String {
    if address.is_empty() { String::new() } else { quote_822(address) }
}

#[cfg(test)]
mod tests {
    use super::recipient_line;
    use mail_types::Timestamp;
    use protocol::postfix::{Dsn, MsgStats, Recipient};

    #[test]
    fn a_recipient_is_one_line() {
        let recipient = Recipient {
            original: "list".into(),
            address: "a b@example.com".into(),
            ..Recipient::default()
        };
        let stats = MsgStats {
            incoming_arrival: Timestamp::new(100, 0),
            active_arrival: Timestamp::new(101, 500_000),
            ..MsgStats::default()
        };
        let dsn = Dsn::local("4.3.0", "delayed", "mail transport unavailable");
        insta::assert_snapshot!(
            recipient_line(&recipient, &stats, Timestamp::new(102, 0), "none", "deferred", &dsn),
            @r#"to=<"a b"@example.com>, orig_to=<list>, relay=none, delay=2, delays=1.5/0.5/0/0, dsn=4.3.0, status=deferred (mail transport unavailable)"#
        );
    }
}
