//! A booted host: Debian's systemd as the first process of a container with a network of its own, whose changes are gone
//! when it ends.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::failed;

/// How long a boot or a shutdown may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running container; ends with this value.
pub struct Guest {
    nspawn: Child,
    /// The systemd inside.
    init: i32,
}

impl Guest {
    /// Boots `tree`, with each of `shown` (here, there) seen inside, read-only; waits until all of its units are started.
    ///
    /// # Errors
    ///
    /// What systemd-nspawn said, or a boot that does not end.
    pub fn boot(tree: &Path, shown: &[(&Path, &str)]) -> Result<Self, String> {
        let mut nspawn = Command::new("systemd-nspawn");
        // No systemd or machined outside; a cgroup tree of the new kind inside, whatever this machine has.
        nspawn.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").args(["--keep-unit", "--register=no"]);
        nspawn.args(["--quiet", "--private-network", "--volatile=overlay", "--link-journal=no"]);
        nspawn.args(["--capability=all", "--system-call-filter=bpf @keyring perf_event_open"]);
        for (here, there) in shown {
            nspawn.arg(format!("--bind-ro={}:{there}", here.display()));
        }
        nspawn.arg("--hostname=mail.example.com").arg("-D").arg(tree).arg("--boot");
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).process_group(0);
        let nspawn = nspawn.spawn().map_err(|error| failed(&nspawn, error))?;
        let mut guest = Self { nspawn, init: 0 };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(Some(status)) = guest.nspawn.try_wait() {
                return Err(format!("systemd-nspawn: {status}"));
            }
            guest.init = guest.child().unwrap_or(0);
            let state = guest.run("systemctl is-system-running --wait");
            if guest.init > 0 && state.is_ok_and(|state| !state.contains("offline")) {
                return Ok(guest);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(format!("{} has not booted within {PATIENCE:?}", tree.display()))
    }

    /// What a shell script prints, on both its outputs; it runs to its end whatever the state of the system is.
    ///
    /// # Errors
    ///
    /// All that it printed, when it fails.
    pub fn run(&self, script: &str) -> Result<String, String> {
        let mut shell = Command::new("nsenter");
        let target = self.init.to_string();
        shell.args(["--target", &target, "--all", "--root", "--wd=/", "/bin/sh", "-ec"]);
        shell.arg(format!("exec 2>&1\n{script}")).stdin(Stdio::null());
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        shell.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        let output = shell.output().map_err(|error| format!("nsenter: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let more = String::from_utf8_lossy(&output.stderr);
        Err(format!("{script}\n{}: {said}{more}", output.status))
    }

    /// The only child of systemd-nspawn: the first process inside.
    fn child(&self) -> Option<i32> {
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // To systemd-nspawn this means: shut down in order.
        let _ = kill(Pid::from_raw(self.nspawn.id().cast_signed()), Signal::SIGTERM);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if !matches!(self.nspawn.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}
