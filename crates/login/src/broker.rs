//! The broker: lets the auth server confirm a login, then asks for the user's mailbox worker.
//!
//! It reads no byte of a client. What login workers claim is not believed: the name, the uid and
//! the home come from the auth server's answer to the ticket alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::dovecot::variables::{Variable, expand, of_user};
use daemon::{Identity, Request, Worker, WorkerError};
use neighbours::userdb::{Answer, User, Userdb};
use protocol::dovecot_auth::Ticket;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::arrival::Passenger;
use crate::client::Claim;
use crate::front::BROKER_LINK;
use crate::log::printable;
use crate::packet;
use crate::settings::BrokerSettings;

/// For the mailbox worker to start and to take the connection.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Open connections of each user from each address.
type Counts = Arc<Mutex<HashMap<(String, IpAddr), u32>>>;

struct Broker {
    worker: Worker,
    settings: BrokerSettings,
    userdb: Userdb,
    counts: Counts,
}

/// One counted connection; dropped, it is counted no more.
struct Counted {
    counts: Counts,
    key: (String, IpAddr),
}

/// What the login worker is told.
enum Outcome {
    Started(u32),
    TooMany(u32),
    Internal,
}

/// Answers login workers until the worker has to finish. Call it inside [`Worker::run`].
///
/// # Errors
///
/// If the plan gave the role not all it needs.
pub async fn serve(worker: &Worker) -> Result<(), WorkerError> {
    let settings: BrokerSettings = worker.settings()?;
    let requests = worker.link_server(BROKER_LINK)?;
    let userdb = Userdb::new(&settings.master_socket);
    let broker =
        Arc::new(Broker { worker: worker.clone(), settings, userdb, counts: Counts::default() });
    loop {
        let request = tokio::select! {
            request = requests.next() => request.map_err(WorkerError::io("broker"))?,
            _ = worker.finishing() => return Ok(()),
        };
        let Some(request) = request else { return Ok(()) };
        let broker = Arc::clone(&broker);
        let busy = worker.busy();
        worker.spawn_connection(busy, async move { broker.answer(request).await });
    }
}

impl Broker {
    async fn answer(&self, request: Request) {
        let Request { payload, mut answer, descriptors } = request;
        let admitted = unless_gone(&mut answer, self.admit(&payload, descriptors)).await;
        let Some(outcome) = admitted else { return };
        let (text, counted) = match outcome {
            Ok((pid, counted, lease)) => (Outcome::Started(pid), Some((counted, lease))),
            Err(outcome) => (outcome, None),
        };
        let text = match text {
            Outcome::Started(pid) => format!("OK {pid}\n"),
            Outcome::TooMany(limit) => format!("LIMIT {limit}\n"),
            Outcome::Internal => "INTERNAL\n".to_owned(),
        };
        let _ = answer.write_all(text.as_bytes()).await;
        drop(answer);
        if let Some((counted, mut lease)) = counted {
            // The lease ends with the session, however that ends.
            end_of(&mut lease).await;
            drop(counted);
        }
    }

