//! Room on the file systems that mail needs, and messages in the queue.

use std::path::PathBuf;

use config::{Problems, dovecot, postfix};
use queue::{Queue, QueueDirectory};
use serde::Serialize;

use crate::check::files::Files;
use crate::check::report::Finding;

/// One file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Space {
    /// What of mail lies on it, the first of several.
    pub path: PathBuf,
    pub free_bytes: u64,
    pub free_percent: u64,
    /// 100 where the file system does not count them.
    pub free_inodes_percent: u64,
}

/// Messages in one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queued {
    pub queue: &'static str,
    pub messages: usize,
}

/// More than this are not counted.
const MOST_MESSAGES: usize = 1_000_000;
const LITTLE: u64 = 10;
const VERY_LITTLE: u64 = 3;

/// The file systems of queue, mailboxes and logs, each once.
pub fn of_host(files: &Files) -> Vec<Space> {
    let mut paths: Vec<PathBuf> = Vec::new();
    if let Some(host) = &files.postfix {
        paths.push(crate::check::mistakes::text(host, "queue_directory").into());
        paths.push(crate::check::mistakes::text(host, "virtual_mailbox_base").into());
        paths.push(crate::check::mistakes::text(host, "mail_spool_directory").into());
    }
    if let Some(config) = &files.dovecot {
        let location = config.global().get(dovecot::MAIL_LOCATION, &mut Problems::default());
        paths.push(root_of(&location));
    }
    paths.push("/var/log".into());
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        let Some(path) =
            path.ancestors().find(|path| path.is_dir()).filter(|path| path.is_absolute())
        else {
            continue;
        };
        let (Ok(facts), Ok(space)) = (std::fs::metadata(path), rustix::fs::statvfs(path)) else {
            continue;
        };
        let device = std::os::unix::fs::MetadataExt::dev(&facts);
        if seen.contains(&device) {
            continue;
        }
        seen.push(device);
        let percent =
            |free: u64, all: u64| (free.saturating_mul(100)).checked_div(all).unwrap_or(100);
        found.push(Space {
            path: path.to_owned(),
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            free_percent: percent(space.f_bavail, space.f_blocks),
            free_inodes_percent: percent(space.f_favail, space.f_files),
        });
    }
    found
}

/// The part of a `mail_location` before anything of a user: `/var/mail/vhosts`, or where homes are.
fn root_of(location: &str) -> PathBuf {
    let path = location.split_once(':').map_or("", |(_, rest)| rest);
    let path = path.split(':').next().unwrap_or_default();
    if path.starts_with(['~', '%']) {
        return "/home".into();
    }
    path.split('%').next().unwrap_or_default().into()
}

/// What is scarce.
pub fn judge(spaces: &[Space], files: &Files, found: &mut Vec<Finding>) {
    for space in spaces {
        let least = space.free_percent.min(space.free_inodes_percent);
        let what = if space.free_percent <= space.free_inodes_percent { "room" } else { "inodes" };
        let text =
            format!("the file system of {} has {least} % of its {what} left", space.path.display());
        if least < VERY_LITTLE {
            found.push(Finding::critical(None, text).mend("make room: a full disk refuses mail"));
        } else if least < LITTLE {
            found.push(Finding::warning(None, text).mend("make room: a full disk refuses mail"));
        }
    }
    let Some(host) = &files.postfix else { return };
    let mut quiet = Problems::default();
    let message = host.main().get(postfix::MESSAGE_SIZE_LIMIT, &mut quiet);
    if let Some(space) = spaces.first()
        && space.free_bytes < message.saturating_add(message / 2)
    {
        let text = format!(
            "{} has less room than one and a half messages of message_size_limit: smtpd refuses all mail",
            space.path.display()
        );
        found.push(Finding::critical(None, text).mend("make room"));
    }
}

/// The sizes of the queues; nothing where they cannot be read.
pub fn queues(files: &Files) -> Vec<Queued> {
    let Some(host) = &files.postfix else { return Vec::new() };
    let mut quiet = Problems::default();
    let main = host.main();
    let hashed = main.get(postfix::HASH_QUEUE_NAMES, &mut quiet);
    let depth: i64 = main.get(postfix::HASH_QUEUE_DEPTH, &mut quiet);
    let directory = QueueDirectory {
        hashed: hashed.into_iter().map(|word| word.text).collect(),
        depth: usize::try_from(depth).unwrap_or(1),
        long_ids: main.get(postfix::ENABLE_LONG_QUEUE_IDS, &mut quiet),
        root: main.get(postfix::QUEUE_DIRECTORY, &mut quiet).into(),
    };
    let count = |queue: Queue| {
        let messages = directory.scan(queue).ok()?.take(MOST_MESSAGES).count();
        Some(Queued { queue: queue.name(), messages })
    };
    Queue::LISTED.into_iter().filter_map(count).collect()
}

/// `12.3 GiB`
pub fn bytes(bytes: u64) -> String {
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit < 4 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, ["B", "KiB", "MiB", "GiB", "TiB"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scarce_is_told() {
        let files =
            crate::check::mistakes::testing::files(tempfile::tempdir().unwrap().path(), &[]);
        for (percent, inodes, told) in
            [(50, 50, ""), (9, 50, "Warning"), (50, 2, "Critical"), (2, 1, "Critical")]
        {
            let space = Space {
                path: "/q".into(),
                free_bytes: 1 << 40,
                free_percent: percent,
                free_inodes_percent: inodes,
            };
            let mut found = Vec::new();
            judge(&[space], &files, &mut found);
            let levels: String = found.iter().map(|one| format!("{:?}", one.level)).collect();
            assert_eq!(levels, told);
        }
        let root = tempfile::tempdir().unwrap();
        let files = crate::check::mistakes::testing::files(
            root.path(),
            &[("postfix/main.cf", ""), ("postfix/master.cf", "")],
        );
        let space = Space {
            path: "/q".into(),
            free_bytes: 10 << 20,
            free_percent: 50,
            free_inodes_percent: 50,
        };
        let mut found = Vec::new();
        judge(&[space], &files, &mut found);
        assert!(found[0].text.contains("smtpd refuses all mail"));
    }

    #[test]
    fn the_root_of_mailboxes_and_sizes() {
        for (location, root) in [
            ("maildir:/var/mail/vhosts/%d/%n/Maildir:INDEX=/x", "/var/mail/vhosts/"),
            ("maildir:~/Maildir", "/home"),
            ("", ""),
        ] {
            assert_eq!(root_of(location), PathBuf::from(root));
        }
        assert_eq!(
            [bytes(0), bytes(1536), bytes(u64::MAX / 10)].map(|text| text),
            ["0.0 B", "1.5 KiB", "1677721.5 TiB"]
        );
    }
}
