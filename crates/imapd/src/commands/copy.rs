//! COPY and MOVE (RFC 3501 section 6.4.7, RFC 4315, RFC 6851).

use mail_types::Uid;
use mailstore::Access;
use protocol::imap::SequenceSet;
use protocol::imap::sequence::compact;

use crate::commands::select;
use crate::reply::{EXPUNGED, Reply};
use crate::session::Session;
use crate::view::News;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Copy,
    Move,
}

pub fn copy(session: &mut Session, by_uid: bool, set: &SequenceSet, name: &str) -> Reply {
    transfer(session, by_uid, set, name, Way::Copy)
}

pub fn r#move(session: &mut Session, by_uid: bool, set: &SequenceSet, name: &str) -> Reply {
    transfer(session, by_uid, set, name, Way::Move)
}

fn transfer(session: &mut Session, by_uid: bool, set: &SequenceSet, name: &str, way: Way) -> Reply {
    let command = if way == Way::Copy { "COPY" } else { "MOVE" };
    let new_mail = !session.settings.workarounds.delay_newmail;
    let Some(mut view) = session.selected.take() else { return Reply::no_mailbox_selected() };
    let Some(found) = view.select(set, by_uid) else {
        session.selected = Some(view);
        return Reply::invalid_set(command);
    };
    let target = select::open(session, name, Access::Peek).map_err(|reply| match reply {
        Reply::No(text) if text.starts_with("Mailbox doesn't exist") => {
            Reply::No(format!("[TRYCREATE] {text}"))
        }
        other => other,
    });
    let outcome = target.and_then(|mut target| {
        if found.is_empty() {
            return Err(Reply::ok("No messages found"));
        }
        if way == Way::Move && view.read_only {
            return Err(Reply::no("[READ-ONLY] Mailbox is read-only"));
        }
        let uids: Vec<Uid> = found.iter().map(|&(_, uid)| uid).collect();
        let validity = target.uid_validity();
        let done = match way {
            Way::Copy => view.mailbox.copy(&uids, &mut target),
            Way::Move => view.mailbox.r#move(&uids, &mut target),
        };
        let pairs = done.map_err(|error| session.refused(&error))?;
        let code = (!pairs.is_empty()).then(|| {
            let from = in_order(pairs.iter().map(|(from, _)| from.get()));
            let to = in_order(pairs.iter().map(|(_, to)| to.get()));
            format!("[COPYUID {validity} {from} {to}]")
        });
        Ok((code, pairs.len() == uids.len()))
    });
    session.selected = Some(view);
    let (code, complete) = match outcome {
        Ok(done) => done,
        Err(reply) => return reply,
    };
    if way == Way::Copy {
        session.news(News { expunges: by_uid, new_mail });
        return Reply::Ok(format!("{} Copy completed", code.unwrap_or_default()));
    }
    if let Some(code) = code {
        session.line.line(&format!("* OK {code} Moved UIDs."));
    }
    session.news(News { expunges: true, new_mail });
    if complete { Reply::ok("Move completed") } else { Reply::no(EXPUNGED) }
}

/// UIDs as a set. Both sides of a COPYUID ascend, since messages are copied in their order.
fn in_order(uids: impl Iterator<Item = u32>) -> String {
    compact(uids)
}
