//! What got a 250 survives: kill -9 of supervisors and workers under load, and the order of system calls.

mod dialogue;
mod durability;
mod full_disk;
mod kills;
mod reader;
mod sender;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// When each Message-ID was delivered to `recipient`, once for each copy.
fn delivered(site: &Site, recipient: &str) -> BTreeMap<String, Vec<SystemTime>> {
    let mut found: BTreeMap<String, Vec<SystemTime>> = BTreeMap::new();
    for part in ["new", "cur"] {
        for path in files(&site.maildir(recipient).join(part)) {
            let Ok(text) = std::fs::read(&path) else { continue };
            let text = String::from_utf8_lossy(&text).into_owned();
            let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: "));
            found.entry(id.unwrap_or_default().to_owned()).or_default().push(begun(&path));
        }
    }
    found
}

/// When the delivery into this Maildir file began: its name starts with the time, `SECONDS.MMICROSECONDS` as Dovecot or
/// `SECONDS.VdeviceIinodeMMICROSECONDS` as Postfix writes it.
fn begun(path: &Path) -> SystemTime {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut parts = name.split('.');
    let seconds = parts.next().and_then(|seconds| seconds.parse().ok()).unwrap();
    let micros = parts.next().and_then(|rest| rest.split_once('M')).unwrap().1;
    let micros = micros.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
