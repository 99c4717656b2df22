//! The client of `auth-userdb` and `auth-master`: who is this user, and did that login really happen.

use crate::mux::{Lost, Mux};
use bytes::Bytes;
use protocol::dovecot_auth::master::{MasterReply, MasterRequest, VERSION};
use protocol::dovecot_auth::{Lines, Params, Ticket};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// A client of one master or userdb socket. Clones share the connection.
#[derive(Clone)]
pub struct Userdb(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Asked where the first is not for our user.
    second: Option<PathBuf>,
    limit: Duration,
    connection: Mutex<Option<Mux<MasterReply>>>,
}

/// What is known about the connection on whose behalf a user is looked up.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// `lmtp`, `imap`, …: picks the settings of `protocol … { }`.
    pub service: String,
    pub local_address: Option<IpAddr>,
    pub remote_address: Option<IpAddr>,
    pub local_port: Option<u16>,
    pub remote_port: Option<u16>,
    pub session: Option<String>,
}

/// The auth server's answer about a user.
#[derive(Clone, Debug)]
pub enum Answer {
    Found(User),
    NotFound,
    /// A look-up that failed, or that the server refuses to this peer: nothing is known.
    Failed {
        reason: Option<String>,
    },
}

/// A user as the userdb describes him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name after `auth_username_format` and renames.
    pub name: String,
    /// `uid`, `gid`, `home`, `mail`, `system_groups_user`, `quota_rule` and any setting's name.
    pub fields: Params,
}

impl User {
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.fields.get("uid")?.parse().ok()
    }

    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.fields.get("gid")?.parse().ok()
    }

    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.fields.get("home").filter(|home| !home.is_empty()).map(Path::new)
    }

    /// Overrides `mail_location`.
    #[must_use]
    pub fn mail(&self) -> Option<&str> {
        self.fields.get("mail").filter(|mail| !mail.is_empty())
    }

    /// Whose supplementary groups the user's processes get.
    #[must_use]
    pub fn system_groups_user(&self) -> Option<&str> {
        self.fields.get("system_groups_user")
    }
}

/// Why the auth server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum UserdbError {
    #[error("connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the auth server closed the connection")]
    Closed,
    #[error("the auth server did not answer in time")]
    TimedOut,
    #[error("the auth server failed to list all users")]
    ListFailed,
}

impl From<Lost> for UserdbError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Closed,
            Lost::TimedOut => Self::TimedOut,
        }
    }
}

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The most names that one listing may bring.
const MAX_NAMES: usize = 5_000_000;

