//! OpenDKIM goes, and comes back.
//!
//! It is ended at an instant at which it serves nobody: stopped by a signal, looked at, and only then killed. So no
//! message is in its hands, it takes no other one, and it cannot remove our socket's path on its way out. On a port it
//! shares the queue of clients with ours until then, and is kept from accepting any.
//!
//! It comes back with a listening socket of ours, which its libmilter takes as `-p fd:N` where Debian built it; a path
//! changes hands by rename(2) when it serves, a port's queue is shared until ours has stopped. Elsewhere, and without
//! handed sockets, it binds for itself, and nobody listens while it starts.

use std::fs;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::catch::Catch;
use super::hand::Offer;
use super::hold::Held;
use super::postfix::{self, Holder};
use super::process::{self, Address};
use super::steps::{PULSE, Run, is_of, until};
use super::{Mishap, unsigned};

/// The name of its program.
pub const PROGRAM: &str = "opendkim";
/// How long it may take until the original listens again.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take until a signal has stopped it.
const STOP_LIMIT: Duration = Duration::from_millis(200);
/// Between two looks at a busy filter: it is stopped for some 100 µs each time.
const BUSY: Duration = Duration::from_millis(20);
/// How long the original may leave all clients of a shared port to ours.
const SHARED: Duration = Duration::from_secs(1);

/// The filter at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub unit: String,
    pub daemon: String,
    pub at: Address,
    /// Where listening sockets are handed over.
    #[serde(default)]
    pub offer: PathBuf,
    /// Postfix's log file, in which it tells of mail that no filter saw; the journal has it too.
    pub log: Option<PathBuf>,
}

impl Filter {
    /// The original's processes, as long as they listen there.
    fn originals(&self) -> Vec<i32> {
        let mut pids: Vec<i32> =
            process::listeners(&self.at).into_iter().map(|listening| listening.pid).collect();
        pids.retain(|pid| is_of(*pid, PROGRAM));
        pids.dedup();
        pids
    }

    fn holder() -> Holder {
        Holder::Listener(PROGRAM.to_owned())
    }

    /// Ends the original when it is idle. Without handed sockets its port is bound in that moment, for ours.
    ///
    /// # Errors
    ///
    /// When it is not idle for an instant within the time given.
    pub fn end(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        let begin = Instant::now();
        let at = std::slice::from_ref(&self.at);
        loop {
            let pids = self.originals();
            if pids.is_empty() {
                return Ok(());
            }
            // Ours accepts from the same queue.
            let held: Vec<Held> = match self.at {
                Address::Tcp(_) if !run.gap => {
                    pids.iter().filter_map(|pid| Held::first_thread(*pid).ok()).collect()
                }
                _ => Vec::new(),
            };
            if !held.is_empty() {
                let left = run.patience.saturating_sub(begin.elapsed());
                let _ = until(left, || process::served(&pids, at) == 0);
            }
            let frozen = Frozen::new(&pids);
            if process::served(&pids, at) == 0 {
                drop(held); // it stays stopped
                return self.end_now(run);
            }
            drop(frozen);
            if begin.elapsed() >= run.patience {
                return Err(Mishap(format!(
                    "{} has served connections for {} s without a pause; try again later or with a longer --patience",
                    self.unit,
                    run.patience.as_secs()
                )));
            }
            std::thread::sleep(BUSY);
        }
    }

    fn end_now(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        let catches = run.gap && matches!(self.at, Address::Tcp(_));
        let catch = catches.then(|| Catch::begin(std::slice::from_ref(&self.at)));
        run.services.end_original(&self.unit)?;
        match catch {
            Some(catch) => run.caught(catch, START_LIMIT),
            None => Ok(()),
        }
    }

    /// Has the original back in its place.
    ///
    /// # Errors
    ///
    /// When it does not start. Ours goes on then.
    pub fn give_back(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        let originals = self.originals();
        if !originals.is_empty() {
            drop(Frozen(&originals)); // a run that was killed may have left them stopped
            if let Address::Unix(path) = &self.at {
                postfix::put_back(path, &Self::holder())?;
                postfix::forget(std::slice::from_ref(path))?;
            }
            return run.stop(&self.daemon); // it shares the port with us, or has its path again
        }
        run.services.prepare_original(&self.unit)?;
        let log = unsigned::Mark::here(self.log.as_deref());
        match run.services.process(&self.daemon) {
            Some(ours) if !run.gap => {
                if let Err(why) = self.hand_back(ours, run) {
                    run.notes.push(format!("{why}; it binds for itself"));
                    run.services.prepare_original(&self.unit)?;
                    self.start_with_gap(run)?;
                }
            }
            _ => self.start_with_gap(run)?,
        }
        run.notes.extend(log.unfiltered(&self.at));
        run.stop(&self.daemon)
    }

