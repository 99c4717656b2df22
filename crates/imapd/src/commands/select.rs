//! SELECT, EXAMINE, CLOSE, ID (RFC 3501 sections 6.3.1 and 6.4.2, RFC 2971).

use mail_types::Flag;
use mailstore::{Access, Mailbox, StoreError};
use protocol::imap::{mailbox_name, write};

use crate::commands::expunge;
use crate::reply::Reply;
use crate::session::Session;
use crate::settings::Auto;
use crate::view::View;

/// Opens a mailbox by the client's name for it. One that is configured to exist is made.
///
/// # Errors
///
/// The tagged answer.
pub fn open(session: &Session, name: &str, access: Access) -> Result<Mailbox, Reply> {
    let (namespace, inner) = resolve(session, name)?;
    let opened = namespace.store.open(&inner, access);
    let opened = match opened {
        Err(StoreError::NoMailbox(_)) if namespace.is_automatic(&inner) => {
            make(namespace, &inner).and_then(|()| namespace.store.open(&inner, access))
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        StoreError::NoMailbox(_) => Reply::No(format!("Mailbox doesn't exist: {name}")),
        error => session.refused(&error),
    })
}

/// Makes a mailbox that the configuration wants to be there.
///
/// # Errors
///
/// The store's.
pub fn make(namespace: &crate::namespace::Namespace, name: &str) -> Result<(), StoreError> {
    match namespace.store.create(name) {
        Ok(()) | Err(StoreError::Exists) => {}
        Err(error) => return Err(error),
    }
    if namespace.block(name).is_some_and(|block| block.auto == Auto::Subscribe) {
        namespace.store.set_subscribed(name, true)?;
    }
    Ok(())
}

/// The namespace of a client's name, and the name inside it.
///
/// # Errors
///
/// The tagged answer for names that cannot be.
pub fn resolve<'a>(
    session: &'a Session,
    name: &str,
) -> Result<(&'a crate::namespace::Namespace, String), Reply> {
    if !mailbox_name::is_valid(name.as_bytes()) {
        return Err(Reply::no("Mailbox name is not valid mUTF-7"));
    }
    let mut name = name;
    if name.is_empty() {
        return Err(Reply::no("[CANNOT] Invalid mailbox name: Name is empty"));
    }
    if session.settings.workarounds.tb_extra_mailbox_sep {
        let separators = |c: char| session.namespaces.iter().any(|space| space.separator == c);
        name = name.strip_suffix(separators).unwrap_or(name);
    }
    session
        .namespaces
        .find(name)
        .ok_or_else(|| Reply::No(format!("Client tried to access nonexistent namespace. (Mailbox name should probably be prefixed with: {})", session.namespaces.inbox().map_or("", |space| &space.prefix))))
}

/// Forgets the selected mailbox and says so, in front of another SELECT.
pub fn close_selected(session: &mut Session) {
    if session.selected.take().is_some() {
        session.line.line("* OK [CLOSED] Previous mailbox closed.");
    }
}

/// SELECT; EXAMINE when `examine`.
pub fn select(session: &mut Session, name: &str, examine: bool) -> Reply {
    close_selected(session);
    let access = if examine { Access::Peek } else { Access::Select };
    let mailbox = match open(session, name, access) {
        Ok(mailbox) => mailbox,
        Err(reply) => return reply,
    };
    let view = View::new(mailbox, examine);
    let mut out = Vec::new();
    view.write_flag_lists(&mut out);
    let messages = view.mailbox.messages();
    let unseen = messages.iter().position(|message| !message.flags.has(Flag::Seen));
    let mut text = format!("* {} EXISTS\r\n* {} RECENT\r\n", view.exists(), view.recent());
    if let Some(index) = unseen {
        text.push_str(&format!("* OK [UNSEEN {}] First unseen.\r\n", index + 1));
    }
    let (validity, next) = (view.mailbox.uid_validity(), view.mailbox.next_uid());
    text.push_str(&format!(
        "* OK [UIDVALIDITY {validity}] UIDs valid\r\n* OK [UIDNEXT {next}] Predicted next UID\r\n"
    ));
    out.extend_from_slice(text.as_bytes());
    session.line.put(&out);
    session.selected = Some(view);
    Reply::ok(if examine {
        "[READ-ONLY] Examine completed"
    } else {
        "[READ-WRITE] Select completed"
    })
}

/// CLOSE: expunges what is marked, in silence.
pub fn close(session: &mut Session) -> Reply {
    let Some(mut view) = session.selected.take() else { return Reply::no_mailbox_selected() };
    if !view.read_only {
        match view.mailbox.expunge_deleted(None) {
            Ok(gone) => expunge::count(session, view.mailbox.name(), gone.len()),
            Err(error) => return session.refused(&error),
        }
    }
    Reply::ok("Close completed")
}

/// ID: says who we are, as `imap_id_send` wants, and may log who the client is.
pub fn id(session: &mut Session, fields: &[(String, Option<String>)]) -> Reply {
    let answer = id_answer(&session.settings.id_send);
    session.line.put(&answer);
    let wanted = session.settings.id_log.clone();
    if !wanted.is_empty() {
        let logged = id_logged(fields, &wanted);
        if !logged.is_empty() {
            tracing::info!(target: "mail", ident = "dovecot", "{}ID sent: {logged}", session.prefix());
        }
    }
    Reply::ok("ID completed")
}

/// `* ID ("name" "Dovecot")` of `name *`; `*` stands for our own value of a known field.
#[must_use]
pub fn id_answer(id_send: &str) -> Vec<u8> {
    let mut words = id_send.split_ascii_whitespace();
    let mut out = b"* ID ".to_vec();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let value = match (value, name.to_ascii_lowercase().as_str()) {
            ("*", "name") => "Dovecot",
            ("*", "version") => env!("CARGO_PKG_VERSION"),
            ("*", "vendor") => "Theoris",
            ("*", _) => continue,
            (value, _) => value,
        };
        pairs.push((name, value));
    }
    if pairs.is_empty() {
        out.extend_from_slice(b"NIL\r\n");
        return out;
    }
    for (index, (name, value)) in pairs.iter().enumerate() {
        out.push(if index == 0 { b'(' } else { b' ' });
        write::string(&mut out, name.as_bytes());
        out.push(b' ');
        write::string(&mut out, value.as_bytes());
    }
    out.extend_from_slice(b")\r\n");
    out
}

/// The fields that `imap_id_log` names, `*` for all of them.
#[must_use]
pub fn id_logged(fields: &[(String, Option<String>)], wanted: &str) -> String {
    let all = wanted.split_ascii_whitespace().any(|word| word == "*");
    let is_wanted = |name: &str| {
        all || wanted.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(name))
    };
    let shown = fields.iter().filter(|(name, _)| is_wanted(name)).map(|(name, value)| {
        let value = value.as_deref().unwrap_or("NIL");
        format!("{}={}", login::log::printable(name), login::log::printable(value))
    });
    shown.collect::<Vec<_>>().join(", ")
}
