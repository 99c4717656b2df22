//! Clients that have passed, kept over restarts in a file of our own.
//!
//! Each line is an address, a tab, and five times in seconds since 1970 with `;` between them: when the tests expire that
//! Postfix's cache has, in its order and with its meaning (0: never passed, 1: switched off then). Postfix keeps the same
//! text in a database beside it, which we leave alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::progress::{DISABLED, Expiry};

/// Clients that are remembered; beyond it, those that expire first are forgotten.
const MOST: usize = 200_000;
/// A file larger than this is none of ours.
const LARGEST: u64 = 64 << 20;
/// Between two writings of the file.
const PAUSE: Duration = Duration::from_secs(5);

/// Clones share the clients.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<IpAddr, Expiry>,
    changed: bool,
    written: Option<Instant>,
}

impl Cache {
    /// What the file holds; one that is missing or unreadable holds nothing.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let small = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= LARGEST);
        let text =
            if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        let clients = text.lines().filter_map(line).take(MOST).collect();
        let state = State { clients, ..State::default() };
        Self { path: path.to_owned(), state: Arc::new(Mutex::new(state)) }
    }

    #[must_use]
    pub fn get(&self, client: IpAddr) -> Option<Expiry> {
        self.lock().clients.get(&client).copied()
    }

    /// Keeps a client. Those whose tests all expired before `oldest` are forgotten when there are too many.
    pub fn put(&self, client: IpAddr, expiry: Expiry, oldest: u64) {
        let mut state = self.lock();
        if state.clients.len() >= MOST && !state.clients.contains_key(&client) {
            state.clients.retain(|_, expiry| expiry.iter().any(|&at| at >= oldest));
            if state.clients.len() >= MOST {
                let mut last: Vec<u64> = state.clients.values().map(latest).collect();
                let middle = last.len() / 10;
                let (_, &mut limit, _) = last.select_nth_unstable(middle);
                state.clients.retain(|_, expiry| latest(expiry) > limit);
            }
        }
        state.clients.insert(client, expiry);
        state.changed = true;
    }

    /// Writes the file if there is something new and the last writing is long enough ago, or `now`.
    pub async fn save(&self, now: bool, oldest: u64) -> std::io::Result<()> {
        let text = {
            let mut state = self.lock();
            let early = state.written.is_some_and(|at| at.elapsed() < PAUSE);
            if !state.changed || (early && !now) {
                return Ok(());
            }
            state.changed = false;
            state.written = Some(Instant::now());
            state.clients.retain(|_, expiry| expiry.iter().any(|&at| at >= oldest));
            let mut text = String::new();
            for (client, [a, b, c, d, e]) in &state.clients {
                let _ = writeln!(text, "{client}\t{a};{b};{c};{d};{e}");
            }
            text
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut aside = path.clone().into_os_string();
            aside.push(".new");
            std::fs::write(&aside, text)?;
            std::fs::rename(&aside, &path)
        });
        written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn latest(expiry: &Expiry) -> u64 {
    expiry.iter().copied().max().unwrap_or_default()
}

/// As Postfix reads it: times that are missing were of tests that did not exist then.
fn line(line: &str) -> Option<(IpAddr, Expiry)> {
    let (client, times) = line.split_once('\t')?;
    let mut expiry = [DISABLED; 5];
    for (at, time) in expiry.iter_mut().zip(times.split(';')) {
        *at = time.parse().unwrap_or(DISABLED);
    }
    Some((client.parse().ok()?, expiry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_outlive_a_restart_and_expire() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        std::fs::write(&path, "192.0.2.1\t500;600\nnonsense\n2001:db8::1\t1;1;1;1;1\n").unwrap();
        let cache = Cache::open(&path);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(cache.get(address("192.0.2.1")), Some([500, 600, 1, 1, 1]));
        cache.put(address("192.0.2.2"), [900, 900, 1, 1, 1], 0);
        cache.save(true, 550).await.unwrap();
        let again = Cache::open(&path);
        assert_eq!(again.get(address("192.0.2.2")), Some([900, 900, 1, 1, 1]));
        assert_eq!(again.get(address("192.0.2.1")), Some([500, 600, 1, 1, 1]));
        assert_eq!(again.get(address("2001:db8::1")), None);
    }
}