impl Userdb {
    /// A client of the socket at `path`; connects when first asked.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_limit(path, LIMIT)
    }

    #[must_use]
    pub fn with_limit(path: impl Into<PathBuf>, limit: Duration) -> Self {
        Self(Arc::new(Inner {
            path: path.into(),
            second: None,
            limit,
            connection: Mutex::default(),
        }))
    }

    /// As [`Userdb::new`]; a socket that this process may not use is replaced by the one at `second`.
    #[must_use]
    pub fn either(path: impl Into<PathBuf>, second: impl Into<PathBuf>) -> Self {
        let (path, second) = (path.into(), Some(second.into()));
        Self(Arc::new(Inner { path, second, limit: LIMIT, connection: Mutex::default() }))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Looks a name up in the userdbs (`USER`).
    ///
    /// # Errors
    ///
    /// [`UserdbError`] if the server cannot be reached or does not answer.
    pub async fn user(&self, name: &str, lookup: &Lookup) -> Result<Answer, UserdbError> {
        let (name, params) = (name.to_owned(), lookup.params());
        let request =
            move |id| MasterRequest::User { id, name: name.clone(), params: params.clone() };
        self.ask(Arc::new(request)).await
    }

    /// Looks a name up in the passdbs, without a password (`PASS`).
    ///
    /// # Errors
    ///
    /// [`UserdbError`] if the server cannot be reached or does not answer.
    pub async fn pass(&self, name: &str, lookup: &Lookup) -> Result<Answer, UserdbError> {
        let (name, params) = (name.to_owned(), lookup.params());
        let request =
            move |id| MasterRequest::Pass { id, name: name.clone(), params: params.clone() };
        self.ask(Arc::new(request)).await
    }

    /// Has a login that a login process reports confirmed, once, with the user's userdb fields
    /// (`REQUEST`). The process that asks must be this one: the server compares its pid. At a reload two auth processes
    /// serve for some seconds, and the one that we are connected to may not be the one that saw the login: a new
    /// connection, which meets the new one, is asked once more.
    ///
    /// # Errors
    ///
    /// [`UserdbError`] if the server cannot be reached or does not answer.
    pub async fn confirm(&self, ticket: &Ticket) -> Result<Answer, UserdbError> {
        let mut params = Params::new();
        params.set("session_pid", std::process::id().to_string());
        let ticket = ticket.clone();
        let request = move |id| {
            let (ticket, params) = (ticket.clone(), params.clone());
            MasterRequest::Request { id, ticket, params }
        };
        let request = Arc::new(request);
        match self.ask(Arc::clone(&request) as _).await? {
            found @ Answer::Found(_) => Ok(found),
            Answer::NotFound | Answer::Failed { .. } => {
                *self.0.connection.lock().await = None;
                self.ask(request).await
            }
        }
    }

    /// The names of all users (`LIST`), over a connection of its own.
    ///
    /// # Errors
    ///
    /// [`UserdbError`] if the server cannot be reached, does not answer, or could not list them all.
    pub async fn names(&self, service: &str) -> Result<Vec<String>, UserdbError> {
        timeout(self.0.limit, self.list(service)).await.unwrap_or(Err(UserdbError::TimedOut))
    }

    async fn list(&self, service: &str) -> Result<Vec<String>, UserdbError> {
        let connect = |source| UserdbError::Connect { path: self.0.path.clone(), source };
        let mut stream = open(&self.0.path).await.map_err(connect)?;
        let mut params = Params::new();
        params.set("service", service);
        let mut out = Vec::new();
        MasterRequest::List { id: 1, params }.write(&mut out);
        stream.write_all(&out).await.map_err(|_| UserdbError::Closed)?;
        let mut lines = Lines::default();
        let mut names = Vec::new();
        loop {
            while let Some(line) = lines.next_line().map_err(|_| UserdbError::Closed)? {
                match MasterReply::parse(&line).map_err(|_| UserdbError::Closed)? {
                    MasterReply::ListItem { id: 1, name } if names.len() < MAX_NAMES => {
                        names.push(name);
                    }
                    MasterReply::ListDone { id: 1, failed: false } => return Ok(names),
                    MasterReply::ListDone { .. }
                    | MasterReply::ListItem { .. }
                    | MasterReply::Fail { .. } => return Err(UserdbError::ListFailed),
                    _ => {}
                }
            }
            match stream.read_buf(lines.buffer()).await {
                Ok(0) | Err(_) => return Err(UserdbError::Closed),
                Ok(_) => {}
            }
        }
    }

    /// Asks; a connection that turns out to have died is replaced once.
    async fn ask(
        &self,
        request: Arc<dyn Fn(u32) -> MasterRequest + Send + Sync>,
    ) -> Result<Answer, UserdbError> {
        loop {
            let (mux, fresh) = self.connection().await?;
            let request = Arc::clone(&request);
            let write = move |id, out: &mut Vec<u8>| request(id).write(out);
            match mux.ask(Box::new(write), self.0.limit).await {
                Ok((_, reply)) => return Ok(Answer::from(reply)),
                Err(Lost::Closed) if !fresh => *self.0.connection.lock().await = None,
                Err(lost) => {
                    *self.0.connection.lock().await = None;
                    return Err(lost.into());
                }
            }
        }
    }

    async fn connection(&self) -> Result<(Mux<MasterReply>, bool), UserdbError> {
        let mut current = self.0.connection.lock().await;
        if let Some(mux) = current.as_ref().filter(|mux| !mux.is_closed()) {
            return Ok((mux.clone(), false));
        }
        let opened = timeout(self.0.limit, self.open()).await;
        let stream = opened
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| UserdbError::Connect { path: self.0.path.clone(), source })?;
        let mux = Mux::start(stream, Lines::default(), parse);
        *current = Some(mux.clone());
        Ok((mux, true))
    }

    async fn open(&self) -> io::Result<UnixStream> {
        match (open(&self.0.path).await, &self.0.second) {
            (Err(error), Some(second)) if error.kind() == io::ErrorKind::PermissionDenied => {
                open(second).await.map_err(|_| error)
            }
            (opened, _) => opened,
        }
    }
}

