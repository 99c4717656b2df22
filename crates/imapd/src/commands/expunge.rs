//! EXPUNGE and UID EXPUNGE (RFC 3501 section 6.4.3, RFC 4315).

use mail_types::Uid;
use protocol::imap::SequenceSet;

use crate::reply::Reply;
use crate::session::Session;
use crate::view::News;

/// Removes what is marked `\Deleted`; only among `set` when that is given.
pub fn expunge(session: &mut Session, set: Option<&SequenceSet>, title: &str) -> Reply {
    let Some(view) = &mut session.selected else { return Reply::no_mailbox_selected() };
    if !view.read_only {
        let uids: Option<Vec<Uid>> = set
            .and_then(|set| view.select(set, true))
            .map(|found| found.into_iter().map(|(_, uid)| uid).collect());
        let name = view.mailbox.name().to_owned();
        match view.mailbox.expunge_deleted(uids.as_deref()) {
            Ok(gone) => count(session, &name, gone.len()),
            Err(error) => return session.refused(&error),
        }
    }
    session.news(News::ALL);
    Reply::completed(title)
}

/// Counts for the line at the end: expunged, and from the trash.
pub fn count(session: &mut Session, mailbox: &str, gone: usize) {
    let gone = gone as u64;
    session.counts.expunged += gone;
    if mailbox == "Trash" {
        session.counts.trashed += gone;
    }
}
