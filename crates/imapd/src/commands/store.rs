//! STORE (RFC 3501 section 6.4.6).

use mail_types::{Flag, Uid};
use mailstore::How;
use protocol::imap::SequenceSet;
use protocol::imap::store::{Change, Store};

use crate::reply::Reply;
use crate::session::Session;
use crate::view::News;
use crate::wire::End;

/// Changes flags, and tells of the changes unless the client wants silence.
///
/// # Errors
///
/// When the client does not read.
pub async fn store(
    session: &mut Session,
    by_uid: bool,
    set: &SequenceSet,
    store: &Store,
) -> Result<Reply, End> {
    let news = News { expunges: by_uid, new_mail: !session.settings.workarounds.delay_newmail };
    let longest = session.settings.keyword_length;
    let Some(view) = &mut session.selected else { return Ok(Reply::no_mailbox_selected()) };
    let Some(found) = view.select(set, by_uid) else { return Ok(Reply::invalid_set("STORE")) };
    if store.words.has_bad_keyword() {
        return Ok(Reply::no("[CANNOT] Invalid characters in keyword"));
    }
    if store.words.keywords.iter().any(|keyword| keyword.len() > longest) {
        return Ok(Reply::no("[CANNOT] Keyword length too long"));
    }
    if view.read_only {
        return Ok(Reply::ok("Store ignored with read-only mailbox"));
    }
    let uids: Vec<Uid> = found.iter().map(|&(_, uid)| uid).collect();
    let how = match store.change {
        Change::Replace => How::Replace,
        Change::Add => How::Add,
        Change::Remove => How::Remove,
    };
    let words = &store.words;
    let changed = match view.mailbox.store_flags(&uids, how, words.flags, &words.keywords) {
        Ok(changed) => changed,
        Err(error) => return Ok(session.refused(&error)),
    };
    let mut out = Vec::new();
    view.tell_keywords(&mut out);
    if !store.silent {
        for &uid in &changed {
            let (Some(number), Some(message)) = (view.number_of(uid), view.mailbox.message(uid))
            else {
                continue;
            };
            let by = if by_uid { format!("UID {uid} ") } else { String::new() };
            out.extend_from_slice(format!("* {number} FETCH ({by}FLAGS ").as_bytes());
            view.write_flags(&mut out, message);
            out.extend_from_slice(b")\r\n");
        }
    }
    if store.change != Change::Remove && words.flags.has(Flag::Deleted) {
        session.counts.deleted += changed.len() as u64;
    }
    session.line.put(&out);
    session.line.relieve().await?;
    session.news(news);
    Ok(Reply::ok("Store completed"))
}
