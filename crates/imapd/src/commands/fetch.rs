//! FETCH (RFC 3501 section 6.4.5): small items from the store, texts streamed from the file.

use std::io;
use std::time::SystemTime;

use mail_types::{Flag, Uid};
use mailstore::{How, StoreError};
use protocol::imap::date::DateTime;
use protocol::imap::fetch::{Item, Section, Text};
use protocol::imap::{SequenceSet, body};

use crate::reply::Reply;
use crate::section::{Opened, Source};
use crate::session::{Counts, Session};
use crate::view::News;
use crate::wire::End;

/// `\Seen` is set for so many messages at a time, just before they are sent.
const BATCH: usize = 50;

/// What one message's answer ended with.
enum Fetched {
    Done,
    /// Another process has expunged it.
    Gone,
}

/// # Errors
///
/// When the client does not read, or a text ends before its announced size.
pub async fn fetch(
    session: &mut Session,
    by_uid: bool,
    set: &SequenceSet,
    items: &[Item],
) -> Result<Reply, End> {
    let news = News { expunges: by_uid, new_mail: !session.settings.workarounds.delay_newmail };
    let Some(view) = &session.selected else { return Ok(Reply::no_mailbox_selected()) };
    let Some(found) = view.select(set, by_uid) else { return Ok(Reply::invalid_set("FETCH")) };
    let mut items = items.to_vec();
    if by_uid && !items.contains(&Item::Uid) {
        items.insert(0, Item::Uid);
    }
    // What is known without the message comes first, as Dovecot has it; else in the client's order.
    items.sort_by_key(needs_message);
    let sets_seen = !view.read_only
        && items.iter().any(|item| matches!(item, Item::Section(section) if section.sets_seen));
    let mut gone = false;
    for batch in found.chunks(BATCH) {
        let seen_now = if sets_seen { mark_seen(session, batch) } else { Vec::new() };
        for &(number, uid) in batch {
            let show_flags = seen_now.binary_search(&uid).is_ok() && !items.contains(&Item::Flags);
            match one(session, number, uid, &items, show_flags).await? {
                Fetched::Done => {}
                Fetched::Gone => gone = true,
            }
        }
    }
    session.news(news);
    Ok(if gone {
        Reply::ok("[EXPUNGEISSUED] Some messages were already expunged")
    } else {
        Reply::ok("Fetch completed")
    })
}

fn needs_message(item: &Item) -> bool {
    !matches!(item, Item::Uid | Item::Flags | Item::InternalDate | Item::Size)
}

/// Sets `\Seen` where it is missing. Gives the messages that have it now and had it not.
fn mark_seen(session: &mut Session, batch: &[(u32, Uid)]) -> Vec<Uid> {
    let Some(view) = &mut session.selected else { return Vec::new() };
    let unseen = |uid: &Uid| {
        view.mailbox.message(*uid).is_some_and(|message| !message.flags.has(Flag::Seen))
    };
    let uids: Vec<Uid> = batch.iter().map(|&(_, uid)| uid).filter(unseen).collect();
    if uids.is_empty() {
        return uids;
    }
    match view.mailbox.store_flags(&uids, How::Add, Flag::Seen.into(), &[]) {
        Ok(mut changed) => {
            changed.sort_unstable();
            changed
        }
        Err(error) => {
            // Reading goes on: a full disk does not keep mail from being read.
            let _ = session.refused(&error);
            Vec::new()
        }
    }
}

