//! APPEND (RFC 3501 section 6.3.11, RFC 4315): the message streams to the disk.

use std::time::{Duration, Instant, SystemTime};

use mailstore::{Access, Attributes, Incoming, Mailbox, StoreError};
use protocol::imap::append::Append;
use protocol::imap::{Event, Line as CommandLine, Syntax};

use crate::commands::select;
use crate::reply::{self, Reply};
use crate::session::Session;
use crate::view::News;
use crate::wire::End;

/// `command` is the command up to its message of `size` octets, which the client sends at once
/// unless it `waits`.
///
/// # Errors
///
/// When the client goes away.
pub async fn append(
    session: &mut Session,
    command: &[u8],
    size: u64,
    waits: bool,
    started: Instant,
) -> Result<(), End> {
    let line = match CommandLine::split(command) {
        Ok(line) => line,
        Err(mistake) => return session.mistake(&mistake, started),
    };
    let tag = line.tag;
    let mut arguments = line.arguments.clone();
    let parsed = arguments.blank().and_then(|()| Append::parse(&mut arguments));
    let append = match parsed {
        Ok(append) => append,
        Err(syntax) => return session.mistake(&line.mistake(syntax), started),
    };
    let prepared = prepare(session, &append, size);
    if prepared.is_err() && waits {
        // The client has not sent it yet, and will not.
        let reply = prepared.err().unwrap_or_else(reply::internal);
        session.finish(tag, "APPEND", &reply, started);
        return Ok(());
    }
    if waits {
        session.line.put(b"+ OK\r\n");
        session.line.flush().await?;
    }
    let (target, received) = match prepared {
        Ok((target, incoming)) => (Ok(target), receive(session, Some(incoming), size).await?),
        Err(reply) => (Err(reply), receive(session, None, size).await?),
    };
    match session.line.event().await? {
        Event::Command(rest) if rest.is_empty() => {}
        Event::Command(_) | Event::TooLong { .. } => {
            return session.mistake(&line.mistake(Syntax::INVALID), started);
        }
        _ => {
            let syntax = Syntax::new("Only one message at a time can be appended");
            session.mistake(&line.mistake(syntax), started)?;
            return Err(End::Closed);
        }
    }
    let reply = match target {
        Ok(target) => save(session, target, received, &append),
        Err(reply) => reply,
    };
    session.finish(tag, "APPEND", &reply, started);
    Ok(())
}

/// Opens the mailbox and a file for the message, and refuses what can be refused beforehand.
fn prepare(session: &Session, append: &Append, size: u64) -> Result<(Mailbox, Incoming), Reply> {
    let name = String::from_utf8_lossy(&append.mailbox).into_owned();
    let target = select::open(session, &name, Access::Peek).map_err(|reply| match reply {
        Reply::No(text) if text.starts_with("Mailbox doesn't exist") => {
            Reply::No(format!("[TRYCREATE] {text}"))
        }
        reply => reply,
    })?;
    if size == 0 {
        return Err(Reply::no("Can't save a zero byte message"));
    }
    if append.flags.has_bad_keyword() {
        return Err(Reply::no("[CANNOT] Invalid characters in keyword"));
    }
    let refused = |error: StoreError| session.refused(&error);
    let grace = mailstore::quota::Grace::None;
    target.store().check_quota(size, size, grace).map_err(refused)?;
    let incoming = target.begin().map_err(refused)?;
    Ok((target, incoming))
}

/// Takes the octets of the message, to the disk or, when it is refused already, to nowhere.
async fn receive(
    session: &mut Session,
    mut incoming: Option<Incoming>,
    size: u64,
) -> Result<Result<Option<Incoming>, StoreError>, End> {
    let mut left = size;
    let mut failed = None;
    while left > 0 {
        let octets = session.line.content(left).await?;
        left -= octets.len() as u64;
        if let Some(file) = &mut incoming
            && let Err(error) = file.write(&octets)
        {
            // The rest has to be read all the same, or it would be taken for commands.
            failed = Some(error);
            incoming = None;
        }
    }
    Ok(match failed {
        Some(error) => Err(error),
        None => Ok(incoming),
    })
}

fn save(
    session: &mut Session,
    mut target: Mailbox,
    received: Result<Option<Incoming>, StoreError>,
    append: &Append,
) -> Reply {
    let validity = target.uid_validity();
    let attributes = Attributes {
        flags: append.flags.flags,
        keywords: append.flags.keywords.clone(),
        date: append.date.map(|date| moment(date.seconds)),
    };
    let saved = received.and_then(|incoming| match incoming {
        Some(incoming) => target.save(vec![(incoming.finish()?, attributes)]),
        None => Ok(Vec::new()),
    });
    let uids = match saved {
        Ok(uids) => uids,
        Err(error) => return session.refused(&error),
    };
    if let Some(view) = &mut session.selected
        && view.is_same(&target)
    {
        view.saved(&uids);
    }
    session.news(News { expunges: true, new_mail: true });
    match uids.first() {
        Some(uid) => Reply::Ok(format!("[APPENDUID {validity} {uid}] Append completed")),
        None => reply::internal(),
    }
}

fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}
