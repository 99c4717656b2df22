//! The steps of which a swap is made. Each may be done again after an interrupted run: what is done already stays so.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::catch::Catch;
use super::marks::{self, Key};
use super::process::{self, Address};
use super::services::Services;
use super::{Manner, Mishap, dovecot, filter, hand, postfix, rewrite};

/// How often a condition is looked at.
pub const PULSE: Duration = Duration::from_millis(5);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Gives the sockets of an original a second name, so that it can be put back.
    Keep {
        paths: Vec<PathBuf>,
        of: postfix::Holder,
    },
    /// Starts one of our daemons with the original's listening sockets, if it can be handed them.
    Start {
        daemon: String,
        offer: PathBuf,
        take: Vec<Address>,
        at: Vec<Address>,
        from: String,
    },
    /// Waits until the original's delivery agents have ended what they were doing.
    AgentsIdle {
        queue: PathBuf,
        sockets: Vec<String>,
    },
    Mark {
        file: PathBuf,
        keys: Vec<Key>,
    },
    Unmark {
        file: PathBuf,
        keys: Vec<Key>,
    },
    /// Has master(8) read master.cf again, and waits until it holds none of these sockets.
    Close {
        queue: PathBuf,
        configuration: PathBuf,
        sockets: Vec<String>,
    },
    /// Gives socket paths back to master(8): by a reload, or under the name that was kept.
    GiveBack(postfix::Return),
    /// Nobody has taken these paths from our daemon meanwhile.
    Holds {
        daemon: String,
        paths: Vec<PathBuf>,
    },
    /// Takes the second names away.
    Forget {
        paths: Vec<PathBuf>,
    },
    /// Waits until the original filter serves nobody, and ends it.
    EndFilter(filter::Filter),
    /// Has the original filter back.
    ReturnFilter(filter::Filter),
    /// Lets our broker confirm logins with Dovecot's auth.
    PrepareDovecot(dovecot::Part),
    /// Writes Dovecot's file of ours, proves it, and has Dovecot close its ports.
    CloseDovecot(dovecot::Part),
    /// Takes it away, has Dovecot open its ports again, and stops our daemon.
    ReturnDovecot(dovecot::Part),
    /// Waits until our daemon serves nobody, and stops it.
    Stop {
        daemon: String,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = |keys: &[Key]| list(keys.iter().map(Key::to_string));
        let paths = |paths: &[PathBuf]| list(paths.iter().map(|path| path.display().to_string()));
        match self {
            Self::Keep { paths: kept, .. } => write!(out, "keep a second name of {}", paths(kept)),
            Self::Start { daemon, at, .. } => {
                write!(out, "start {daemon} at {}", list(at.iter().map(Address::to_string)))
            }
            Self::AgentsIdle { sockets, .. } => {
                write!(
                    out,
                    "wait until Postfix's agents at {} are idle",
                    list(sockets.iter().cloned())
                )
            }
            Self::Mark { file, keys: marked } => {
                write!(out, "{}: mark {}", file.display(), keys(marked))
            }
            Self::Unmark { file, keys: marked } => {
                write!(out, "{}: take the marks from {}", file.display(), keys(marked))
            }
            Self::Close { sockets, .. } => {
                write!(out, "reload Postfix, which closes {}", list(sockets.iter().cloned()))
            }
            Self::GiveBack(back) => {
                write!(
                    out,
                    "reload Postfix, which opens {} again",
                    list(back.sockets.iter().cloned())
                )
            }
            Self::Holds { daemon, paths: held } => {
                write!(out, "see that {daemon} holds {}", paths(held))
            }
            Self::Forget { paths: kept } => {
                write!(out, "take the second name of {} away", paths(kept))
            }
            Self::EndFilter(filter) => write!(out, "wait until {} is idle, stop it", filter.unit),
            Self::ReturnFilter(filter) => {
                write!(out, "stop {}, start {}", filter.daemon, filter.unit)
            }
            Self::PrepareDovecot(part) => match &part.master_user {
                Some(user) => write!(
                    out,
                    "write {}: auth-master for {user}, reload Dovecot",
                    part.file.display()
                ),
                None => write!(out, "see that auth-master can be reached"),
            },
            Self::CloseDovecot(part) => {
                write!(out, "write {}, reload Dovecot", part.file.display())
            }
            Self::ReturnDovecot(part) => {
                write!(out, "remove {}, reload Dovecot, stop {}", part.file.display(), part.daemon)
            }
            Self::Stop { daemon } => write!(out, "stop {daemon} when it is idle"),
        }
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// What steps need to work with, and what they have to tell.
pub struct Run<'a> {
    pub services: &'a mut dyn Services,
    /// How long to wait for those who are being served.
    pub patience: Duration,
    /// Swap with a short gap, as on kernels that hand no sockets over.
    pub gap: bool,
    /// Ports that were bound when an original closed them, for the daemon that starts next.
    pub caught: Vec<OwnedFd>,
    /// For the operator: gaps, messages that went out unsigned.
    pub notes: Vec<String>,
}

impl<'a> Run<'a> {
    pub fn new(services: &'a mut dyn Services, manner: Manner) -> Self {
        let Manner { patience, gap } = manner;
        Self { services, patience, gap, caught: Vec::new(), notes: Vec::new() }
    }
}

