//! Dice, and messages that tell by their text who they are.

use std::time::{SystemTime, UNIX_EPOCH};

/// A reproducible sequence of choices (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())].clone())
    }

    /// Up to `most` different ones, in their order.
    pub fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let wanted = (1 + self.below(most)).min(from.len());
        let mut left = wanted;
        let mut found = Vec::new();
        for (index, one) in from.iter().enumerate() {
            if left > 0 && self.below(from.len() - index) < left {
                found.push(one.clone());
                left -= 1;
            }
        }
        found
    }
}

pub fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(since.subsec_nanos() ^ std::process::id())
}

/// The whole message `id`, with CRLF.
pub fn text(id: &str) -> String {
    let weight = id.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
    let mut text = format!("X-Soak: {id}\r\nMessage-ID: <{id}@soak.test>\r\nSubject: {id}\r\n\r\n");
    for line in 0..weight % 97 {
        let dot = if line % 7 == 3 { "." } else { "" };
        text.push_str(&format!("{dot}line {line} of {id}, by one and by another server\r\n"));
    }
    text
}

/// The id in what a server gave of a message.
pub fn id_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("X-Soak: ")?;
    rest.split(['\r', '\n']).next()
}

/// Stops the test unless this is the message `id`, with whatever a delivery has put before it.
#[track_caller]
pub fn assert_is(received: &str, id: &str) {
    let at = received.find("X-Soak: ").unwrap_or(received.len());
    assert!(received[at..] == text(id), "{id} is not what it was:\n{received}");
}
