//! Asking the running daemons over their control sockets.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: u64 = 8 << 20;

/// What a daemon answers to `status`, as far as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct State {
    version: String,
    pid: u32,
    generation: u64,
    workers: Vec<Worker>,
    certificates: Vec<Certificate>,
    problems: Vec<config::Problem>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Worker {
    state: String,
    seconds: u64,
}

/// A certificate as the daemon has it in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    pub file: std::path::PathBuf,
    /// Seconds since the epoch.
    pub not_after: i64,
}

/// A daemon that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Running {
    pub version: String,
    pub pid: u32,
    /// Reloads since it was started.
    pub reloads: u64,
    /// Seconds since its oldest worker was started.
    pub seconds: u64,
    pub workers: usize,
    /// Workers that are not ready yet.
    pub starting: usize,
    pub connections_open: u64,
    pub connections_total: u64,
    #[serde(skip)]
    pub certificates: Vec<Certificate>,
    /// What it had to say of its configuration at its last start or reload.
    #[serde(skip)]
    pub problems: Vec<config::Problem>,
}

/// Whether a daemon answers.
#[derive(Debug)]
pub enum Answer {
    Running(Box<Running>),
    /// There is no socket, or nobody behind it.
    Silent,
    /// Something is there, and it does not answer as a daemon of ours.
    Odd(String),
}

/// Asks the daemon behind `socket`.
pub fn ask(socket: &Path) -> Answer {
    let state = match question(socket, "status") {
        Ok(text) => text,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Answer::Silent,
                _ => Answer::Odd(format!("{}: {}", socket.display(), crate::classic::why(&error))),
            };
        }
    };
    let state: State = match serde_json::from_str(&state) {
        Ok(state) => state,
        Err(_) if state.is_empty() => {
            return Answer::Odd(format!("{} does not answer: run this as root", socket.display()));
        }
        Err(error) => {
            return Answer::Odd(format!(
                "{}: its answer cannot be read: {error}",
                socket.display()
            ));
        }
    };
    let metrics = question(socket, "metrics").unwrap_or_default();
    let sums = sums(&metrics);
    let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
    Answer::Running(Box::new(Running {
        version: state.version,
        pid: state.pid,
        reloads: state.generation.saturating_sub(1),
        seconds: state.workers.iter().map(|worker| worker.seconds).max().unwrap_or(0),
        workers: state.workers.len(),
        starting: state.workers.iter().filter(|worker| worker.state == "starting").count(),
        connections_open: sum("connections_open"),
        connections_total: sum("connections_total"),
        certificates: state.certificates,
        problems: state.problems,
    }))
}

fn question(socket: &Path, words: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{words}\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// The sums of `theoris_smtpd_connections_open{role="…"} 3` over all labels, by the name behind the daemon's.
fn sums(metrics: &str) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or_default();
        // The control worker's own connections are ours.
        let own = series.contains("role=\"control\"");
        for known in ["connections_open", "connections_total"] {
            if name.ends_with(known) && !own {
                *sums.entry(known).or_insert(0) += value.parse::<u64>().unwrap_or(0);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_daemon_is_asked_for_its_state_and_its_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smtpd.control");
        assert!(matches!(ask(&path), Answer::Silent));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [
                r#"{"daemon":"smtpd","version":"0.1.0","pid":7,"generation":3,"workers":[{"role":"smtpd","pid":8,"generation":3,"state":"ready","seconds":90}],"listeners":[],"certificates":[{"tls":"smtp","file":"/c","subject":"x","not_after":5}],"problems":[]}"#,
                "# HELP x\ntheoris_smtpd_connections_open{role=\"smtpd\"} 3\ntheoris_smtpd_connections_open{role=\"control\"} 1\ntheoris_smtpd_connections_total{role=\"smtpd\"} 40\n",
                "nonsense",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 8];
                let _ = stream.read(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let Answer::Running(running) = ask(&path) else { unreachable!() };
        assert_eq!(
            (running.version.as_str(), running.pid, running.reloads, running.seconds),
            ("0.1.0", 7, 2, 90)
        );
        assert_eq!(
            (running.connections_open, running.connections_total, running.workers),
            (3, 40, 1)
        );
        assert_eq!(running.certificates, [Certificate { file: "/c".into(), not_after: 5 }]);
        assert!(matches!(ask(&path), Answer::Odd(_)));
        server.join().unwrap();
        assert!(matches!(ask(&path), Answer::Silent), "nobody is behind the socket any more");
    }
}
