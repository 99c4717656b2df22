//! What a daemon writes on its standard error, line by line, to wait on and to look through.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long anything in a test may take before the test says what it waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One line and when it was read.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: std::time::SystemTime,
    pub text: String,
}

/// A growing log; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Vec<Line>>, Condvar)>);

impl Log {
    /// Starts a thread that reads `source` to its end. Several sources may feed one log.
    pub fn follow(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || log.read_all(source));
    }

    fn read_all(&self, source: impl Read) {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
            self.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    }

    /// Reads a log file from its start, and what is added, as long as process `pid` lives.
    pub fn follow_file(&self, path: &Path, pid: i32) {
        let mut tail = Command::new("tail");
        tail.args(["-n", "+1", "-F", "--pid", &pid.to_string()]).arg(path);
        let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let source = tail.stdout.take().unwrap();
        let log = self.clone();
        std::thread::spawn(move || {
            log.read_all(source);
            let _ = tail.wait();
        });
    }

    pub fn push(&self, text: String) {
        if std::env::var_os("THEORIS_SHOW_LOG").is_some() {
            eprintln!("{text}");
        }
        let (lines, changed) = &*self.0;
        lines.lock().unwrap().push(Line { at: std::time::SystemTime::now(), text });
        changed.notify_all();
    }

    pub fn lines(&self) -> Vec<Line> {
        self.0.0.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line.text + "\n").collect()
    }

    /// Waits until there are more lines than `known`, or until `patience` has passed.
    pub fn wait_for_more(&self, known: usize, patience: Duration) {
        let (lines, changed) = &*self.0;
        let held = lines.lock().unwrap();
        drop(changed.wait_timeout_while(held, patience, |lines| lines.len() <= known));
    }

    /// Waits for a line that holds `needle` and returns it.
    #[track_caller]
    pub fn wait_for(&self, needle: &str) -> String {
        self.wait_until(&format!("a line with {needle:?}"), |lines| {
            lines.iter().find(|line| line.text.contains(needle)).map(|line| line.text.clone())
        })
    }

    /// Waits until `found` gives a value; stops the test after [`PATIENCE`], showing the log.
    #[track_caller]
    pub fn wait_until<T>(&self, what: &str, mut found: impl FnMut(&[Line]) -> Option<T>) -> T {
        let (lines, changed) = &*self.0;
        let end = Instant::now() + PATIENCE;
        let mut held = lines.lock().unwrap();
        loop {
            if let Some(value) = found(&held) {
                return value;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let all: String = held.iter().map(|line| format!("  {}\n", line.text)).collect();
                drop(held);
                panic!("waited {PATIENCE:?} for {what}; the log:\n{all}");
            }
            held = changed.wait_timeout(held, left).unwrap().0;
        }
    }
}

/// Asks `found` again and again until it gives a value; stops the test after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let seen = settled(|| {
        let value = found();
        (value.is_some(), value)
    });
    match seen {
        Some(value) => value,
        None => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Looks again and again until `look` calls what it sees complete, and gives that. After [`PATIENCE`] it gives what is
/// there, for the test to show what is missing.
pub fn settled<T>(mut look: impl FnMut() -> (bool, T)) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let (complete, seen) = look();
        if complete || Instant::now() >= end {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