    /// The original gets a listening socket while ours serves; nobody is refused.
    fn hand_back(&self, ours: i32, run: &mut Run<'_>) -> Result<(), Mishap> {
        let failed = |error| Mishap(format!("{}: no socket for {}: {error}", self.at, self.unit));
        match &self.at {
            Address::Unix(path) => {
                let given = process::given_name(path);
                let socket = bound_beside(path, &given).map_err(failed)?;
                let started = self.start_with(socket, run).and_then(|()| {
                    let asks = || UnixStream::connect(&given).is_ok_and(|asks| self.accepts(&asks));
                    self.serves(START_LIMIT, asks)
                });
                started.and_then(|()| fs::rename(&given, path).map_err(failed)).inspect_err(|_| {
                    let _ = fs::remove_file(&given);
                    let _ = run.services.end_original(&self.unit);
                })
            }
            Address::Tcp(at) => {
                let held = process::listening(ours, &self.at);
                let first =
                    held.first().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
                let socket = process::take(first).map_err(failed)?;
                let kept = socket.try_clone().map_err(failed)?;
                self.start_with(socket, run)?;
                let asks = || TcpStream::connect(at).is_ok_and(|asks| self.accepts(&asks));
                let _ = self.serves(SHARED, asks); // ours may be quicker each time
                run.services.begin_stop(&self.daemon)?;
                let tree = process::tree(ours);
                let closed =
                    || tree.iter().all(|pid| process::listening(*pid, &self.at).is_empty());
                let _ = until(START_LIMIT, closed);
                self.serves(START_LIMIT, asks).or_else(|why| {
                    run.services.end_original(&self.unit)?;
                    run.services.stop(&self.daemon)?;
                    let offer = Offer::new(&self.offer, vec![kept]).map_err(failed)?;
                    offer.during(|| run.services.start(&self.daemon))?;
                    Err(why)
                })
            }
        }
    }

    /// Starts the original with this listening socket.
    fn start_with(&self, socket: OwnedFd, run: &mut Run<'_>) -> Result<(), Mishap> {
        let failed = |error| Mishap::file(&self.offer, &error);
        let offer = Offer::new(&self.offer, vec![socket]).map_err(failed)?;
        offer.during(|| {
            run.services.start_original_with(&self.unit, &self.offer)?;
            let gone = |run: &mut Run<'_>| run.services.original(&self.unit).is_none();
            let _ = until(START_LIMIT, || !self.originals().is_empty() || gone(run));
            match self.originals().is_empty() {
                false => Ok(()),
                true => Err(Mishap(format!("{} takes no socket from us", self.unit))),
            }
        })
    }

    /// Waits until the original accepts a client of ours.
    fn serves(&self, limit: Duration, asks: impl Fn() -> bool) -> Result<(), Mishap> {
        match until(limit, || self.originals().is_empty() || asks()) {
            Ok(_) if !self.originals().is_empty() => Ok(()),
            _ => Err(Mishap(format!("{} takes no client from our socket", self.unit))),
        }
    }

    /// Whether it is the original that accepts this client, which says nothing.
    fn accepts<T>(&self, _client: &T) -> bool {
        let before = Instant::now();
        while before.elapsed() < BUSY {
            if process::accepted(&self.originals(), &self.at) > 0 {
                return true;
            }
            std::thread::sleep(PULSE / 5);
        }
        false
    }

    /// The original binds for itself, when ours has gone from there.
    fn start_with_gap(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        let (begun, result) = match &self.at {
            Address::Unix(path) => (Instant::now(), self.back_at(path, run)),
            Address::Tcp(_) => self.back_on_port(run),
        };
        result?;
        let listens = until(START_LIMIT, || process::is_listened(&self.at));
        let gap = begun.elapsed();
        if listens.is_err() {
            return Err(Mishap(format!("{} does not listen on {}", self.unit, self.at)));
        }
        run.notes.push(format!("{}: nobody listened for {} ms", self.at, gap.as_millis()));
        Ok(())
    }

    /// OpenDKIM starts only where nobody answers. Ours ends what it has under another name.
    fn back_at(&self, path: &Path, run: &mut Run<'_>) -> Result<(), Mishap> {
        let aside = path.with_extension("theoris-aside");
        let moved = fs::rename(path, &aside).is_ok();
        let started = run.services.start_original(&self.unit);
        if started.is_err() && moved {
            let _ = fs::rename(&aside, path);
        }
        let _ = fs::remove_file(&aside);
        started
    }

    /// A port can be bound when we have closed it: at an instant at which we serve nobody.
    fn back_on_port(&self, run: &mut Run<'_>) -> (Instant, Result<(), Mishap>) {
        let ours = run.services.process(&self.daemon);
        if let Some(pid) = ours {
            let tree = process::tree(pid);
            let at = std::slice::from_ref(&self.at);
            let _ = until(run.patience, || process::served(&tree, at) == 0);
        }
        let begun = Instant::now();
        let back = run.services.begin_stop(&self.daemon).and_then(|()| {
            let free = || ours.is_none() || !process::is_listened(&self.at);
            let _ = until(START_LIMIT, free);
            let started = run.services.start_original(&self.unit);
            if started.is_err() {
                run.services.stop(&self.daemon)?;
                run.services.start(&self.daemon)?;
            }
            started
        });
        (begun, back)
    }
}

/// A listening socket at `given`, like what stands at `path`.
fn bound_beside(path: &Path, given: &Path) -> std::io::Result<OwnedFd> {
    let _ = fs::remove_file(given);
    let like = fs::metadata(path)?;
    let socket = UnixListener::bind(given)?;
    let placed = fs::set_permissions(given, fs::Permissions::from_mode(like.mode() & 0o7777))
        .and_then(|()| std::os::unix::fs::chown(given, Some(like.uid()), Some(like.gid())));
    if let Err(error) = placed {
        let _ = fs::remove_file(given);
        return Err(error);
    }
    Ok(socket.into())
}

/// Processes that a signal has stopped; they go on when this is dropped.
struct Frozen<'a>(&'a [i32]);

impl<'a> Frozen<'a> {
    fn new(pids: &'a [i32]) -> Self {
        for pid in pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
        }
        let begin = Instant::now();
        while !pids.iter().all(|pid| process::is_stopped(*pid)) && begin.elapsed() < STOP_LIMIT {
            std::thread::sleep(PULSE / 50);
        }
        Self(pids)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        for pid in self.0 {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
    }
}
