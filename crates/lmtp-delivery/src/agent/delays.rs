//! `delay=0.32, delays=0.1/0.09/0/0.08`, with Postfix's roundings.

use std::time::Duration;

use mail_types::Timestamp;
use protocol::postfix::MsgStats;

/// The two fields of a delivery without a connection: the third part is always 0.
pub fn fields(stats: &MsgStats, done: Timestamp) -> String {
    let queue = stats.active_arrival.since(stats.incoming_arrival);
    let hand_over = stats.agent_handoff.since(stats.active_arrival);
    let delivery = done.since(stats.agent_handoff);
    let total = done.since(stats.incoming_arrival);
    let [total, queue, hand_over, delivery] = [total, queue, hand_over, delivery].map(number);
    format!("delay={total}, delays={queue}/{hand_over}/0/{delivery}")
}

/// Two significant digits, at most two decimals, no trailing zeros; whole seconds stay whole.
pub fn number(time: Duration) -> String {
    let hundredths = (time.as_micros() + 5_000) / 10_000;
    if hundredths >= 995 {
        return ((time.as_millis() + 500) / 1000).to_string();
    }
    let text = if hundredths >= 100 {
        let tenths = (time.as_micros() + 50_000) / 100_000;
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        format!("0.{hundredths:02}")
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_postfix_rounds_them() {
        for (micros, expected) in [
            (0, "0"),
            (4_000, "0"),
            (46_000, "0.05"),
            (100_000, "0.1"),
            (324_000, "0.32"),
            (999_000, "1"),
            (1_740_000, "1.7"),
            (2_040_000, "2"),
            (9_960_000, "10"),
            (21_400_000, "21"),
            (1_445_000_000, "1445"),
        ] {
            assert_eq!(number(Duration::from_micros(micros)), expected, "{micros}");
        }
    }
}
