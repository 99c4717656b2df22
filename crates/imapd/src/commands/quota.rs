//! GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 2087).

use mailstore::quota::Quota;
use protocol::imap::write;

use crate::commands::select;
use crate::reply::Reply;
use crate::session::Session;

fn unavailable(session: &Session, command: &str) -> Option<Reply> {
    let off = !session.settings.quota_commands;
    off.then(|| Reply::Bad(format!("Error in IMAP command {command}: Unknown command")))
}

/// The user's quota and the store that counts it.
fn root(session: &Session) -> Option<(&Quota, &mailstore::Store)> {
    let store = session.namespaces.iter().map(|namespace| &namespace.store);
    store.into_iter().find_map(|store| Some((store.options().quota.as_ref()?, store)))
}

pub fn get_quota(session: &mut Session, name: &[u8]) -> Reply {
    if let Some(reply) = unavailable(session, "GETQUOTA") {
        return reply;
    }
    if root(session).is_none_or(|(quota, _)| quota.name.as_bytes() != name) {
        return Reply::no("Quota root doesn't exist");
    }
    match usage_line(session) {
        Ok(line) => session.line.put(&line),
        Err(reply) => return reply,
    }
    Reply::ok("Getquota completed")
}

pub fn get_quota_root(session: &mut Session, mailbox: &str) -> Reply {
    if let Some(reply) = unavailable(session, "GETQUOTAROOT") {
        return reply;
    }
    // Whether the mailbox exists is no question here, as for Dovecot.
    let in_quota = match select::resolve(session, mailbox) {
        Ok((namespace, _)) => namespace.store.options().quota.is_some(),
        Err(reply) => return reply,
    };
    let mut out = b"* QUOTAROOT ".to_vec();
    write::astring(&mut out, mailbox.as_bytes());
    let name = root(session).filter(|_| in_quota).map(|(quota, _)| quota.name.clone());
    if let Some(name) = &name {
        out.push(b' ');
        write::astring(&mut out, name.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if name.is_some() {
        match usage_line(session) {
            Ok(line) => out.extend_from_slice(&line),
            Err(reply) => return reply,
        }
    }
    session.line.put(&out);
    Reply::ok("Getquotaroot completed")
}

pub fn set_quota(session: &mut Session) -> Reply {
    unavailable(session, "SETQUOTA")
        .unwrap_or_else(|| Reply::no("Quota can be changed only by admin"))
}

fn usage_line(session: &Session) -> Result<Vec<u8>, Reply> {
    let Some((quota, store)) = root(session) else { return Ok(Vec::new()) };
    let usage = store.quota_usage().map_err(|error| session.refused(&error))?.unwrap_or_default();
    let mut out = b"* QUOTA ".to_vec();
    write::astring(&mut out, quota.name.as_bytes());
    let mut limits = Vec::new();
    if let Some(storage) = quota.storage {
        limits.push(format!("STORAGE {} {}", usage.octets.div_ceil(1024), storage / 1024));
    }
    if let Some(messages) = quota.messages {
        limits.push(format!("MESSAGE {} {messages}", usage.messages));
    }
    out.extend_from_slice(format!(" ({})\r\n", limits.join(" ")).as_bytes());
    Ok(out)
}
