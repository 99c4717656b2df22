//! What got a 250 survives: kill -9 of supervisors and workers under load, and the order of system calls.

mod durability;
mod full_disk;
mod kills;
mod sender;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::Scratch;
use harness::site::Site;

/// Two mailboxes, so that each message has two deliveries to lose or to repeat.
const RECIPIENTS: [&str; 2] = ["user1@example.com", "user2@example.com"];

/// The sample `guide`, in which a delivery that failed is tried again at once.
fn site(scratch: &Scratch) -> Site {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let site = Site::render(&samples.join("guide"), scratch.path());
    let main_cf = site.postfix().join("main.cf");
    let text = std::fs::read_to_string(&main_cf).unwrap();
    let soon = "queue_run_delay = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\ntransport_retry_time = 1s\nmailbox_size_limit = 0\n";
    std::fs::write(main_cf, text + soon).unwrap();
    site
}

/// How often each Message-ID stands in the mailbox of `recipient`.
fn delivered(site: &Site, recipient: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for part in ["new", "cur"] {
        for path in files(&site.maildir(recipient).join(part)) {
            let Ok(text) = std::fs::read(path) else { continue };
            let text = String::from_utf8_lossy(&text).into_owned();
            let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: "));
            *found.entry(id.unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