/// `* 7 FETCH (...)` of one message.
async fn one(
    session: &mut Session,
    number: u32,
    uid: Uid,
    items: &[Item],
    show_flags: bool,
) -> Result<Fetched, End> {
    let mut out = format!("* {number} FETCH (").into_bytes();
    let mut opened = None;
    let (mut first, mut begun) = (true, false);
    let (known, read) = items.split_at(items.partition_point(|item| !needs_message(item)));
    let flags = show_flags.then_some(&Item::Flags);
    for item in known.iter().chain(flags).chain(read) {
        if !first {
            out.push(b' ');
        }
        first = false;
        let done = match item {
            Item::Section(section) => match find(session, uid, section, &mut opened) {
                Ok((opened, source)) => {
                    session.line.put(&out);
                    out.clear();
                    begun = true;
                    let sent = opened.send(&mut session.line, section, source).await?;
                    count(&mut session.counts, section, sent);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            item => small(session, uid, item, &mut opened, &mut out),
        };
        match done {
            Ok(()) => {}
            Err(StoreError::Expunged(_)) if !begun => return Ok(Fetched::Gone),
            Err(error) => return Err(broken(error)),
        }
    }
    out.extend_from_slice(b")\r\n");
    session.line.put(&out);
    session.line.relieve().await?;
    Ok(Fetched::Done)
}

/// After the first octets are out there is no way back, so the connection ends.
fn broken(error: StoreError) -> End {
    End::Broken(format!("FETCH failed: {error}"))
}

fn small(
    session: &mut Session,
    uid: Uid,
    item: &Item,
    opened: &mut Option<Opened>,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let Some(view) = &mut session.selected else { return Err(StoreError::Expunged(uid)) };
    match item {
        Item::Uid => out.extend_from_slice(format!("UID {uid}").as_bytes()),
        Item::Flags => {
            let message = view.mailbox.message(uid).ok_or(StoreError::Expunged(uid))?.clone();
            out.extend_from_slice(b"FLAGS ");
            view.write_flags(out, &message);
        }
        Item::InternalDate => {
            let date = view.mailbox.internal_date(uid)?;
            out.extend_from_slice(format!("INTERNALDATE \"{}\"", shown(date)).as_bytes());
        }
        Item::Size => {
            let size = view.mailbox.wire_size(uid)?;
            out.extend_from_slice(format!("RFC822.SIZE {size}").as_bytes());
        }
        Item::Envelope => {
            let message = open(session, uid, opened)?.head().map_err(unreadable)?;
            out.extend_from_slice(b"ENVELOPE ");
            body::envelope(out, &message.envelope);
        }
        Item::Body | Item::BodyStructure => {
            let tree = open(session, uid, opened)?.tree().map_err(unreadable)?;
            let extended = *item == Item::BodyStructure;
            out.extend_from_slice(if extended { b"BODYSTRUCTURE " } else { b"BODY " });
            body::structure(out, &tree.part, extended);
        }
        Item::Section(_) => {}
    }
    Ok(())
}

/// The message's file, and where a section is in it.
fn find<'a>(
    session: &mut Session,
    uid: Uid,
    section: &Section,
    opened: &'a mut Option<Opened>,
) -> Result<(&'a Opened, Source), StoreError> {
    let opened = open(session, uid, opened)?;
    let source = opened.find(section).map_err(unreadable)?;
    Ok((opened, source))
}

fn count(counts: &mut Counts, section: &Section, sent: u64) {
    if matches!(section.text, Text::Header | Text::Fields { .. } | Text::Mime) {
        counts.header_count += 1;
        counts.header_bytes += sent;
    } else {
        counts.body_count += 1;
        counts.body_bytes += sent;
    }
}

/// The message's file, opened once for all items.
fn open<'a>(
    session: &mut Session,
    uid: Uid,
    opened: &'a mut Option<Opened>,
) -> Result<&'a mut Opened, StoreError> {
    let Some(view) = &mut session.selected else { return Err(StoreError::Expunged(uid)) };
    let message = match opened.take() {
        Some(message) => message,
        None => {
            let size = view.mailbox.wire_size(uid)?;
            let file = view.mailbox.open_message(uid)?;
            Opened::new(file, size).map_err(unreadable)?
        }
    };
    Ok(opened.insert(message))
}

fn unreadable(source: io::Error) -> StoreError {
    StoreError::Io { action: "read", path: "message".into(), source }
}

/// A date of the store, in the machine's time zone.
fn shown(date: SystemTime) -> DateTime {
    let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    DateTime { seconds, zone: zone(seconds) }
}

/// Minutes east of UTC at that moment, here.
#[must_use]
pub fn zone(seconds: i64) -> i32 {
    let text = message::date::format(seconds);
    let parsed = message::date::Date::parse(text.as_bytes());
    parsed.map_or(0, |date| i32::from(date.offset))
}
