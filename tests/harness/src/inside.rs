//! System calls that another process makes on a test's behalf. What its sandbox refuses is refused by the kernel, to
//! that very process, as it stands: nothing has to be built into it for that.
#![cfg(target_arch = "x86_64")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::libc::{c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// `syscall`
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];
/// Below what the process may use without moving its stack pointer.
const BELOW: u64 = 1024;

/// A process that waits in a system call and makes others meanwhile. It goes on when this is dropped.
#[derive(Debug)]
pub struct Inside {
    pid: Pid,
    before: user_regs_struct,
    memory: File,
}

impl Inside {
    /// Nothing if the process ends, or does not wait in a system call.
    pub fn of(pid: i32) -> Option<Self> {
        let process = Pid::from_raw(pid);
        let memory =
            OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
        ptrace::attach(process).ok()?;
        stopped(process)?;
        let before = ptrace::getregs(process).ok()?;
        let mut instruction = [0; 2];
        let known = memory.read_exact_at(&mut instruction, before.rip - 2).is_ok();
        let inside = Self { pid: process, before, memory };
        (known && instruction == INSTRUCTION).then_some(inside)
    }

    /// Puts a text, ended by NUL, where the process can read it: its address.
    #[track_caller]
    pub fn text(&self, text: &str) -> u64 {
        let address = self.before.rsp - BELOW;
        self.memory.write_all_at(&[text.as_bytes(), b"\0"].concat(), address).unwrap();
        address
    }

    /// Lets it make one call.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    #[track_caller]
    pub fn call(&self, number: c_long, arguments: &[u64]) -> Result<u64, Errno> {
        let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
        let mut registers = self.before;
        registers.rip = self.before.rip - 2;
        registers.rax = number.cast_unsigned();
        // No call is interrupted, so none is to be begun again.
        registers.orig_rax = u64::MAX;
        (registers.rdi, registers.rsi, registers.rdx) = (argument(0), argument(1), argument(2));
        (registers.r10, registers.r8, registers.r9) = (argument(3), argument(4), argument(5));
        ptrace::setregs(self.pid, registers).unwrap();
        // A signal that comes meanwhile stops it before the step.
        loop {
            ptrace::step(self.pid, None).unwrap();
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => break,
                Ok(WaitStatus::Stopped(..)) => {}
                other => panic!("the process ended in a system call: {other:?}"),
            }
        }
        let result = ptrace::getregs(self.pid).unwrap().rax.cast_signed();
        match i32::try_from(result) {
            Ok(code @ -4095..0) => Err(Errno::from_raw(-code)),
            _ => Ok(result.cast_unsigned()),
        }
    }
}

fn stopped(pid: Pid) -> Option<()> {
    let stopped = waitpid(pid, Some(WaitPidFlag::__WALL)).ok()?;
    matches!(stopped, WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..)).then_some(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = ptrace::setregs(self.pid, self.before);
        let _ = ptrace::detach(self.pid, None);
    }
}
