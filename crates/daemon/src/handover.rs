//! What supervisor and workers say to each other over the worker's control socket (its stdin).
//!
//! A datagram is the length of a JSON head (four bytes, little endian), the head, and a payload
//! that only the daemon understands; descriptors travel beside it. A worker is not trusted: what it
//! sends is bounded, and a head that does not parse ends it.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::descriptors::LONGEST_DATAGRAM;
use crate::plan::Log;
use crate::privileges::Account;
use crate::sandbox::{self, Needs};
use crate::tls;

/// The first argument of a worker; the supervisor gives it, nobody else should.
pub(crate) const WORKER_ARGUMENT: &str = "--theoris-worker";
/// Bytes of a daemon's payload in one hand-over.
pub const LONGEST_PAYLOAD: usize = 64 * 1024;
const LONGEST_HEAD: usize = 16 * 1024;

/// A user that a worker is to be started for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    /// Extra groups; the plan says which may be asked for.
    pub groups: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum ToWorker {
    /// Names of the descriptors in this datagram.
    Descriptors(Vec<Descriptor>),
    /// The descriptor is memory with a [`Start`].
    Start,
    /// The descriptor is memory with a renewed [`tls::Bundle`].
    Renewed,
    /// The descriptor is a changed file.
    File(String),
    /// Payload and descriptors come from another worker.
    HandOver(Identity),
    Finish {
        stop: bool,
        within_ms: u64,
    },
    /// No older process of this role is left.
    Alone,
    /// For the control worker: a channel to a worker that has started.
    Metrics {
        role: String,
    },
    /// For the control worker: memory with the supervisor's state as JSON.
    State,
    /// The descriptors are the log files, opened anew.
    Log(Log),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum FromWorker {
    Ready,
    /// Could not start; why, and its exit code.
    Failed {
        text: String,
        code: u8,
    },
    HandOver {
        role: String,
        identity: Identity,
    },
    /// Accepts no more: the answer to `Finish`.
    Finishing,
    /// Nothing to do for a while, after so many hand-overs.
    Idle {
        received: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Descriptor {
    Listener(String),
    LinkClient(String),
    LinkServer(String),
    File(String),
    /// Where the control worker asks for the metrics.
    Metrics,
    /// A log file, by its number.
    Log(usize),
}

/// All a worker needs to know before it does anything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub role: String,
    pub generation: u64,
    pub account: Option<Account>,
    pub home: Option<String>,
    pub threads: usize,
    pub connections: usize,
    pub idle_ms: Option<u64>,
    pub sandbox: Option<Needs>,
    pub mode: sandbox::Mode,
    pub settings: serde_json::Value,
    pub tls: Vec<tls::Bundle>,
    pub log: Log,
    /// The journal's socket; `None` is stderr.
    pub journal: Option<PathBuf>,
}

pub(crate) fn encode<T: Serialize>(head: &T, payload: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
    if head.len() > LONGEST_HEAD || payload.len() > LONGEST_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "hand-over too large"));
    }
    const { assert!(4 + LONGEST_HEAD + LONGEST_PAYLOAD <= LONGEST_DATAGRAM) };
    Ok([&length.to_le_bytes()[..], &head, payload].concat())
}

pub(crate) fn decode<T: DeserializeOwned>(datagram: &[u8]) -> io::Result<(T, &[u8])> {
    let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let (length, rest) =
        datagram.split_first_chunk::<4>().ok_or_else(|| bad("no head".to_owned()))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (head, payload) = rest
        .split_at_checked(length)
        .filter(|_| length <= LONGEST_HEAD)
        .ok_or_else(|| bad("head longer than its datagram".to_owned()))?;
    let head = serde_json::from_slice(head).map_err(|error| bad(format!("bad head: {error}")))?;
    Ok((head, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_and_payloads_come_back() {
        let bytes = encode(&FromWorker::Idle { received: 7 }, b"\0rest").unwrap();
        let (head, payload) = decode::<FromWorker>(&bytes).unwrap();
        assert!(matches!(head, FromWorker::Idle { received: 7 }));
        assert_eq!(payload, b"\0rest");
        assert!(encode(&FromWorker::Ready, &vec![0; LONGEST_PAYLOAD + 1]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<FromWorker>(&bytes).is_err());
        }
    }
}
