//! The log lines of the queue manager and of the agents inside it, in Postfix's words.

use std::time::Duration;

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
        delays(stats, now),
        dsn.status,
        dsn.reason
    )
}

/// The address as logs show it; nobody is nothing.
#[must_use]
pub fn external(address: &str) -> String {
    if address.is_empty() { String::new() } else { quote_822(address) }
}

/// `delay=…, delays=a/b/c/d`: before the queue manager, in it, connecting, delivering.
fn delays(stats: &MsgStats, now: Timestamp) -> String {
    let done = if stats.deliver_done.is_zero() { now } else { stats.deliver_done };
    let reached = |time: Timestamp| (!time.is_zero()).then_some(time);
    let (arrival, active) = (stats.incoming_arrival, reached(stats.active_arrival));
    let (handoff, setup) = (reached(stats.agent_handoff), reached(stats.conn_setup_done));
    let zero = Duration::ZERO;
    let parts = match (active, handoff, setup) {
        (None, _, _) => [done.since(arrival), zero, zero, zero],
        (Some(active), None, _) => [active.since(arrival), done.since(active), zero, zero],
        (Some(active), Some(handoff), None) => {
            [active.since(arrival), handoff.since(active), zero, done.since(handoff)]
        }
        (Some(active), Some(handoff), Some(setup)) => {
            [active.since(arrival), handoff.since(active), setup.since(handoff), done.since(setup)]
        }
    };
    let [a, b, c, d] = parts.map(seconds);
    format!("delay={}, delays={a}/{b}/{c}/{d}", seconds(done.since(arrival)))
}

/// Two significant digits, at most two decimals, no zeros at the end.
fn seconds(time: Duration) -> String {
    let decimals = match time.as_secs() {
        0 => 2,
        1..=9 => 1,
        _ => 0,
    };
    let text = format!("{:.decimals$}", time.as_secs_f64());
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{recipient_line, seconds};
    use mail_types::Timestamp;
    use protocol::postfix::{Dsn, MsgStats, Recipient};
    use std::time::Duration;

    #[test]
    fn delays_have_two_digits_that_mean_something() {
        for (millis, text) in [
            (0, "0"),
            (4, "0"),
            (32, "0.03"),
            (320, "0.32"),
            (100, "0.1"),
            (1_749, "1.7"),
            (9_000, "9"),
            (21_300, "21"),
            (1_445_000, "1445"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

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
