//! Who starts and stops services: systemd on a host. Behind a trait, so that nothing else here knows a unit.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Mishap, rewrite};

/// Longer than a start or a stop may take, no question takes.
const QUESTION: Duration = Duration::from_secs(5);
/// What is started at boot: Debian asks update-rc.d too, for a unit that has an init script.
const BOOT_LIMIT: Duration = Duration::from_secs(30);
/// A plank that has not started by then is rolled back.
pub const START_LIMIT: Duration = Duration::from_secs(6);
/// A supervisor gives its connections ten seconds, then a little mercy.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Between two looks at a unit that is about to start or to stop.
const BETWEEN: Duration = Duration::from_millis(100);

/// The service manager of the host.
pub trait Services {
    /// Why one of our daemons cannot be started here at all.
    ///
    /// # Errors
    ///
    /// That reason.
    fn prepared(&mut self, daemon: &str) -> Result<(), Mishap>;

    /// Starts one of our daemons, waits until it says that it is ready, and starts it at each boot.
    ///
    /// # Errors
    ///
    /// What it said instead.
    fn start(&mut self, daemon: &str) -> Result<(), Mishap>;

    /// Stops one of our daemons, also at boot. One that does not run is no error.
    ///
    /// # Errors
    ///
    /// If it cannot be stopped.
    fn stop(&mut self, daemon: &str) -> Result<(), Mishap>;

    /// Asks one of our daemons to stop: it closes its ports at once, and ends what it has begun.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn begin_stop(&mut self, daemon: &str) -> Result<(), Mishap>;

    /// The process of one of our daemons.
    fn process(&mut self, daemon: &str) -> Option<i32>;

    /// Whether one of our daemons has said that it is ready. Before that a signal may end it.
    fn is_ready(&mut self, daemon: &str) -> bool;

    /// The process of an original.
    fn original(&mut self, unit: &str) -> Option<i32>;

    /// Ends an original that serves nobody any more: at once, without its last deeds (OpenDKIM would remove our
    /// socket), and keeps its runtime directory. It does not come back at boot.
    ///
    /// # Errors
    ///
    /// If it cannot be ended.
    fn end_original(&mut self, unit: &str) -> Result<(), Mishap>;

    /// What can be done for the start of an original while ours still serves: the gap is shorter.
    ///
    /// # Errors
    ///
    /// If the drop-in cannot be taken away.
    fn prepare_original(&mut self, unit: &str) -> Result<(), Mishap>;

    /// Starts an original, at boot too if it was so before.
    ///
    /// # Errors
    ///
    /// What it said instead.
    fn start_original(&mut self, unit: &str) -> Result<(), Mishap>;

    /// Starts an original again that has failed, as one does whose port was ours when it started; tells whether it had.
    /// One that somebody has stopped stays so.
    ///
    /// # Errors
    ///
    /// What it said when it was started.
    fn revive(&mut self, unit: &str) -> Result<bool, Mishap>;

    /// Has the guard run, also after a boot, or not run any more.
    ///
    /// # Errors
    ///
    /// If it cannot be started or stopped.
    fn guard(&mut self, wanted: bool) -> Result<(), Mishap>;

    /// The same, with the listening socket that waits at `offer`: this one time `theoris with-socket` starts it.
    ///
    /// # Errors
    ///
    /// What it said instead, or that its command cannot be put behind another.
    fn start_original_with(&mut self, unit: &str, offer: &Path) -> Result<(), Mishap>;
}

/// systemd, by systemctl.
#[derive(Clone, Debug)]
pub struct Systemd {
    /// Where drop-ins of the running system stand.
    pub units: PathBuf,
    /// What stands here survives a reboot.
    pub state: PathBuf,
}

const DROP_IN: &str = "50-theoris.conf";
/// For one start, with a socket of ours.
const HANDED: &str = "60-theoris-handed.conf";
/// What makes a stop leave our socket where it is.
const ENDING: &str = "# Written by theoris adopt; theoris release takes it away.\n[Service]\nRestart=no\nKillSignal=SIGKILL\nRuntimeDirectoryPreserve=yes\n";
/// The end of a note's name: the original was started at boot.
const ENABLED: &str = "was-enabled";
const GUARD: &str = "theoris-guard.service";

impl Systemd {
    fn drop_in(&self, unit: &str, name: &str) -> PathBuf {
        self.units.join(format!("{unit}.d")).join(name)
    }

