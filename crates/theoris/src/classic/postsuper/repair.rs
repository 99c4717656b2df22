//! The queue directory put in order: files where they belong, under names that fit their inode.

use std::time::{Duration, SystemTime};

use mail_types::QueueId;

use super::queues::{Found, LOGS, Name, files, remove, rename, shown};
use super::{Fatal, warn};
use crate::classic::Site;

/// Whatever was begun so long ago is not going on any more.
const OLD: Duration = Duration::from_secs(7 * 86_400);
/// Behind a new name until all files have theirs, so that none stands in the way of another.
const UNFINISHED: &str = "#FIX";

/// Removes messages that were never completed.
pub fn purge(site: &Site, among: &[Name], told: bool) -> Result<(), Fatal> {
    let root = &site.queue.root;
    let now = SystemTime::now();
    let old = |file: &Found| {
        let age = file.metadata.modified().map(|time| now.duration_since(time));
        age.is_ok_and(|age| age.is_ok_and(|age| age > OLD))
    };
    for &queue in among {
        for file in files(&site.queue, queue)? {
            if queue.messages && !file.is_ready() && old(&file) {
                remove(root, &file.path)?;
            } else if told && QueueId::parse(&file.name).is_err() && queue.name != "flush" {
                warn(&format!("bogus file name: {}", shown(root, &file.path)));
            }
        }
    }
    Ok(())
}

/// Moves files to the place that their name gives them, and gives messages the names that their inodes
/// give them, with their logs. How many messages got another name.
pub fn structure(site: &Site, among: &[Name], long: bool) -> Result<usize, Fatal> {
    let root = &site.queue.root;
    let mut renamed = 0;
    for queue in among.iter().filter(|queue| queue.messages) {
        for file in files(&site.queue, *queue)? {
            let Some(old) = id(root, &file) else { continue };
            let Some(new) = fitting(&old, &file, long) else { continue };
            for log in LOGS {
                let from = site.queue.path_in(log.name, &old);
                rename(root, &from, &marked(site, log, &new))?;
            }
            if rename(root, &file.path, &marked(site, *queue, &new))? {
                renamed += 1;
            }
        }
    }
    let logs = LOGS.iter().filter(|log| !among.contains(log) && renamed > 0);
    for &queue in among.iter().chain(logs) {
        if queue.name == "flush" {
            continue;
        }
        for file in files(&site.queue, queue)? {
            let name = file.name.strip_suffix(UNFINISHED).unwrap_or(&file.name);
            let Ok(id) = QueueId::parse(name) else {
                warn(&format!("bogus file name: {}", shown(root, &file.path)));
                continue;
            };
            let wanted = site.queue.path_in(queue.name, &id);
            if wanted != file.path {
                rename(root, &file.path, &wanted)?;
            }
        }
    }
    Ok(renamed)
}

fn id(root: &std::path::Path, file: &Found) -> Option<QueueId> {
    if file.name.ends_with(UNFINISHED) {
        return None; // of a run that was cut short
    }
    let id = QueueId::parse(&file.name).ok();
    if id.is_none() {
        warn(&format!("bogus file name: {}", shown(root, &file.path)));
    }
    id
}

fn marked(site: &Site, queue: Name, id: &QueueId) -> std::path::PathBuf {
    let mut path = site.queue.path_in(queue.name, id).into_os_string();
    path.push(UNFINISHED);
    path.into()
}

/// The name that fits the file's inode, if its own does not.
fn fitting(id: &QueueId, file: &Found, long: bool) -> Option<QueueId> {
    use std::os::unix::fs::MetadataExt as _;
    if id.is_long() && !long {
        return None;
    }
    let fits = id.with_inode(file.metadata.ino());
    (fits != *id).then_some(fits)
}
