//! A service manager played by a stand-in for systemctl: what `theoris adopt` calls runs private units.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Scratch, binaries};

const SYSTEMCTL: &str = include_str!("systemctl.py");

/// Units below a private directory. Dropping it ends what runs.
#[derive(Debug)]
pub struct Services {
    root: PathBuf,
    units: Vec<String>,
}

impl Services {
    #[track_caller]
    pub fn lay(scratch: &Scratch) -> Self {
        let root = scratch.directory("systemd");
        let program = scratch.write("systemd/systemctl", SYSTEMCTL);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        scratch.directory("systemd/units");
        Self { root, units: Vec::new() }
    }

    /// A unit of an original, which says nothing when it is ready.
    pub fn original(&mut self, unit: &str, command: &[&str]) {
        self.unit(unit, command, false);
    }

    /// The unit of one of our daemons.
    pub fn ours(&mut self, daemon: &str, arguments: &[&str]) {
        let program = binaries::path(daemon).display().to_string();
        let command: Vec<&str> =
            std::iter::once(program.as_str()).chain(arguments.iter().copied()).collect();
        self.unit(&format!("theoris-{daemon}.service"), &command, true);
    }

    fn unit(&mut self, unit: &str, command: &[&str], notifies: bool) {
        let described = serde_json::json!({
            "command": command,
            "notifies": notifies,
            "environment": { "THEORIS_LOG": "stderr", "THEORIS__SANDBOX": "kill" },
        });
        fs::write(self.root.join(format!("{unit}.json")), described.to_string()).unwrap();
        self.units.push(unit.to_owned());
    }

    /// What a unit's `RuntimeDirectory=` is: gone when it stops, unless a drop-in says that it is kept.
    #[track_caller]
    pub fn runtime_directory(&self, unit: &str, directory: &Path) {
        let path = self.root.join(format!("{unit}.json"));
        let mut described: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        described["runtime_directory"] = directory.display().to_string().into();
        fs::write(path, described.to_string()).unwrap();
    }

    /// Makes a unit fail at its next start.
    pub fn break_unit(&self, daemon: &str) {
        let described = serde_json::json!({ "command": ["/bin/false"], "notifies": true });
        let path = self.root.join(format!("theoris-{daemon}.service.json"));
        fs::write(path, described.to_string()).unwrap();
    }

    /// Where drop-ins go: `--units`.
    pub fn drop_ins(&self) -> PathBuf {
        self.root.join("units")
    }

    /// The process of a unit.
    pub fn pid(&self, unit: &str) -> Option<i32> {
        let text = fs::read_to_string(self.root.join(format!("{unit}.pid"))).ok()?;
        let pid = text.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }

    /// Everything that a unit has said.
    pub fn said(&self, unit: &str) -> String {
        fs::read_to_string(self.root.join(format!("{unit}.log"))).unwrap_or_default()
    }

    pub fn is_enabled(&self, unit: &str) -> bool {
        self.root.join(format!("{unit}.enabled")).exists()
    }

    #[track_caller]
    pub fn systemctl(&self, words: &[&str]) {
        let done = Command::new(self.root.join("systemctl")).args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// `theoris` under this service manager.
    pub fn theoris(&self) -> Command {
        let mut command = Command::new(binaries::path("theoris"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.root.display()));
        command
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for unit in &self.units {
            let Some(pid) = self.pid(unit) else { continue };
            for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            if !ends(pid, crate::log::PATIENCE) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Waits for the end of a process, whoever its parent is.
fn ends(pid: i32, limit: std::time::Duration) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let mut wanted = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec::try_from(limit).unwrap();
    matches!(poll(&mut wanted, Some(&limit)), Ok(1..))
}

/// Whether a process lives; one that only waits to be reaped does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|text| text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

/// What a finished program said, both streams.
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
