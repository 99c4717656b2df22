//! What is done to one message, or to all of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use mail_types::QueueId;

use super::queues::{
    ACTIVE, ALL, DEFERRED, HOLD, INCOMING, LOGS, MAILDROP, Name, files, is_ready, remove, rename,
    shown,
};
use super::{Act, Fatal, Tally, fatal, say, warn};
use crate::classic::{Site, why};

/// Where a message is looked for.
pub const SEARCHED: &[Name] = &[HOLD, INCOMING, ACTIVE, DEFERRED, MAILDROP];
/// Asks the queue manager to give the message up, whatever its age.
const EXPIRE: u32 = 0o010;
/// A message that moves while it is looked for is found the second time.
const ATTEMPTS: usize = 2;

/// The directories of which everything is meant.
pub const fn every(act: Act) -> &'static [Name] {
    match act {
        Act::Delete => ALL,
        _ => &[HOLD, INCOMING, ACTIVE, DEFERRED, MAILDROP],
    }
}

/// Does it to the message with this id, if it is there and complete.
pub fn message(
    site: &Site,
    act: Act,
    id: &QueueId,
    among: &[Name],
    tally: &mut Tally,
) -> Result<(), Fatal> {
    for _ in 0..ATTEMPTS {
        for queue in among.iter().filter(|queue| queue.messages) {
            let path = site.queue.path_in(queue.name, id);
            if !fs::symlink_metadata(&path).is_ok_and(|metadata| is_ready(&metadata)) {
                continue;
            }
            if touch(site, act, id, *queue, tally)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Does it to a message that lies in `queue`; whether that is all there is to do.
fn touch(
    site: &Site,
    act: Act,
    id: &QueueId,
    queue: Name,
    tally: &mut Tally,
) -> Result<bool, Fatal> {
    let (root, path) = (&site.queue.root, site.queue.path_in(queue.name, id));
    let to = |name: Name| rename(root, &path, &site.queue.path_in(name.name, id));
    let (done, word, sum) = match act {
        Act::Delete => {
            // First what is known of it: another message may get the same id at once.
            for log in LOGS {
                remove(root, &site.queue.path_in(log.name, id))?;
            }
            (remove(root, &path)?, "removed", &mut tally.deleted)
        }
        Act::Hold if queue == HOLD || queue == MAILDROP => return Ok(false),
        Act::Hold => (to(HOLD)?, "placed on hold", &mut tally.held),
        Act::Release if queue != HOLD => return Ok(false),
        Act::Release => (to(DEFERRED)?, "released from hold", &mut tally.released),
        Act::Requeue if queue == MAILDROP => return Ok(false),
        Act::Requeue => (to(MAILDROP)?, "requeued", &mut tally.requeued),
        Act::Expire | Act::ExpireAndRelease if queue == MAILDROP => return Ok(false),
        Act::Expire | Act::ExpireAndRelease => {
            (expire(site, &path)?, "expired", &mut tally.expired)
        }
    };
    if !done {
        return Ok(false);
    }
    say(&format!("{id}: {word}"));
    add(sum, true);
    if act == Act::ExpireAndRelease && queue == HOLD {
        return touch(site, Act::Release, id, queue, tally);
    }
    Ok(true)
}

/// Whether it was not marked before.
fn expire(site: &Site, path: &std::path::Path) -> Result<bool, Fatal> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(false) };
    let mode = metadata.mode() & 0o7777;
    if mode & EXPIRE != 0 {
        return Ok(false);
    }
    match fs::set_permissions(path, Permissions::from_mode(mode | EXPIRE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let shown = shown(&site.queue.root, path);
            Err(fatal(format!("set file mode {shown}: {}", why(&error))))
        }
        Ok(()) => Ok(true),
    }
}

/// Does it to all messages of these directories. Names that are no ids are told, and left alone.
pub fn all(site: &Site, act: Act, among: &[Name], tally: &mut Tally) -> Result<(), Fatal> {
    for &queue in among.iter().filter(|queue| queue.messages || act == Act::Delete) {
        every_file(site, act, queue, tally)?;
    }
    Ok(())
}

fn every_file(site: &Site, act: Act, queue: Name, tally: &mut Tally) -> Result<(), Fatal> {
    let root = &site.queue.root;
    for file in files(&site.queue, queue)? {
        if act == Act::Delete {
            let gone = remove(root, &file.path)?;
            add(&mut tally.deleted, gone && queue.messages && file.is_ready());
            continue;
        }
        let Ok(id) = QueueId::parse(&file.name) else {
            warn(&format!("bogus file name: {}", shown(root, &file.path)));
            continue;
        };
        let to = |name: Name| rename(root, &file.path, &site.queue.path_in(name.name, &id));
        match act {
            Act::Hold if queue != HOLD && queue != MAILDROP => add(&mut tally.held, to(HOLD)?),
            Act::Release if queue == HOLD => add(&mut tally.released, to(DEFERRED)?),
            Act::Requeue if queue != MAILDROP => add(&mut tally.requeued, to(MAILDROP)?),
            Act::Expire | Act::ExpireAndRelease if queue != MAILDROP && file.is_ready() => {
                add(&mut tally.expired, expire(site, &file.path)?);
                if act == Act::ExpireAndRelease && queue == HOLD {
                    add(&mut tally.released, to(DEFERRED)?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn add(sum: &mut Option<usize>, one: bool) {
    *sum.get_or_insert(0) += usize::from(one);
}
