//! OpenDKIM goes, and comes back.
//!
//! It is ended at an instant at which it serves nobody: stopped by a signal, looked at, and only then killed. So no
//! message is in its hands, it takes no other one, and it cannot remove our socket's path on its way out.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

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

/// The filter at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub unit: String,
    pub daemon: String,
    pub at: Address,
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

    /// Ends the original when it is idle.
    ///
    /// # Errors
    ///
    /// When it is not idle for an instant within the time given.
    pub fn end(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        let begin = Instant::now();
        loop {
            let pids = self.originals();
            if pids.is_empty() {
                return Ok(());
            }
            let frozen = Frozen::new(&pids);
            if process::served(&pids, std::slice::from_ref(&self.at)) == 0 {
                return run.services.end_original(&self.unit);
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
        run.notes.extend(log.unfiltered(&self.at));
        run.stop(&self.daemon)
    }

    /// OpenDKIM starts only where nobody answers. Ours ends what it has under another name.
    fn back_at(&self, path: &std::path::Path, run: &mut Run<'_>) -> Result<(), Mishap> {
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
