//! Time, as something a test can hold still.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where a program learns the time.
pub trait Clock: Send + Sync {
    fn now(&self) -> SystemTime;

    fn timestamp(&self) -> Timestamp {
        Timestamp::from(self.now())
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands: every test may have its own hour.
impl Clock for SystemTime {
    fn now(&self) -> SystemTime {
        *self
    }
}

/// Seconds and microseconds since 1970, as queue files and Postfix's protocols hold them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    pub seconds: i64,
    /// 0 to 999,999.
    pub micros: u32,
}

impl Timestamp {
    #[must_use]
    pub const fn new(seconds: i64, micros: u32) -> Self {
        Self { seconds, micros: micros % 1_000_000 }
    }

    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.seconds == 0 && self.micros == 0
    }

    /// This time minus an earlier one; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = |at: Self| i128::from(at.seconds) * 1_000_000 + i128::from(at.micros);
        Duration::from_micros(u64::try_from(micros(self) - micros(earlier)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_micros())
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        let seconds = Duration::from_secs(u64::try_from(at.seconds).unwrap_or(0));
        UNIX_EPOCH
            .checked_add(seconds + Duration::from_micros(u64::from(at.micros)))
            .unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_interval_is_none() {
        let (early, late) = (Timestamp::new(5, 900_000), Timestamp::new(6, 100_000));
        assert_eq!(late.since(early), Duration::from_millis(200));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(Timestamp::from(SystemTime::from(early)), early);
    }
}
