//! One connection of the master protocol: a mail process that asks who a user is, or has a login
//! confirmed.

use crate::chain;
use crate::log;
use crate::login::Login;
use crate::passdb::PassResult;
use crate::scheme::hex;
use crate::server::Shared;
use crate::settings::{Kind, Owner};
use crate::userdb::{self, UserResult};
use crate::username;
use daemon::{Cause, Peer, Stream};
use protocol::dovecot_auth::master::{MasterReply, MasterRequest, VERSION};
use protocol::dovecot_auth::{Lines, Params, Request, Ticket};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Questions of one connection at once; more wait unread.
const OPEN: usize = 100;
/// How long a peer may leave its socket full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Dovecot's mail processes keep an idle connection for a minute, and take it ill when it is closed
/// before they do.
const PEERS_IDLE: Duration = Duration::from_secs(65);

/// Who asks, and what he may.
#[derive(Clone, Copy)]
struct Asker {
    pid: Option<i32>,
    /// `Some`: a socket open to everybody, where this user may ask for himself only.
    only: Option<u32>,
}

/// Serves a connection until its peer goes, or breaks the protocol.
pub async fn serve(
    mut stream: Stream,
    peer: Peer,
    shared: Arc<Shared>,
    kind: Kind,
    everybody: Option<Owner>,
) {
    let Peer::Unix { uid, gid, pid } = peer else { return };
    let restricted =
        everybody.is_some_and(|owner| uid != 0 && uid != owner.uid && gid != owner.gid);
    let asker = Asker { pid, only: restricted.then_some(uid) };
    let mut out = Vec::new();
    MasterReply::Version { major: VERSION.0, minor: VERSION.1 }.write(&mut out);
    MasterReply::Spid(std::process::id()).write(&mut out);
    let mut lines = Lines::default();
    let mut tasks: JoinSet<Option<Vec<u8>>> = JoinSet::new();
    let mut asked = Instant::now();
    loop {
        while tasks.len() < OPEN {
            let request = match lines.next_line() {
                Ok(Some(line)) => MasterRequest::parse(&line).map_err(|broken| broken.to_string()),
                Ok(None) => break,
                Err(too_long) => Err(too_long.to_string()),
            };
            match request {
                Ok(MasterRequest::Version { major, .. }) if major == VERSION.0 => {}
                Ok(MasterRequest::Version { .. }) => return bug("not compatible with this server"),
                Ok(MasterRequest::Request { .. } | MasterRequest::CacheFlush { .. })
                    if kind != Kind::Master =>
                {
                    return bug("sent a master's command on a userdb socket");
                }
                Ok(request) => {
                    asked = Instant::now();
                    tasks.spawn(answer(Arc::clone(&shared), asker, request));
                }
                Err(why) => return bug(&why),
            }
        }
        if !out.is_empty() {
            match timeout(WRITE_TIMEOUT, stream.write_all(&out)).await {
                Ok(Ok(())) => out.clear(),
                _ => return,
            }
        }
        let finishing = *shared.finishing.borrow();
        let patience = match finishing {
            Some(Cause::Reload) => PEERS_IDLE,
            _ => Duration::ZERO,
        };
        let left = patience.saturating_sub(asked.elapsed());
        if finishing.is_some() && tasks.is_empty() && left.is_zero() {
            return; // the peer connects again, to the process that has taken over
        }
        tokio::select! {
            () = shared.finished(), if finishing.is_none() => {}
            () = sleep(left.max(Duration::from_millis(100))), if finishing.is_some() => {}
            read = stream.read_buf(lines.buffer()), if tasks.len() < OPEN => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Some(done) = tasks.join_next() => match done {
                Ok(Some(reply)) => out.extend_from_slice(&reply),
                Ok(None) => return,
                Err(_) => return, // a look-up that panicked has no answer: the peer must not wait
            },
        }
    }
}

fn bug(why: &str) {
    tracing::error!(target: "mail", ident = "dovecot", "auth: Error: BUG: Master client {why}");
}

/// `None`: the peer should ask the process that has taken over.
async fn answer(shared: Arc<Shared>, asker: Asker, request: MasterRequest) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let reply = match request {
        MasterRequest::Version { .. } => return Some(out),
        MasterRequest::Request { ref ticket, .. }
            if shared.finishing.borrow().is_some() && !shared.registry.knows(ticket) =>
        {
            return None;
        }
        MasterRequest::User { id, name, params } => user(&shared, asker, id, &name, &params).await,
        MasterRequest::Pass { id, name, params } => pass(&shared, asker, id, &name, &params).await,
        MasterRequest::List { id, params } => {
            let failed = list(&shared, asker, id, &params, &mut out).await;
            MasterReply::ListDone { id, failed }
        }
        MasterRequest::Request { id, ticket, params } => {
            confirm(&shared, asker, id, &ticket, &params).await
        }
        MasterRequest::CacheFlush { id, .. } => MasterReply::Flushed { id, count: 0 },
    };
    reply.write(&mut out);
    Some(out)
}

/// Who asks; Dovecot 2.4 calls it protocol.
fn service(params: &Params) -> &str {
    params.get("service").or_else(|| params.get("protocol")).unwrap_or_default()
}

