//! Triggers: a few request bytes and a NUL, without an answer (`public/qmgr`, `public/pickup`).

/// What a trigger asks of the queue manager. Bytes that are unknown are ignored, as Postfix does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QmgrTrigger {
    pub scan_incoming: bool,
    pub scan_deferred: bool,
    /// Try dead transports and destinations again in this scan.
    pub unthrottle: bool,
    /// Take deferred mail whose time has not come.
    pub ignore_time: bool,
}

impl QmgrTrigger {
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut trigger = Self::default();
        for byte in bytes {
            match byte {
                b'W' | b'I' => trigger.scan_incoming = true,
                b'D' => trigger.scan_deferred = true,
                b'F' => trigger.unthrottle = true,
                b'A' => trigger.ignore_time = true,
                _ => {}
            }
        }
        trigger
    }

    /// Both, for two triggers that came together.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        Self {
            scan_incoming: self.scan_incoming || other.scan_incoming,
            scan_deferred: self.scan_deferred || other.scan_deferred,
            unthrottle: self.unthrottle || other.unthrottle,
            ignore_time: self.ignore_time || other.ignore_time,
        }
    }
}

/// Wakes any service: new work has come.
pub const WAKEUP: &[u8] = b"W\0";
/// `postqueue -f`, to the queue manager.
pub const FLUSH_QUEUE: &[u8] = b"FADI\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_ask_for_scans() {
        let wakeup = QmgrTrigger::parse(WAKEUP);
        assert_eq!(wakeup, QmgrTrigger { scan_incoming: true, ..QmgrTrigger::default() });
        let flush = QmgrTrigger::parse(FLUSH_QUEUE);
        assert!(
            flush.scan_incoming && flush.scan_deferred && flush.unthrottle && flush.ignore_time
        );
        assert_eq!(QmgrTrigger::parse(b"x\0"), QmgrTrigger::default());
        assert_eq!(wakeup.merge(flush), flush);
    }
}
