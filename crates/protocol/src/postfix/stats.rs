//! `struct MSG_STATS` as it lies in memory on a 64-bit little-endian machine.

use std::time::Duration;

use mail_types::Timestamp;

use super::attr::{AttrError, AttrWriter, Fields};

/// The stations of one delivery, for `delays=a/b/c/d`. A zero time has not been reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsgStats {
    pub incoming_arrival: Timestamp,
    pub active_arrival: Timestamp,
    pub agent_handoff: Timestamp,
    pub conn_setup_done: Timestamp,
    pub deliver_done: Timestamp,
    pub reuse_count: i32,
}

const TIMES: usize = 5;
const SIZE: usize = TIMES * 16 + 8;

impl MsgStats {
    /// `delay=0.32, delays=0.1/0.09/0.04/0.08` of a log line: before the queue manager, in it, connecting, delivering.
    /// `now` counts where the delivery's end was not noted.
    #[must_use]
    pub fn delays(&self, now: Timestamp) -> String {
        let done = if self.deliver_done.is_zero() { now } else { self.deliver_done };
        let reached = |time: Timestamp| (!time.is_zero()).then_some(time);
        let (arrival, active) = (self.incoming_arrival, reached(self.active_arrival));
        let (handoff, setup) = (reached(self.agent_handoff), reached(self.conn_setup_done));
        let zero = Duration::ZERO;
        let parts = match (active, handoff, setup) {
            (None, _, _) => [done.since(arrival), zero, zero, zero],
            (Some(active), None, _) => [active.since(arrival), done.since(active), zero, zero],
            (Some(active), Some(handoff), None) => {
                [active.since(arrival), handoff.since(active), zero, done.since(handoff)]
            }
            (Some(active), Some(handoff), Some(setup)) => {
                let (queue, hand) = (active.since(arrival), handoff.since(active));
                [queue, hand, setup.since(handoff), done.since(setup)]
            }
        };
        let [a, b, c, d] = parts.map(seconds);
        format!("delay={}, delays={a}/{b}/{c}/{d}", seconds(done.since(arrival)))
    }

    pub(super) fn write(&self, to: &mut AttrWriter) {
        let times = [
            self.incoming_arrival,
            self.active_arrival,
            self.agent_handoff,
            self.conn_setup_done,
            self.deliver_done,
        ];
        let mut blob = Vec::with_capacity(SIZE);
        for time in times {
            blob.extend_from_slice(&time.seconds.to_le_bytes());
            blob.extend_from_slice(&i64::from(time.micros).to_le_bytes());
        }
        blob.extend_from_slice(&self.reuse_count.to_le_bytes());
        blob.extend_from_slice(&[0; 4]);
        to.data("time", &blob);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, AttrError> {
        let blob = fields.data("time")?;
        let wrong = || AttrError::Value { name: "time", value: format!("{} octets", blob.len()) };
        let blob: &[u8; SIZE] = blob.as_slice().try_into().map_err(|_| wrong())?;
        let (words, _) = blob.as_chunks::<8>();
        let time = |at: usize| {
            let word = |at: usize| words.get(at).map_or(0, |word| i64::from_le_bytes(*word));
            Timestamp::new(word(at * 2), u32::try_from(word(at * 2 + 1)).unwrap_or(0))
        };
        let last = words.last().copied().unwrap_or_default();
        let [a, b, c, d, ..] = last;
        Ok(Self {
            incoming_arrival: time(0),
            active_arrival: time(1),
            agent_handoff: time(2),
            conn_setup_done: time(3),
            deliver_done: time(4),
            reuse_count: i32::from_le_bytes([a, b, c, d]),
        })
    }
}

/// Two significant digits, at most two decimals, rounded, no zeros at the end; whole seconds stay whole.
fn seconds(time: Duration) -> String {
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
    use crate::postfix::AttrList;

    #[test]
    fn delays_have_two_digits_that_mean_something() {
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
            assert_eq!(seconds(Duration::from_micros(micros)), expected, "{micros}");
        }
        let stats = MsgStats {
            incoming_arrival: Timestamp::new(10, 0),
            active_arrival: Timestamp::new(10, 100_000),
            agent_handoff: Timestamp::new(10, 190_000),
            conn_setup_done: Timestamp::new(10, 230_000),
            deliver_done: Timestamp::new(10, 310_000),
            reuse_count: 0,
        };
        assert_eq!(stats.delays(Timestamp::default()), "delay=0.31, delays=0.1/0.09/0.04/0.08");
    }

    #[test]
    fn the_blob_is_the_one_that_qmgr_sends() {
        let stats = MsgStats {
            incoming_arrival: Timestamp::new(1_795_294_973, 359_036),
            active_arrival: Timestamp::new(1_795_294_973, 459_762),
            ..MsgStats::default()
        };
        let mut writer = AttrWriter::new();
        stats.write(&mut writer);
        let bytes = writer.end();
        assert!(bytes.starts_with(b"time\0/QYCawAAAAB8egUAAAAAAP0GAmsAAAAA8gMHAAAA"));
        let list = AttrList::parse(&bytes).unwrap();
        assert_eq!(list.fields().text("time").unwrap().len(), 120);
        assert_eq!(MsgStats::read(&mut list.fields()), Ok(stats));
    }

    #[test]
    fn another_size_is_refused() {
        let list = AttrList::parse(b"time\0AAAA\0\0").unwrap();
        assert!(MsgStats::read(&mut list.fields()).is_err());
    }
}
