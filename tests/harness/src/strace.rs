//! System calls of a running daemon, to assert their order (durability cannot be seen from outside).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::log::eventually;

/// strace attached to processes; its record is complete after [`Strace::finish`].
#[derive(Debug)]
pub struct Strace {
    child: Child,
    output: PathBuf,
}

impl Strace {
    /// Attaches to these processes and their children, recording `calls` (strace's -e trace= list).
    #[track_caller]
    pub fn attach(pids: &[i32], calls: &str, output: &Path) -> Self {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-tt", "-y", "-s", "200", "-e", &format!("trace={calls}"), "-o"])
            .arg(output);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        attached(pids);
        Self { child, output: output.to_owned() }
    }

    /// Detaches and returns the record.
    pub fn finish(mut self) -> String {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT);
        let _ = self.child.wait();
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }
}

/// Waits until a tracer has every thread of these processes: it takes them one by one.
#[track_caller]
pub fn attached(pids: &[i32]) {
    let traced = |thread: std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("status")).is_ok_and(|status| {
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        })
    };
    let whole = |pid: &i32| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        threads.is_ok_and(|mut threads| threads.all(|thread| thread.is_ok_and(traced)))
    };
    eventually("strace to attach", || pids.iter().all(whole).then_some(()));
}
