//! An original kept from accepting connections while it ends those it has: the one thread that accepts is held by the
//! tracer's means, and all others work on. Who holds it ends, however: the thread goes on.

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The first thread of a process, held. OpenDKIM accepts in it (libmilter's `smfi_main`); each connection has its own.
#[derive(Debug)]
pub struct Held {
    pid: Pid,
    /// It came just when the thread was held, and is for the thread.
    signal: Option<Signal>,
}

impl Held {
    /// # Errors
    ///
    /// The system's: no right to trace, or the process has gone.
    pub fn first_thread(pid: i32) -> nix::Result<Self> {
        let pid = Pid::from_raw(pid);
        ptrace::seize(pid, ptrace::Options::empty())?;
        let mut held = Self { pid, signal: None };
        ptrace::interrupt(pid)?;
        if let WaitStatus::Stopped(_, signal) = waitpid(pid, Some(WaitPidFlag::__WALL))? {
            held.signal = Some(signal);
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.pid, self.signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planks::process;

    /// Reads to the end of its input, and ends.
    fn reader() -> (std::process::Child, i32) {
        let mut command = std::process::Command::new("cat");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        (child, pid)
    }

    #[test]
    fn a_held_process_does_nothing_and_goes_on_afterwards() {
        let (mut child, pid) = reader();
        let held = Held::first_thread(pid).unwrap();
        assert!(process::is_stopped(pid));
        drop(held);
        drop(child.stdin.take()); // it reads the end, and ends
        assert!(child.wait().unwrap().success());
    }

    /// As when the command is killed: the kernel lets go what a tracer had that has ended.
    #[test]
    fn a_held_process_goes_on_when_who_holds_it_has_ended() {
        let (mut child, pid) = reader();
        let tracer = std::thread::spawn(move || {
            std::mem::forget(Held::first_thread(pid).unwrap());
            process::is_stopped(pid)
        });
        assert!(tracer.join().unwrap());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
