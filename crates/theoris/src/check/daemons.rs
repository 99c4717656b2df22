//! Asking a program, with bounded patience and a bounded answer.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use config::Problem;

use crate::command::paths::Paths;
use crate::plank::Plank;

/// How long a daemon may take to read its configuration.
const PATIENCE: Duration = Duration::from_secs(30);
const LARGEST_ANSWER: u64 = 4 << 20;
/// sysexits: the configuration is wrong.
const CONFIGURATION: i32 = 78;

/// How a program answered.
pub enum Answer {
    Ended {
        code: Option<i32>,
        out: Vec<u8>,
        said: String,
    },
    /// It could not be started.
    Missing(String),
    TooLong,
}

/// Runs a program up to its end, or ends it.
pub fn ask(mut command: Command, patience: Duration) -> Answer {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Answer::Missing(crate::classic::why(&error)),
    };
    let (out, said) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let end = Instant::now() + patience;
    let text = |source: mpsc::Receiver<Vec<u8>>| {
        source.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
    };
    let (Some(out), Some(said)) = (text(out), text(said)) else {
        let _ = child.kill();
        let _ = child.wait();
        return Answer::TooLong;
    };
    match child.wait() {
        Ok(status) => Answer::Ended {
            code: status.code(),
            out,
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        },
        Err(error) => Answer::Missing(crate::classic::why(&error)),
    }
}

/// Everything a pipe brings up to its end, from a thread of its own; what is over the bound is read and left.
fn collect(source: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut content = Vec::new();
        if let Some(mut source) = source {
            let _ = source.by_ref().take(LARGEST_ANSWER).read_to_end(&mut content);
            let _ = std::io::copy(&mut source, &mut std::io::sink());
        }
        let _ = sender.send(content);
    });
    receiver
}

/// What the daemon of a plank says of the host's files.
pub enum Verdict {
    Problems(Vec<Problem>),
    /// Not installed, with its path and why it could not be started.
    NotInstalled(String),
    /// It did not answer as a daemon of ours does.
    Broken(String),
}

/// The host's files that are there.
#[derive(Clone, Copy, Debug)]
pub struct Here<'h> {
    pub paths: &'h Paths,
    pub postfix: bool,
    pub dovecot: bool,
}

/// `DAEMON --check --json` on the host's files.
pub fn check(here: &Here<'_>, plank: Plank) -> Verdict {
    let program = here.paths.daemons.join(plank.daemon());
    let mut command = Command::new(&program);
    command.args(["--check", "--json"]).args(arguments(here, plank));
    let broken = |why: String| Verdict::Broken(format!("{} --check: {why}", program.display()));
    match ask(command, PATIENCE) {
        Answer::Missing(why) => Verdict::NotInstalled(format!("{}: {why}", program.display())),
        Answer::TooLong => broken(format!("no answer within {} s", PATIENCE.as_secs())),
        Answer::Ended { code: Some(0 | CONFIGURATION), out, .. } => {
            match serde_json::from_slice(&out) {
                Ok(problems) => Verdict::Problems(problems),
                Err(error) => broken(format!("its answer cannot be read: {error}")),
            }
        }
        Answer::Ended { code, said, .. } => {
            let code = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
            broken(format!("{code}: {said}"))
        }
    }
}

/// The files that a daemon reads on this host.
fn arguments(here: &Here<'_>, plank: Plank) -> Vec<String> {
    let paths = here.paths;
    let file = |option: &str, path: &Path| [option.to_owned(), path.display().to_string()];
    let mut words = Vec::new();
    match plank {
        Plank::Dkim => words.extend(file("-x", &paths.opendkim.path)),
        Plank::Auth | Plank::Pop3 | Plank::Imap => words.extend(file("-c", &paths.dovecot.path)),
        Plank::SmtpOut | Plank::SmtpIn | Plank::Queue => {
            words.extend(file("-c", &paths.postfix.path))
        }
        Plank::Mda => {
            words.extend(file("-c", &paths.postfix.path).into_iter().filter(|_| here.postfix));
            words.extend(
                file("--dovecot", &paths.dovecot.path).into_iter().filter(|_| here.dovecot),
            );
        }
    }
    if paths.theoris.by_operator {
        words.extend(file("--theoris", &paths.theoris.path));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut sleeps = Command::new("sleep");
        sleeps.arg("1000");
        let began = Instant::now();
        assert!(matches!(ask(sleeps, Duration::from_millis(50)), Answer::TooLong));
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(matches!(ask(Command::new("/none"), PATIENCE), Answer::Missing(_)));
        let mut says = Command::new("sh");
        says.args(["-c", "echo out; echo err >&2; exit 3"]);
        let Answer::Ended { code, out, said } = ask(says, PATIENCE) else { unreachable!() };
        assert_eq!((code, out.as_slice(), said.as_str()), (Some(3), &b"out\n"[..], "err"));
    }
}
