//! `struct MSG_STATS` as it lies in memory on a 64-bit little-endian machine.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postfix::AttrList;

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