    async fn admit(
        &self,
        payload: &[u8],
        descriptors: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(u32, Counted, BufReader<UnixStream>), Outcome> {
        let (claim, extra, input) = packet::split::<Claim>(payload).ok_or(Outcome::Internal)?;
        let connection = descriptors.into_iter().next().ok_or(Outcome::Internal)?;
        let ticket =
            Ticket { client_pid: claim.client_pid, auth_id: claim.auth_id, cookie: claim.cookie };
        let user = self.confirmed(&ticket).await.ok_or(Outcome::Internal)?;
        let counted = self.count(&user.name, claim.facts.remote.ip())?;
        let identity = identity(&self.settings, &user).map_err(|problem| {
            let (service, name) = (&self.settings.service, printable(&user.name));
            let session = printable(&claim.facts.session);
            tracing::error!(
                target: "mail",
                ident = "dovecot",
                "{service}({name})<{}><{session}>: Error: {problem}",
                std::process::id()
            );
            Outcome::Internal
        })?;
        let fields = user.fields.iter();
        let passenger = Passenger {
            home: identity.home.clone(),
            fields: fields
                .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
                .collect(),
            facts: claim.facts,
            user: user.name,
        };
        let internal = |_| Outcome::Internal;
        let packet = passenger.packet(extra, input).map_err(internal)?;
        let (here, there) = std::os::unix::net::UnixStream::pair().map_err(internal)?;
        here.set_nonblocking(true).map_err(internal)?;
        let lease = UnixStream::from_std(here).map_err(internal)?;
        let role = &self.settings.mailbox_role;
        let passed = vec![connection, there.into()];
        self.worker.hand_over(role, identity, &packet, passed).await.map_err(internal)?;
        let mut lease = BufReader::new(lease);
        let mut line = String::new();
        let mut first_line = (&mut lease).take(32);
        let said = tokio::time::timeout(START_PATIENCE, first_line.read_line(&mut line)).await;
        let pid = said.ok().and_then(|_| line.trim_end().parse().ok());
        Ok((pid.ok_or(Outcome::Internal)?, counted, lease))
    }

    async fn confirmed(&self, ticket: &Ticket) -> Option<User> {
        let service = &self.settings.service;
        match self.userdb.confirm(ticket).await {
            Ok(Answer::Found(user)) => return Some(user),
            Ok(Answer::NotFound | Answer::Failed { .. }) => tracing::error!(
                target: "mail",
                ident = "dovecot",
                "{service}: Error: auth-master: login: request [{}]: Login auth request failed",
                ticket.auth_id
            ),
            Err(error) => tracing::error!(
                target: "mail",
                ident = "dovecot",
                "{service}: Error: auth-master: login: request [{}]: {error}",
                ticket.auth_id
            ),
        }
        None
    }

    fn count(&self, user: &str, address: IpAddr) -> Result<Counted, Outcome> {
        let limit = self.settings.connections_per_user_and_address;
        let key = (user.to_owned(), address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if limit > 0 && *count >= limit {
            return Err(Outcome::TooMany(limit));
        }
        *count += 1;
        drop(counts);
        Ok(Counted { counts: Arc::clone(&self.counts), key })
    }
}

/// Works until the asker has gone: its client has been refused then. Dropped with the work, the
/// lease tells a mailbox worker that is about to take the connection.
async fn unless_gone<T>(asker: &mut UnixStream, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = end_of(asker) => None,
        done = work => Some(done),
    }
}

/// Waits for the end of what a stream brings.
async fn end_of(stream: &mut (impl AsyncRead + Unpin)) {
    let mut octet = [0];
    while stream.read(&mut octet).await.is_ok_and(|count| count > 0) {}
}

/// Whom the mailbox worker becomes; otherwise Dovecot's words about why nobody.
fn identity(settings: &BrokerSettings, user: &User) -> Result<Identity, String> {
    let uid = user.uid().or(settings.uid).ok_or("User is missing UID (see mail_uid setting)")?;
    let gid = user.gid().or(settings.gid).ok_or("User is missing GID (see mail_gid setting)")?;
    if uid == 0 {
        return Err("Invalid settings in userdb: userdb returned 0 as uid".to_owned());
    }
    if gid == 0 {
        return Err("Invalid settings in userdb: userdb returned 0 as gid".to_owned());
    }
    let allowed = |id: u32, (first, last): (u32, u32)| id >= first && (last == 0 || id <= last);
    for (id, range, kind, setting) in
        [(uid, settings.uids, "UID", "uid"), (gid, settings.gids, "GID", "gid")]
    {
        if !allowed(id, range) {
            let which = if id < range.0 { "first" } else { "last" };
            return Err(format!(
                "Mail access for users with {kind} {id} not permitted (see {which}_valid_{setting} \
                 in config file, {setting} from userdb lookup)."
            ));
        }
    }
    let home = match user.home() {
        Some(home) => home.display().to_string(),
        None => expanded(&settings.home, &user.name, &settings.service)?,
    };
    if home.contains('\0') || (!home.is_empty() && !home.starts_with('/')) {
        return Err(format!("Home directory is not absolute: {}", printable(&home)));
    }
    Ok(Identity { uid, gid, home, groups: settings.groups.clone() })
}

/// `mail_home` with its %-variables. A name with a slash leads nowhere else.
fn expanded(home: &str, user: &str, service: &str) -> Result<String, String> {
    let name = user.replace('/', "_");
    let [full, local_part, domain] = of_user(&name);
    let service = Variable::new('s', "service", service);
    expand(home, &[full, local_part, domain, service])
        .map_err(|error| format!("mail_home: {error}"))
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::dovecot_auth::Params;
    use tokio::time::timeout;

    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Result<(u32, u32, String), String> {
        let settings = BrokerSettings {
            service: "imap".into(),
            master_socket: "/run/auth-master".into(),
            mailbox_role: "mailbox".into(),
            connections_per_user_and_address: 10,
            uid: None,
            gid: Some(5000),
            home: "/srv/%d/%n".into(),
            uids: (500, 60_000),
            gids: (1, 0),
            groups: vec![],
        };
        let mut params = Params::new();
        for (name, value) in fields {
            params.set(name, *value);
        }
        let user = User { name: "a/b@example.com".into(), fields: params };
        identity(&settings, &user).map(|identity| (identity.uid, identity.gid, identity.home))
    }

    /// The login worker waits less long than auth server and mailbox worker may take together.
    #[tokio::test]
    async fn nobody_is_admitted_for_an_asker_that_has_gone() {
        let (asker, mut answer) = UnixStream::pair().unwrap();
        let (lease, mut held) = UnixStream::pair().unwrap();
        let admit = async {
            let _lease = lease;
            drop(asker);
            std::future::pending::<()>().await;
        };
        let admitted = timeout(Duration::from_secs(5), unless_gone(&mut answer, admit));
        assert_eq!(admitted.await, Ok(None));
        held.write_all(b"7\n").await.unwrap_err();
        assert_eq!(unless_gone(&mut answer, async { 7 }).await, None);
        let (_asker, mut answer) = UnixStream::pair().unwrap();
        assert_eq!(unless_gone(&mut answer, async { 7 }).await, Some(7));
    }

    #[test]
    fn only_ordinary_users_get_a_mailbox_worker() {
        assert_eq!(asked(&[("uid", "1000")]), Ok((1000, 5000, "/srv/example.com/a_b".into())));
        let own = [("uid", "1000"), ("gid", "7"), ("home", "/home/x")];
        assert_eq!(asked(&own), Ok((1000, 7, "/home/x".into())));
        for (fields, reason) in [
            (&[][..], "User is missing UID"),
            (&[("uid", "0")], "userdb returned 0 as uid"),
            (&[("uid", "499")], "UID 499 not permitted (see first_valid_uid"),
            (&[("uid", "60001")], "UID 60001 not permitted (see last_valid_uid"),
            (&[("uid", "1000"), ("gid", "0")], "userdb returned 0 as gid"),
            (&[("uid", "1000"), ("home", "relative")], "Home directory is not absolute"),
        ] {
            let error = asked(fields).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
