//! A client that has logged in, as it comes to the mailbox worker.

use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use config::dovecot::variables::{Variable, VariableError, expand, of_user};
use daemon::{HandOvers, HandedOver, Stream, Wire, Worker};
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

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

/// What was handed over before a worker had to finish has arrived by then.
const LATECOMERS: Duration = Duration::from_millis(200);

/// What the broker hands over next; nothing when the mailbox worker has to finish and nobody is on the way to it.
pub async fn next(worker: &Worker, arrivals: &mut HandOvers) -> Option<HandedOver> {
    tokio::select! {
        biased;
        handed_over = arrivals.next() => Some(handed_over),
        _ = worker.finishing() => timeout(LATECOMERS, arrivals.next()).await.ok(),
    }
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

    /// The %-variables of `mail_location` and its like, in the mailbox worker of `service`. What comes from the user's name
    /// brings no slash of its own.
    ///
    /// # Errors
    ///
    /// [`VariableError`]; nothing is guessed about where mail is.
    pub fn expanded(&self, text: &str, service: &str) -> Result<String, VariableError> {
        let name = self.user.replace('/', "_");
        let (uid, gid) = (geteuid().to_string(), getegid().to_string());
        let [full, local_part, domain] = of_user(&name);
        let variables = [
            full,
            local_part,
            domain,
            Variable::new('h', "home", &self.home),
            Variable::new('i', "uid", &uid),
            Variable::long("gid", &gid),
            Variable::new('s', "service", service),
        ];
        expand(text, &variables)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Security;

    #[test]
    fn a_location_is_expanded_for_its_user() {
        let passenger = Passenger {
            user: "In/fo@Example.com".into(),
            home: "/home/info".into(),
            fields: Vec::new(),
            facts: Facts {
                session: "s".into(),
                remote: "127.0.0.1:9".parse().unwrap(),
                local: "127.0.0.1:110".parse().unwrap(),
                security: Security::Trusted,
                server_name: None,
            },
        };
        let uid = geteuid().to_string();
        for (text, expected) in [
            (
                "maildir:/v/%Ld/%1Ln/%Ln/Maildir",
                Ok("maildir:/v/example.com/i/in_fo/Maildir".into()),
            ),
            ("%{home}:%s:%%", Ok("/home/info:pop3:%".into())),
            ("%i", Ok(uid)),
            ("%{env:HOME}", Err("unknown variable %{env:HOME}".to_owned())),
        ] {
            let found = passenger.expanded(text, "pop3").map_err(|error| error.to_string());
            assert_eq!(found, expected, "{text}");
        }
    }
}
