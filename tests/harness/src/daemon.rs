//! One of our daemons under a stand-in for the service manager: it is started in the foreground, tells that it is
//! READY over `NOTIFY_SOCKET`, and is ended with its workers.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::log::PATIENCE;
use crate::{Log, binaries};

/// A running daemon of ours. Dropping it stops it and waits for it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    notify: UnixDatagram,
    pub log: Log,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `name` with these arguments and waits for READY. `directory` holds its notification socket.
    #[track_caller]
    pub fn start(name: &str, directory: &Path, arguments: &[&str]) -> Self {
        Self::start_with(name, directory, arguments, Log::default(), |_| {})
    }

    /// As [`Daemon::start`], with a log shared with others and a last word on the command (uid, environment).
    #[track_caller]
    pub fn start_with(
        name: &str,
        directory: &Path,
        arguments: &[&str],
        log: Log,
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        let daemon = Self::spawn(name, directory, arguments, log, adjust);
        daemon.wait_notify("READY=1");
        daemon
    }

    /// Starts a daemon that is expected not to become ready, and returns how it ended and what it said.
    #[track_caller]
    pub fn refused(name: &str, directory: &Path, arguments: &[&str]) -> (ExitStatus, String) {
        let log = Log::default();
        let mut daemon = Self::spawn(name, directory, arguments, log.clone(), |_| {});
        let status = daemon.wait_end();
        // The reader thread may still hold the last lines.
        log.wait_until("a reason", |lines| (!lines.is_empty()).then_some(()));
        (status, log.text())
    }

    fn spawn(
        name: &str,
        directory: &Path,
        arguments: &[&str],
        log: Log,
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(directory).unwrap();
        let number = crate::ports::free(); // any number that no other daemon of this machine has
        let path = directory.join(format!("notify-{number}"));
        let notify = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let mut command = Command::new(binaries::path(name));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
            .env("NOTIFY_SOCKET", &path)
            .env_remove("LISTEN_FDS")
            .env_remove("JOURNAL_STREAM")
            .env("THEORIS_LOG", "stderr");
        // A call that a worker needs and that its sandbox does not allow breaks the test, and is not missed.
        if std::env::var_os("THEORIS__SANDBOX").is_none() {
            command.env("THEORIS__SANDBOX", "kill");
        }
        adjust(&mut command);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        log.follow(child.stderr.take().unwrap());
        log.follow(child.stdout.take().unwrap());
        Self { name: name.to_owned(), child, notify, log, ended: None }
    }

    /// Waits until the daemon has sent a notification with this line.
    #[track_caller]
    pub fn wait_notify(&self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        self.notify.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            if let Ok(length) = self.notify.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == wanted)
            {
                return;
            }
            if let Ok(Some(_)) | Err(_) = nix::sys::wait::waitid(
                nix::sys::wait::Id::Pid(Pid::from_raw(self.child.id() as i32)),
                nix::sys::wait::WaitPidFlag::WEXITED
                    | nix::sys::wait::WaitPidFlag::WNOWAIT
                    | nix::sys::wait::WaitPidFlag::WNOHANG,
            )
            .map(|status| (status != nix::sys::wait::WaitStatus::StillAlive).then_some(status))
            {
                std::thread::sleep(Duration::from_millis(100));
                panic!("{} ended before {wanted}; it said:\n{}", self.name, self.log.text());
            }
        }
        panic!(
            "{} did not say {wanted} within {PATIENCE:?}; it said:\n{}",
            self.name,
            self.log.text()
        );
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The worker processes: every process whose parent is the supervisor.
    pub fn workers(&self) -> Vec<i32> {
        let mut workers = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let parent = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
            if parent == Some(self.pid()) {
                workers.push(pid);
            }
        }
        workers
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Sends SIGHUP and waits for RELOADING and READY.
    #[track_caller]
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
        self.wait_notify("RELOADING=1");
        self.wait_notify("READY=1");
    }

    /// Kills the supervisor with SIGKILL and waits until its workers are gone too.
    #[track_caller]
    pub fn kill(&mut self) {
        let workers = self.workers();
        self.signal(Signal::SIGKILL);
        self.wait_end();
        crate::log::eventually("the workers of a killed supervisor to end", || {
            workers.iter().all(|pid| kill(Pid::from_raw(*pid), None).is_err()).then_some(())
        });
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        if self.ended.is_none() {
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        }
        self.wait_end()
    }

    /// Waits for an end that has been asked for; a second SIGTERM would be one at once.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.ended = Some(status);
                return status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                panic!(
                    "{} did not end within {PATIENCE:?}; it said:\n{}",
                    self.name,
                    self.log.text()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