impl Lookup {
    /// For a service that has no connection to speak of.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self { service: name.to_owned(), ..Self::default() }
    }

    fn params(&self) -> Params {
        let mut params = Params::new();
        params.set("service", &self.service);
        for (name, value) in [
            ("session", self.session.clone()),
            ("lip", self.local_address.map(|ip| ip.to_string())),
            ("rip", self.remote_address.map(|ip| ip.to_string())),
            ("lport", self.local_port.map(|port| port.to_string())),
            ("rport", self.remote_port.map(|port| port.to_string())),
        ] {
            if let Some(value) = value {
                params.set(name, value);
            }
        }
        params
    }
}

impl From<MasterReply> for Answer {
    fn from(reply: MasterReply) -> Self {
        match reply {
            MasterReply::User { name, fields, .. } => {
                Self::Found(User { name, fields: in_old_words(fields) })
            }
            MasterReply::Pass { fields, .. } => {
                let name = fields.get("user").unwrap_or_default().to_owned();
                Self::Found(User { name, fields: in_old_words(fields) })
            }
            MasterReply::NotFound { .. } => Self::NotFound,
            MasterReply::Fail { params, .. } => {
                Self::Failed { reason: params.get("reason").map(str::to_owned) }
            }
            _ => Self::Failed { reason: None }, // the parser lets nothing else through
        }
    }
}

/// The fields that Dovecot 2.4 names after its settings (`mail_path`, `quota_storage_size`), under the names of 2.3 that
/// the daemons read. A user's `mail_path` is the whole of his location.
fn in_old_words(mut fields: Params) -> Params {
    if let Some(path) = fields.get("mail_path")
        && !fields.has("mail")
    {
        let mut mail = format!("{}:{path}", fields.get("mail_driver").unwrap_or("maildir"));
        for (name, option) in [
            ("mail_inbox_path", "INBOX"),
            ("mail_index_path", "INDEX"),
            ("mail_control_path", "CONTROL"),
            ("mailbox_list_layout", "LAYOUT"),
        ] {
            if let Some(value) = fields.get(name) {
                mail.push_str(&format!(":{option}={value}"));
            }
        }
        fields.push("mail", Some(mail));
    }
    if let Some(size) = fields.get("quota_storage_size")
        && !fields.has("quota_rule")
    {
        let size: String = size.split_ascii_whitespace().collect();
        // Without a unit 2.4 counts octets, a rule of 2.3 kibibytes.
        let unit = if size.ends_with(|c: char| c.is_ascii_digit()) { "B" } else { "" };
        let limit = if size == "unlimited" { "0".to_owned() } else { format!("{size}{unit}") };
        fields.push("quota_rule", Some(format!("*:storage={limit}")));
    }
    fields
}

/// Connects and says our version; the server's is read with the first answer.
async fn open(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    let mut hello = Vec::new();
    let (major, minor) = VERSION;
    MasterRequest::Version { major, minor }.write(&mut hello);
    stream.write_all(&hello).await?;
    Ok(stream)
}