/// A login that nobody tries: what the look-up's parameters tell.
fn login(params: &Params) -> Login {
    let text = |name: &str| params.get(name).map(str::to_owned);
    Login::new(Request {
        service: service(params).to_owned(),
        local_address: params.get("lip").and_then(|ip| ip.parse().ok()),
        remote_address: params.get("rip").and_then(|ip| ip.parse().ok()),
        local_port: params.get("lport").and_then(|port| port.parse().ok()),
        remote_port: params.get("rport").and_then(|port| port.parse().ok()),
        session: text("session"),
        local_name: text("local_name"),
        ..Request::default()
    })
}

fn fail(id: u32, reason: Option<&str>) -> MasterReply {
    let mut params = Params::new();
    if let Some(reason) = reason {
        params.set("reason", reason);
    }
    MasterReply::Fail { id, params }
}

async fn user(shared: &Shared, asker: Asker, id: u32, name: &str, params: &Params) -> MasterReply {
    let mut login = login(params);
    let realm = shared.engine.settings.realm(&login.request.service);
    login.typed = name.to_owned();
    match username::normalise(realm, name) {
        Ok(name) => login.user = name,
        Err(bad) => {
            log::info(realm.log.verbose, &login, "userdb", &crate::login::clean(&bad.to_string()));
            return MasterReply::NotFound { id };
        }
    }
    match userdb::look_up(&shared.engine, realm, &mut login).await {
        UserResult::Found(fields) => match asker.only {
            Some(uid) if fields.get("uid") != Some(uid.to_string().as_str()) => {
                let theirs = fields.get("uid").unwrap_or("none");
                let text = format!(
                    "client doesn't have lookup permissions for this user: \
                     userdb uid ({theirs}) doesn't match peer uid ({uid})"
                );
                log::error(&login, "userdb", &text);
                fail(id, None)
            }
            _ => MasterReply::User { id, name: login.user, fields },
        },
        UserResult::NotFound => MasterReply::NotFound { id },
        UserResult::Internal => fail(id, None),
    }
}

async fn pass(shared: &Shared, asker: Asker, id: u32, name: &str, params: &Params) -> MasterReply {
    let mut login = login(params);
    let realm = shared.engine.settings.realm(&login.request.service);
    login.typed = name.to_owned();
    if asker.only.is_some() {
        log::error(&login, "passdb", "client doesn't have permissions to do a PASS lookup");
        return fail(id, None);
    }
    match username::normalise(realm, name) {
        Ok(name) => login.user = name,
        Err(_) => return MasterReply::NotFound { id },
    }
    match chain::look_up(&shared.engine, realm, &mut login).await {
        PassResult::Ok => {
            let mut fields = Params::new();
            fields.set("user", &login.user);
            for (name, value) in login.fields.iter() {
                fields.push(name, value.map(str::to_owned));
            }
            MasterReply::Pass { id, fields }
        }
        PassResult::SchemeUnavailable => {
            fail(id, Some("Configured passdbs don't support credentials lookups"))
        }
        PassResult::Internal => fail(id, None),
        _ => MasterReply::NotFound { id },
    }
}

/// Writes every name; tells whether some are missing.
async fn list(shared: &Shared, asker: Asker, id: u32, params: &Params, out: &mut Vec<u8>) -> bool {
    if asker.only.is_some() {
        log::error(&login(params), "userdb", "client doesn't have permissions to iterate users");
        return true;
    }
    let realm = shared.engine.settings.realm(service(params));
    let (names, complete) = userdb::names(&shared.engine, realm).await;
    for name in names {
        MasterReply::ListItem { id, name }.write(out);
    }
    !complete
}

/// A mail process asks whether a login that it was told of has happened.
async fn confirm(
    shared: &Shared,
    asker: Asker,
    id: u32,
    ticket: &Ticket,
    params: &Params,
) -> MasterReply {
    let claimed = params.get("session_pid").and_then(|pid| pid.parse::<i32>().ok());
    if let (Some(claimed), Some(pid)) = (claimed, asker.pid)
        && claimed != pid
    {
        bug("sent a session_pid that is not its own");
        return fail(id, None);
    }
    let Some(mut login) = shared.registry.take(ticket) else { return fail(id, None) };
    login.proved = true;
    let realm = shared.engine.settings.realm(&login.request.service);
    match userdb::look_up(&shared.engine, realm, &mut login).await {
        UserResult::Found(mut fields) => {
            if let Some(master) = &login.master {
                fields.set("master_user", master);
            }
            fields.set("auth_mech", &login.request.mechanism);
            if params.has("request_auth_token") {
                fields.set("auth_token", token(shared, &login, claimed));
            }
            if login.typed != login.user {
                fields.set("auth_user", &login.typed);
            }
            MasterReply::User { id, name: login.user, fields }
        }
        UserResult::NotFound => MasterReply::NotFound { id },
        UserResult::Internal => fail(id, None),
    }
}

/// What the session may show later instead of a password; good while this process lives.
fn token(shared: &Shared, login: &Login, pid: Option<i32>) -> String {
    let session = login.request.session.as_deref().unwrap_or_default();
    let pid = pid.unwrap_or_default();
    let text = format!("{}\0{pid}\0{}\0{session}", login.request.service, login.user);
    hex(&crypto::hmac_sha1(&shared.secret, text.as_bytes()))
}