    fn note(&self, unit: &str) -> PathBuf {
        self.state.join(format!("{unit}.{ENABLED}"))
    }

    fn property(unit: &str, name: &str) -> Option<String> {
        let words = ["show", "--property", name, "--value", unit];
        systemctl(&words, QUESTION).ok().map(|text| text.trim().to_owned())
    }

    fn pid(unit: &str) -> Option<i32> {
        Self::property(unit, "MainPID")?.parse().ok().filter(|pid| *pid > 0)
    }
}

/// The unit of one of our daemons.
pub fn unit(daemon: &str) -> String {
    format!("theoris-{daemon}.service")
}

impl Services for Systemd {
    fn prepared(&mut self, daemon: &str) -> Result<(), Mishap> {
        let unit = unit(daemon);
        match Self::property(&unit, "LoadState").as_deref() {
            Some("loaded") => Ok(()),
            Some(_) => Err(Mishap(format!("{unit} is not installed; install the package of {daemon}"))),
            None => Err(Mishap("systemd does not answer: planks are swapped under systemd only; in a container run the daemons in the foreground".into())),
        }
    }

    fn start(&mut self, daemon: &str) -> Result<(), Mishap> {
        let unit = unit(daemon);
        let started = systemctl(&["start", &unit], START_LIMIT)
            .and_then(|_| systemctl(&["enable", &unit], BOOT_LIMIT));
        started.map(drop).map_err(|why| {
            let told = last_lines(&unit);
            Mishap(format!(
                "{unit} does not start: {}",
                if told.is_empty() { &why.0 } else { &told }
            ))
        })
    }

    fn stop(&mut self, daemon: &str) -> Result<(), Mishap> {
        let unit = unit(daemon);
        systemctl(&["disable", &unit], BOOT_LIMIT).ok();
        systemctl(&["stop", &unit], STOP_LIMIT)?;
        systemctl(&["reset-failed", &unit], QUESTION).ok();
        Ok(())
    }

    fn begin_stop(&mut self, daemon: &str) -> Result<(), Mishap> {
        systemctl(&["stop", "--no-block", &unit(daemon)], QUESTION).map(drop)
    }

    fn process(&mut self, daemon: &str) -> Option<i32> {
        Self::pid(&unit(daemon))
    }

    fn is_ready(&mut self, daemon: &str) -> bool {
        let state = Self::property(&unit(daemon), "ActiveState").unwrap_or_default();
        matches!(state.as_str(), "active" | "reloading")
    }

    fn original(&mut self, unit: &str) -> Option<i32> {
        Self::pid(unit)
    }

    fn end_original(&mut self, unit: &str) -> Result<(), Mishap> {
        let path = self.drop_in(unit, DROP_IN);
        let failed = |error: std::io::Error| Mishap::file(&path, &error);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        rewrite::replace(&path, ENDING.as_bytes()).map_err(failed)?;
        systemctl(&["daemon-reload"], START_LIMIT)?;
        systemctl(&["stop", unit], STOP_LIMIT)?;
        systemctl(&["reset-failed", unit], QUESTION).ok();
        // Not before: somebody may wait for the original to be ended.
        if systemctl(&["is-enabled", unit], QUESTION).is_ok_and(|said| said.trim() == "enabled") {
            let note = self.note(unit);
            std::fs::write(&note, "").map_err(|error| Mishap::file(&note, &error))?;
            systemctl(&["disable", unit], BOOT_LIMIT)?;
        }
        Ok(())
    }

    fn prepare_original(&mut self, unit: &str) -> Result<(), Mishap> {
        let ours = [DROP_IN, HANDED].map(|name| self.drop_in(unit, name));
        let ours: Vec<&PathBuf> = ours.iter().filter(|path| path.exists()).collect();
        for path in &ours {
            rewrite::remove(path).map_err(|error| Mishap::file(path, &error))?;
        }
        if !ours.is_empty() {
            systemctl(&["daemon-reload"], START_LIMIT)?;
        }
        Ok(())
    }

    fn start_original(&mut self, unit: &str) -> Result<(), Mishap> {
        let note = self.note(unit);
        systemctl(&["start", unit], START_LIMIT)?;
        if note.exists() {
            systemctl(&["enable", unit], BOOT_LIMIT)?;
            rewrite::remove(&note).map_err(|error| Mishap::file(&note, &error))?;
        }
        Ok(())
    }

