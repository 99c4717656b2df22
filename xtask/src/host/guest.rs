//! A booted host: Debian's systemd as the first process of a container with a network of its own. Its changes last until
//! it ends, over its reboots, and are gone then.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::run::{Done, command, failed, must};

/// How long a boot or a shutdown may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How systemd-nspawn names the first process inside.
const LEADER: &str = "X_NSPAWN_LEADER_PID=";

/// A host, booted; ends with this value. Everything that it mounts is in a mount namespace of ours alone.
pub struct Guest {
    directory: PathBuf,
    shown: Vec<(PathBuf, String)>,
    running: Option<Running>,
}

struct Running {
    nspawn: Child,
    ended: OwnedFd,
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
        let name = format!("theoris-host-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let text = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(&directory).map_err(text)?;
        must(command("mount").args(["-t", "tmpfs", "theoris-host"]).arg(&directory))?;
        for part in ["changes", "work", "root"] {
            fs::create_dir(directory.join(part)).map_err(text)?;
        }
        let (changes, work) = (directory.join("changes"), directory.join("work"));
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            tree.display(),
            changes.display(),
            work.display()
        );
        let mut overlay = command("mount");
        overlay.args(["-t", "overlay", "-o", &layers, "theoris-host"]).arg(directory.join("root"));
        must(&mut overlay)?;
        let shown =
            shown.iter().map(|(here, there)| (here.to_path_buf(), (*there).to_owned())).collect();
        let mut guest = Self { directory, shown, running: None };
        guest.start()?;
        Ok(guest)
    }

    /// Shuts it down in order and boots it again, on the same files.
    ///
    /// # Errors
    ///
    /// As [`Self::boot`].
    pub fn reboot(&mut self) -> Done {
        self.stop();
        self.start()
    }

    fn start(&mut self) -> Done {
        let address = self.directory.join("notify");
        let _ = fs::remove_file(&address);
        let news = UnixDatagram::bind(&address).map_err(|error| error.to_string())?;
        let mut nspawn = Command::new("systemd-nspawn");
        // No systemd or machined outside; a cgroup tree of the new kind inside, whatever this machine has.
        nspawn.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").args(["--keep-unit", "--register=no"]);
        nspawn.args(["--quiet", "--private-network", "--link-journal=no", "--notify-ready=yes"]);
        nspawn.args(["--capability=all", "--system-call-filter=bpf @keyring perf_event_open"]);
        for (here, there) in &self.shown {
            nspawn.arg(format!("--bind-ro={}:{there}", here.display()));
        }
        // A name of its own: two runs share nothing.
        nspawn.arg(format!("--machine=theoris-host-{}", std::process::id()));
        nspawn.arg("--hostname=mail.example.com").arg("-D").arg(self.directory.join("root"));
        nspawn.arg("--boot").env("NOTIFY_SOCKET", &address).process_group(0);
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = nspawn.spawn().map_err(|error| failed(&nspawn, error))?;
        let pid = rustix::process::Pid::from_child(&child);
        let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
        let running = self.running.insert(Running { nspawn: child, ended, init: 0 });
        running.wait_for_boot(&news)?;
        // The last of its jobs: the units that start when the rest is there.
        let state = self.run("systemctl is-system-running --wait || true")?;
        if state.contains("offline") { Err(state) } else { Ok(()) }
    }

    /// What a shell script prints, on both its outputs; it runs to its end whatever the state of the system is.
    ///
    /// # Errors
    ///
    /// All that it printed, when it fails.
    pub fn run(&self, script: &str) -> Result<String, String> {
        let init = self.running.as_ref().map_or(0, |running| running.init);
        let mut shell = Command::new("nsenter");
        let target = init.to_string();
        shell.args(["--target", &target, "--all", "--root", "--wdns=/", "/bin/sh", "-ec"]);
        shell.arg(format!("cd /; exec 2>&1\n{script}")).stdin(Stdio::null());
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        shell.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        shell.env("DEBIAN_FRONTEND", "noninteractive");
        let output = shell.output().map_err(|error| format!("nsenter: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let more = String::from_utf8_lossy(&output.stderr);
        Err(format!("{script}\n{}: {said}{more}", output.status))
    }

    fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // To systemd-nspawn this means: shut down in order.
        let _ = kill(Pid::from_raw(running.nspawn.id().cast_signed()), Signal::SIGTERM);
        if !matches!(ready(&[&running.ended], PATIENCE), Ok(found) if found[0]) {
            let _ = running.nspawn.kill();
        }
        let _ = running.nspawn.wait();
    }
}

impl Running {
    /// systemd-nspawn tells who the first process inside is, and passes on that it has booted.
    fn wait_for_boot(&mut self, news: &UnixDatagram) -> Done {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let found = ready(&[&self.ended, news], left)?;
            if found[0] {
                let status = self.nspawn.wait().map_err(|error| error.to_string())?;
                return Err(format!("systemd-nspawn: {status}"));
            }
            if !found[1] {
                return Err(format!("not booted within {PATIENCE:?}"));
            }
            let length = news.recv(&mut buffer).map_err(|error| error.to_string())?;
            let told = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            for line in told.lines() {
                if let Some(pid) = line.strip_prefix(LEADER).and_then(|pid| pid.parse().ok()) {
                    self.init = pid;
                }
            }
            if self.init > 0 && told.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        }
    }
}

/// Which of these have something to read, as soon as one has; none after the limit.
fn ready(of: &[&dyn std::os::fd::AsFd], limit: Duration) -> Result<Vec<bool>, String> {
    let mut wanted: Vec<PollFd<'_>> =
        of.iter().map(|one| PollFd::from_borrowed_fd(one.as_fd(), PollFlags::IN)).collect();
    let limit = Timespec::try_from(limit).map_err(|error| error.to_string())?;
    match poll(&mut wanted, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(wanted.iter().map(|one| !one.revents().is_empty()).collect())
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
        for mounted in [self.directory.join("root"), self.directory.clone()] {
            let _ = command("umount").arg(mounted).status();
        }
        let _ = fs::remove_dir(&self.directory);
    }
}
