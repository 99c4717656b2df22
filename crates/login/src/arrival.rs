//! A client that has logged in, as it comes to the mailbox worker.

use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use daemon::{HandedOver, Stream, Wire};
use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::packet;

/// What the broker tells the mailbox worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passenger {
    /// The name that the auth server confirmed.
    pub user: String,
    pub home: String,
    /// The userdb's fields: `mail`, `quota_rule`, any setting.
    pub fields: Vec<(String, Option<String>)>,
    pub facts: Facts,
}

/// A client at the mailbox worker's door.
#[derive(Debug)]
pub struct Arrival {
    pub passenger: Passenger,
    /// What the daemon's login conversation wanted its session to know.
    pub extra: Vec<u8>,
    /// Octets that the client had sent already.
    pub input: Vec<u8>,
    connection: OwnedFd,
    /// Hold it as long as the session lasts.
    pub lease: Lease,
}

/// While it lives, the broker counts the connection.
#[derive(Debug)]
pub struct Lease(UnixStream);

/// A hand-over that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("a hand-over that cannot be read")]
pub struct BadArrival;

impl Passenger {
    /// A field of the userdb.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(key, _)| key == name);
        found.next_back().and_then(|(_, value)| value.as_deref())
    }

    pub(crate) fn packet(&self, extra: &[u8], input: &[u8]) -> io::Result<Vec<u8>> {
        packet::join(self, extra, input)
    }
}

impl Arrival {
    /// Takes a hand-over apart.
    ///
    /// # Errors
    ///
    /// [`BadArrival`] for what the broker did not make.
    pub fn from(handed_over: HandedOver) -> Result<Self, BadArrival> {
        let (passenger, extra, input) =
            packet::split::<Passenger>(&handed_over.payload).ok_or(BadArrival)?;
        let mut descriptors = handed_over.descriptors.into_iter();
        let (connection, lease) = descriptors.next().zip(descriptors.next()).ok_or(BadArrival)?;
        Ok(Self {
            passenger,
            extra: extra.to_vec(),
            input: input.to_vec(),
            connection,
            lease: Lease(UnixStream::from(lease)),
        })
    }

    /// Tells the broker that the session begins, and in which process; opens the connection. Call
    /// it inside the runtime that serves the session.
    ///
    /// # Errors
    ///
    /// If the descriptor is no connection or the broker has given up.
    pub fn accept(self) -> io::Result<(Passenger, Vec<u8>, Wire, Lease)> {
        let wire = Wire::new(Stream::from_descriptor(self.connection)?).with_input(&self.input);
        let mut lease = self.lease;
        lease.0.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok((self.passenger, self.extra, wire, lease))
    }
}
