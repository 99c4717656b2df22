//! CREATE, DELETE, RENAME, SUBSCRIBE, STATUS (RFC 3501 section 6.3).

use mailstore::StoreError;
use protocol::imap::list::StatusItem;
use protocol::imap::write;

use crate::commands::select::{make, resolve};
use crate::namespace::Namespace;
use crate::reply::Reply;
use crate::session::Session;

pub fn create(session: &mut Session, name: &str) -> Reply {
    // A separator at the end only says that there will be children.
    let separators = |c: char| session.namespaces.iter().any(|space| space.separator == c);
    let name = name.strip_suffix(separators).unwrap_or(name);
    let (namespace, inner) = match resolve(session, name) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    let created = namespace.store.exists(&inner).and_then(|exists| match exists {
        true => Err(StoreError::Exists),
        false => make(namespace, &inner),
    });
    match created {
        Ok(()) => Reply::ok("Create completed"),
        Err(error) => session.refused(&error),
    }
}

pub fn delete(session: &mut Session, name: &str) -> Reply {
    let (namespace, inner) = match resolve(session, name) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    match namespace.store.delete(&inner) {
        Ok(()) => {
            let is_selected =
                session.selected.as_ref().is_some_and(|view| view.mailbox.name() == inner);
            if is_selected {
                session.selected = None;
                session.line.line("* OK [CLOSED] Mailbox closed.");
            }
            Reply::ok("Delete completed")
        }
        Err(error) => missing(session, name, &error),
    }
}

/// `NONEXISTENT` belongs to DELETE and RENAME alone.
fn missing(session: &Session, name: &str, error: &StoreError) -> Reply {
    match error {
        StoreError::NoMailbox(_) => {
            Reply::No(format!("[NONEXISTENT] Mailbox doesn't exist: {name}"))
        }
        error => session.refused(error),
    }
}

pub fn rename(session: &mut Session, from: &str, to: &str) -> Reply {
    let found = resolve(session, from).and_then(|from| Ok((from, resolve(session, to)?)));
    let ((source, old), (target, new)) = match found {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    if source.prefix != target.prefix && source.store.location() != target.store.location() {
        return Reply::no("[CANNOT] Can't rename mailbox to another namespace");
    }
    if old == new {
        return Reply::no("[ALREADYEXISTS] Can't rename mailbox to itself");
    }
    match source.store.exists(&old) {
        Ok(false) if !has_children(source, &old) => {
            return missing(session, from, &StoreError::NoMailbox(old));
        }
        Ok(_) => {}
        Err(error) => return session.refused(&error),
    }
    match source.store.rename(&old, &new) {
        Ok(()) => Reply::ok("Rename completed"),
        Err(StoreError::Exists) => Reply::no("[ALREADYEXISTS] Target mailbox already exists"),
        Err(error) => missing(session, from, &error),
    }
}

/// A level without mail of its own can be renamed with what is below it.
fn has_children(namespace: &Namespace, name: &str) -> bool {
    let start = format!("{name}{}", namespace.separator);
    let folders = namespace.store.list().unwrap_or_default();
    folders.iter().any(|folder| folder.name.starts_with(&start))
}

/// SUBSCRIBE; UNSUBSCRIBE when not `subscribe`.
pub fn subscribe(session: &mut Session, name: &str, subscribe: bool) -> Reply {
    let (namespace, inner) = match resolve(session, name) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    if subscribe {
        match exists(namespace, &inner) {
            Ok(true) => {}
            Ok(false) => return Reply::No(format!("Mailbox doesn't exist: {name}")),
            Err(error) => return session.refused(&error),
        }
    }
    match namespace.store.set_subscribed(&inner, subscribe) {
        Ok(()) if subscribe => Reply::ok("Subscribe completed"),
        Ok(()) => Reply::ok("Unsubscribe completed"),
        Err(error) => session.refused(&error),
    }
}

fn exists(namespace: &Namespace, name: &str) -> Result<bool, StoreError> {
    Ok(name == "INBOX" || namespace.is_automatic(name) || namespace.store.exists(name)?)
}

pub fn status(session: &mut Session, name: &str, items: &[StatusItem]) -> Reply {
    let (namespace, inner) = match resolve(session, name) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    let written = status_line(namespace, &inner, name, items);
    match written {
        Ok(out) => session.line.put(&out),
        Err(StoreError::NoMailbox(_)) => {
            return Reply::No(format!("Mailbox doesn't exist: {name}"));
        }
        Err(error) => return session.refused(&error),
    }
    let is_selected = session.selected.as_ref().is_some_and(|view| view.mailbox.name() == inner);
    if is_selected {
        Reply::ok("[CLIENTBUG] Status on selected mailbox completed")
    } else {
        Reply::ok("Status completed")
    }
}

/// `* STATUS name (...)`
///
/// # Errors
///
/// The store's.
pub fn status_line(
    namespace: &Namespace,
    inner: &str,
    shown: &str,
    items: &[StatusItem],
) -> Result<Vec<u8>, StoreError> {
    let store = &namespace.store;
    let status = match store.status(inner) {
        Err(StoreError::NoMailbox(_)) if namespace.is_automatic(inner) => {
            make(namespace, inner)?;
            store.status(inner)?
        }
        status => status?,
    };
    let mut out = b"* STATUS ".to_vec();
    write::astring(&mut out, shown.as_bytes());
    for (index, item) in items.iter().enumerate() {
        let value = match item {
            StatusItem::Messages => u64::from(status.messages),
            StatusItem::Recent => u64::from(status.recent),
            StatusItem::UidNext => u64::from(status.next_uid),
            StatusItem::UidValidity => u64::from(status.uid_validity.get()),
            StatusItem::Unseen => u64::from(status.unseen),
            StatusItem::Size => store.size(inner)?,
        };
        let before = if index == 0 { " (" } else { " " };
        out.extend_from_slice(format!("{before}{} {value}", item.name()).as_bytes());
    }
    out.extend_from_slice(b")\r\n");
    Ok(out)
}
