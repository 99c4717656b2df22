//! An original kept from accepting connections while it ends those it has: the one thread that accepts is held by the
//! tracer's means, and all others work on. Who holds it ends, however: the thread goes on.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// The first thread of a process, held. OpenDKIM accepts in it (libmilter's `smfi_main`); each connection has its own.
#[derive(Debug)]
pub struct Held(Pid);

impl Held {
    /// # Errors
    ///
    /// The system's: no right to trace, or the process has gone.
    pub fn first_thread(pid: i32) -> nix::Result<Self> {
        let pid = Pid::from_raw(pid);
        ptrace::seize(pid, ptrace::Options::empty())?;
        let held = Self(pid);
        ptrace::interrupt(pid)?;
        waitpid(pid, Some(WaitPidFlag::__WALL))?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planks::process;

    #[test]
    fn a_held_process_does_nothing_and_goes_on_afterwards() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let held = Held::first_thread(pid).unwrap();
        assert!(process::is_stopped(pid));
        drop(held);
        drop(child.stdin.take()); // it reads the end, and ends
        assert!(child.wait().unwrap().success());
    }
}