impl Run<'_> {
    /// Waits for ports that an original closes, and tells how long nobody listened.
    ///
    /// # Errors
    ///
    /// When they are not free in time.
    pub fn caught(&mut self, catch: Catch, limit: Duration) -> Result<(), Mishap> {
        let Some(caught) = catch.within(limit) else {
            return Err(Mishap("the ports do not become free".into()));
        };
        self.notes.push(format!("nobody listened for {} ms", caught.gap.as_millis()));
        self.caught = caught.sockets;
        Ok(())
    }

    /// Does one step.
    ///
    /// # Errors
    ///
    /// What kept it from being done.
    pub fn step(&mut self, step: &Step) -> Result<(), Mishap> {
        match step {
            Step::Keep { paths, of } => postfix::keep(paths, of),
            Step::Start { daemon, offer, take, at, from } => {
                self.start(daemon, offer, take, at, from)
            }
            Step::AgentsIdle { queue, sockets } => {
                postfix::agents_idle(queue, sockets, self.patience)
            }
            Step::Mark { file, keys } => edit(file, |text| marks::mark(text, keys)),
            Step::Unmark { file, keys } => edit(file, |text| marks::unmark(text, keys)),
            Step::Close { queue, configuration, sockets } => {
                postfix::close(postfix::Site { queue, configuration }, sockets, self)
            }
            Step::GiveBack(back) => postfix::give_back(back, self),
            Step::Holds { daemon, paths } => self.holds(daemon, paths),
            Step::Forget { paths } => postfix::forget(paths),
            Step::EndFilter(filter) => filter.end(self),
            Step::ReturnFilter(filter) => filter.give_back(self),
            Step::PrepareDovecot(part) => part.prepare(),
            Step::CloseDovecot(part) => part.close(self),
            Step::ReturnDovecot(part) => part.give_back(self),
            Step::Stop { daemon } => self.stop(daemon),
        }
    }

    fn start(
        &mut self,
        daemon: &str,
        offer: &Path,
        take: &[Address],
        at: &[Address],
        from: &str,
    ) -> Result<(), Mishap> {
        let mut taken = std::mem::take(&mut self.caught);
        if !self.gap {
            for address in take {
                taken.push(handed(address, from)?);
            }
        }
        if taken.is_empty() {
            self.services.start(daemon)?;
        } else {
            let failed = |error| Mishap::file(offer, &error);
            let offer = hand::Offer::new(offer, taken).map_err(failed)?;
            offer.during(|| self.services.start(daemon))?;
        }
        let Some(pid) = self.services.process(daemon) else {
            return Err(Mishap(format!("{daemon} ended as soon as it was ready")));
        };
        for address in at {
            if let Address::Tcp(_) = address
                && process::listening(pid, address).is_empty()
            {
                return Err(Mishap(format!("{daemon} does not listen on {address}")));
            }
        }
        Ok(())
    }

    /// Who connects meets our daemon.
    fn holds(&mut self, daemon: &str, paths: &[PathBuf]) -> Result<(), Mishap> {
        let Some(pid) = self.services.process(daemon) else {
            return Err(Mishap(format!("{daemon} does not run any more")));
        };
        for path in paths {
            if postfix::answers(path) != Some(pid) {
                return Err(Mishap(format!("{}: is not {daemon}'s any more", path.display())));
            }
        }
        Ok(())
    }

    /// Stops one of our daemons as soon as it serves nobody: a delivery that is cut is done twice.
    pub fn stop(&mut self, daemon: &str) -> Result<(), Mishap> {
        if let Some(pid) = self.services.process(daemon) {
            let idle =
                || process::waiting(pid) == 0 && process::served(&process::tree(pid), &[]) == 0;
            let _ = until(self.patience, idle); // in the end its own grace counts
        }
        self.services.stop(daemon)
    }
}

/// The listening socket of an original, as it is handed to our daemon.
///
/// # Errors
///
/// When it does not listen there, or where no sockets are handed over: a kernel before 5.6, a container's filter of
/// system calls.
pub fn handed(address: &Address, from: &str) -> Result<OwnedFd, Mishap> {
    let holders = process::listeners(address);
    let Some(holder) = holders.iter().find(|holder| is_of(holder.pid, from)) else {
        return Err(Mishap(format!("{from} does not listen on {address} any more")));
    };
    process::take(holder).map_err(|error| {
        Mishap(format!(
            "cannot take {address} from {from}, pid {}: {error}; --gap swaps with a short gap",
            holder.pid
        ))
    })
}

/// Whether a process is the original of that name.
pub fn is_of(pid: i32, name: &str) -> bool {
    process::command(pid) == name
}

/// Waits until it is so. Gives how long it took.
///
/// # Errors
///
/// The time it waited in vain.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> Result<Duration, Duration> {
    let begin = Instant::now();
    loop {
        if so() {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() >= limit {
            return Err(begin.elapsed());
        }
        std::thread::sleep(PULSE);
    }
}

/// Changes a file of the host, if it has to be changed.
pub fn edit(file: &Path, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), Mishap> {
    let failed = |error| Mishap::file(file, &error);
    let before = fs::read(file).map_err(failed)?;
    let after = change(&before);
    if after == before { Ok(()) } else { rewrite::replace(file, &after).map_err(failed) }
}