    fn revive(&mut self, unit: &str) -> Result<bool, Mishap> {
        let begin = Instant::now();
        loop {
            match Self::property(unit, "ActiveState").as_deref() {
                Some("activating" | "deactivating") if begin.elapsed() < START_LIMIT => {
                    std::thread::sleep(BETWEEN);
                }
                Some("failed") => {
                    return systemctl(&["start", unit], START_LIMIT).map(|_| true);
                }
                _ => return Ok(false),
            }
        }
    }

    fn guard(&mut self, wanted: bool) -> Result<(), Mishap> {
        if Self::property(GUARD, "LoadState").is_none_or(|state| state != "loaded") {
            return Err(Mishap(format!(
                "{GUARD} is not installed: nothing watches what is adopted"
            )));
        }
        let verb = if wanted { "enable" } else { "disable" };
        systemctl(&[verb, "--now", GUARD], START_LIMIT).map(drop)
    }

    fn start_original_with(&mut self, unit: &str, offer: &Path) -> Result<(), Mishap> {
        let path = self.drop_in(unit, HANDED);
        let failed = |error: std::io::Error| Mishap::file(&path, &error);
        let shown = Self::property(unit, "ExecStart").unwrap_or_default();
        let command = command_of(&shown)
            .ok_or_else(|| Mishap(format!("{unit}: {shown}: cannot be put behind another")))?;
        let theoris = std::env::current_exe().map_err(failed)?;
        let (theoris, offer) = (theoris.display(), offer.display());
        let text =
            format!("[Service]\nExecStart=\nExecStart={theoris} with-socket {offer} {command}\n");
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        rewrite::replace(&path, text.as_bytes()).map_err(failed)?;
        let started =
            systemctl(&["daemon-reload"], START_LIMIT).and_then(|_| self.start_original(unit));
        // Whatever starts it next starts it as ever.
        rewrite::remove(&path).map_err(failed)?;
        systemctl(&["daemon-reload"], START_LIMIT)?;
        if started.is_err() {
            systemctl(&["stop", unit], STOP_LIMIT).ok();
            systemctl(&["reset-failed", unit], QUESTION).ok();
        }
        started
    }
}

/// The one command of `ExecStart` as systemctl shows it, ready to stand in a unit again; none with words that would have
/// to be quoted.
fn command_of(shown: &str) -> Option<String> {
    let (_, rest) = shown.split_once("argv[]=")?;
    let (command, rest) = rest.split_once(" ;")?;
    let plain = !command.contains(['"', '\'', '\\', ';', '\n']) && !rest.contains("argv[]=");
    plain.then(|| command.trim().replace('%', "%%"))
}

/// The last words of a unit that did not start.
fn last_lines(unit: &str) -> String {
    let words = ["--no-pager", "--quiet", "-o", "cat", "-n", "3", "-u", unit];
    let said = run(Command::new("journalctl").args(words), QUESTION).unwrap_or_default();
    said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

fn systemctl(words: &[&str], limit: Duration) -> Result<String, Mishap> {
    run(Command::new("systemctl").args(words), limit)
}

/// Runs a program to its end, or ends it.
///
/// # Errors
///
/// What it said, or that it took too long.
pub fn run(command: &mut Command, limit: Duration) -> Result<String, Mishap> {
    let name = format!("{command:?}").replace('"', "");
    let failed = |error: std::io::Error| Mishap(format!("{name}: {error}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |source: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(source) = source {
                let _ = source.take(1 << 20).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(out.map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>));
    let err = read(err.map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>));
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() >= end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Mishap(format!("{name}: not done after {} s", limit.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if status.success() {
        return Ok(out.join().unwrap_or_default());
    }
    let said = err.join().unwrap_or_default();
    let said = said.lines().map(str::trim).collect::<Vec<_>>().join(" | ");
    Err(Mishap(format!("{name}: {}", if said.is_empty() { status.to_string() } else { said })))
}

#[test]
fn a_command_is_taken_from_what_systemd_shows() {
    let shown = "{ path=/usr/sbin/opendkim ; argv[]=/usr/sbin/opendkim -x /etc/a%b ; ignore_errors=no ; pid=0 }";
    assert_eq!(command_of(shown).as_deref(), Some("/usr/sbin/opendkim -x /etc/a%%b"));
    assert_eq!(command_of("{ path=/bin/sh ; argv[]=/bin/sh -c \"a\" ; pid=0 }"), None);
    assert_eq!(command_of(&format!("{shown} {shown}")), None);
    assert_eq!(command_of(""), None);
}