fn parse(line: &Bytes) -> Result<Option<(u32, MasterReply)>, ()> {
    let reply = MasterReply::parse(line).map_err(drop)?;
    Ok(match reply {
        MasterReply::Version { major, .. } if major != VERSION.0 => return Err(()),
        MasterReply::User { id, .. }
        | MasterReply::Pass { id, .. }
        | MasterReply::NotFound { id }
        | MasterReply::Fail { id, .. } => Some((id, reply)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    #[tokio::test]
    async fn users_are_found_or_not() {
        let script = Script::new("VERSION\t1\t1\nSPID\t7\n");
        let userdb = Userdb::new(script.path());
        let server = script.serve(&[
            (
                "USER\t1\tInfo@a\tservice=lmtp",
                "USER\t1\tinfo\tsystem_groups_user=info\tuid=1003\tgid=1003\thome=/home/info\n",
            ),
            ("USER\t2\tx\tservice=lmtp", "NOTFOUND\t2\n"),
        ]);
        let lookup = Lookup::service("lmtp");
        let Answer::Found(user) = userdb.user("Info@a", &lookup).await.unwrap() else {
            unreachable!()
        };
        assert_eq!((user.name.as_str(), user.uid(), user.gid()), ("info", Some(1003), Some(1003)));
        assert_eq!(user.home(), Some(Path::new("/home/info")));
        assert!(matches!(userdb.user("x", &lookup).await.unwrap(), Answer::NotFound));
        drop(userdb);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_login_that_one_auth_process_does_not_know_is_asked_of_the_next() {
        let script = Script::new("VERSION\t1\t1\nSPID\t7\n");
        let userdb = Userdb::new(script.path());
        let confirm =
            |id| format!("REQUEST\t{id}\t5\t6\tc00c1e\tsession_pid={}", std::process::id());
        let ticket = Ticket { client_pid: 5, auth_id: 6, cookie: "c00c1e".into() };
        let asked =
            tokio::spawn(
                async move { (userdb.confirm(&ticket).await, userdb.confirm(&ticket).await) },
            );
        script.serve(&[(&confirm(1), "FAIL\t1\n")]).await.unwrap();
        script
            .serve(&[(&confirm(1), "USER\t1\tinfo\tuid=1003\n"), (&confirm(2), "FAIL\t2\n")])
            .await
            .unwrap();
        script.serve(&[(&confirm(1), "FAIL\t1\n")]).await.unwrap();
        let (known, unknown) = asked.await.unwrap();
        assert!(matches!(known.unwrap(), Answer::Found(_)));
        assert!(matches!(unknown.unwrap(), Answer::Failed { .. }));
    }

    #[test]
    fn fields_named_after_settings_of_2_4_are_understood() {
        for (given, name, meant) in [
            ("mail_path=~/M", "mail", Some("maildir:~/M")),
            (
                "mail_driver=mbox\tmail_path=~/M\tmail_inbox_path=/v",
                "mail",
                Some("mbox:~/M:INBOX=/v"),
            ),
            ("mail=maildir:/a\tmail_path=/b", "mail", Some("maildir:/a")),
            ("quota_storage_size=2 G", "quota_rule", Some("*:storage=2G")),
            ("quota_storage_size=5", "quota_rule", Some("*:storage=5B")),
            ("quota_storage_size=unlimited", "quota_rule", Some("*:storage=0")),
            ("home=/h", "mail", None),
        ] {
            let fields = in_old_words(Params::parse(given.as_bytes()));
            assert_eq!(fields.get(name), meant, "{given}");
        }
    }

    #[tokio::test]
    async fn a_listing_is_read_to_its_end() {
        let script = Script::new("VERSION\t1\t1\nSPID\t7\n");
        let userdb = Userdb::new(script.path());
        let server = script.serve(&[("LIST\t1\tservice=x", "LIST\t1\ta\nLIST\t1\tb\nDONE\t1\t\n")]);
        assert_eq!(userdb.names("x").await.unwrap(), ["a", "b"]);
        server.await.unwrap();
    }
}
