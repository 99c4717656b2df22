//! Where log lines go: journald's native datagrams, or stderr, or files. One thread writes, behind a queue
//! that is bounded in lines and bytes; what does not fit is counted, and told when there is room.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::descriptors;
use crate::plan::LogFile;

const MOST_LINES: usize = 4096;
const MOST_BYTES: usize = 4 * 1024 * 1024;
const SOCKET: &str = "/run/systemd/journal/socket";
/// Names another journal socket; for tests and stand-ins.
pub(crate) const SOCKET_VARIABLE: &str = "THEORIS_JOURNAL";
/// `stderr` keeps the lines out of the journal, and out of files too.
const LOG_VARIABLE: &str = "THEORIS_LOG";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Journal(PathBuf),
    Stderr,
}

impl Target {
    /// The journal when systemd has connected our stderr to it, or when a socket is named.
    pub(crate) fn of_environment() -> Self {
        if everything_to_stderr() {
            return Self::Stderr;
        }
        if let Some(path) = std::env::var_os(SOCKET_VARIABLE) {
            return Self::Journal(path.into());
        }
        match stderr_is_the_journal() && std::path::Path::new(SOCKET).exists() {
            true => Self::Journal(SOCKET.into()),
            false => Self::Stderr,
        }
    }
}

/// Whoever starts a daemon by hand may want to see its lines, whatever the configuration says.
pub(crate) fn everything_to_stderr() -> bool {
    std::env::var_os(LOG_VARIABLE).is_some_and(|target| target == "stderr")
}

/// JOURNAL_STREAM names device and inode of what systemd connected; children with another stderr
/// inherit the variable too.
fn stderr_is_the_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let facts = rustix::fs::fstat(io::stderr());
    facts.is_ok_and(|facts| named == format!("{}:{}", facts.st_dev, facts.st_ino))
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub priority: u8,
    pub facility: u8,
    pub ident: String,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

impl Entry {
    /// journald's native protocol: `NAME=value` lines, or name, length and bytes for a value with a
    /// line feed in it.
    fn datagram(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 + self.message.len());
        put(&mut bytes, "MESSAGE", &self.message);
        put(&mut bytes, "PRIORITY", &self.priority.to_string());
        put(&mut bytes, "SYSLOG_FACILITY", &self.facility.to_string());
        put(&mut bytes, "SYSLOG_IDENTIFIER", &self.ident);
        put(&mut bytes, "SYSLOG_PID", &std::process::id().to_string());
        for (name, value) in &self.fields {
            put(&mut bytes, name, value);
        }
        bytes
    }

    fn text(&self) -> Vec<u8> {
        format!("{}[{}]: {}\n", self.ident, std::process::id(), self.message).into_bytes()
    }
}

fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[derive(Clone)]
pub(crate) struct Sink(Arc<Shared>);

/// Files that take lines, opened.
type Files = Vec<(LogFile, Arc<File>)>;

struct Shared {
    target: Target,
    files: RwLock<Files>,
    queue: Mutex<Queue>,
    changed: Condvar,
    dropped: AtomicU64,
}

struct Line {
    /// `None` is the target.
    file: Option<Arc<File>>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    bytes: usize,
    /// The writer has taken a line and not finished it.
    writing: bool,
}

impl Sink {
    /// Starts the writer thread.
    pub(crate) fn start(target: Target) -> Self {
        let (queue, changed) = (Mutex::default(), Condvar::new());
        let (files, dropped) = (RwLock::default(), AtomicU64::new(0));
        let shared = Arc::new(Shared { target, files, queue, changed, dropped });
        let writer = Arc::clone(&shared);
        let started =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run());
        if let Err(error) = started {
            eprintln!("cannot start the log writer: {error}");
        }
        Self(shared)
    }

    /// Queues a line, or drops it; never waits.
    pub(crate) fn write(&self, entry: Entry) {
        let line = self.0.line(&entry);
        let mut queue = self.0.lock();
        if queue.lines.len() >= MOST_LINES || queue.bytes + line.bytes.len() > MOST_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.bytes.len();
        queue.lines.push_back(line);
        drop(queue);
        self.0.changed.notify_all();
    }

    /// Lines that are written from now on go to these files, where one takes them.
    pub(crate) fn redirect(&self, files: Files) {
        *self.0.files.write().unwrap_or_else(PoisonError::into_inner) = files;
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut queue = self.0.lock();
        while queue.writing || !queue.lines.is_empty() {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut journal = Journal { socket: None };
        let mut told = 0;
        loop {
            let mut queue = self.lock();
            let line = loop {
                if let Some(line) = queue.lines.pop_front() {
                    break line;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            queue.bytes -= line.bytes.len();
            queue.writing = true;
            drop(queue);
            self.put(&mut journal, &line);
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > told {
                self.put(&mut journal, &self.confession(dropped - told));
                told = dropped;
            }
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    /// The line as its destination has it.
    fn line(&self, entry: &Entry) -> Line {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((file, opened)) = files.iter().find(|(file, _)| file.takes(entry)) {
            return Line { file: Some(Arc::clone(opened)), bytes: file.style.line(entry) };
        }
        let bytes = match self.target {
            Target::Journal(_) => entry.datagram(),
            Target::Stderr => entry.text(),
        };
        Line { file: None, bytes }
    }

    fn confession(&self, count: u64) -> Line {
        self.line(&Entry {
            priority: 4,
            facility: 2,
            ident: "theoris".to_owned(),
            message: format!("warning: {count} log lines were dropped: the log does not keep up"),
            fields: Vec::new(),
        })
    }

    fn put(&self, journal: &mut Journal, line: &Line) {
        let written = match (&line.file, &self.target) {
            (Some(file), _) => file.as_ref().write_all(&line.bytes),
            (None, Target::Journal(path)) => journal.send(path, &line.bytes),
            (None, Target::Stderr) => io::stderr().write_all(&line.bytes),
        };
        if written.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Journal {
    socket: Option<UnixDatagram>,
}

impl Journal {
    /// Sends one line; waits while journald does not read, and connects again when it was restarted.
    fn send(&mut self, path: &PathBuf, line: &[u8]) -> io::Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let socket = match self.socket.take() {
                Some(socket) => socket,
                None => connect(path, tries)?,
            };
            match socket.send(line) {
                Ok(_) => {
                    self.socket = Some(socket);
                    return Ok(());
                }
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) =>
                {
                    let memory = descriptors::memory("journal", line)?;
                    let sent = send_descriptor(&socket, &memory);
                    self.socket = Some(socket);
                    return sent;
                }
                Err(error) if tries > 20 => return Err(error),
                Err(_) => {} // journald has gone: connect to the next one
            }
        }
    }
}

/// journald's restart leaves the path without a listener for a moment.
fn connect(path: &PathBuf, tries: u32) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => Ok(socket),
        Err(error) if tries >= 20 => Err(error),
        Err(_) => {
            std::thread::sleep(Duration::from_millis(50));
            Ok(socket) // sending fails, and the next try connects again
        }
    }
}

/// An empty datagram with the memory beside it: what journald expects of large entries.
fn send_descriptor(socket: &UnixDatagram, memory: impl AsFd) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let memory = [memory.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&memory));
    rustix::net::sendmsg(socket, &[], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(message: &str) -> Entry {
        Entry {
            priority: 6,
            facility: 2,
            ident: "postfix/smtpd".to_owned(),
            message: message.to_owned(),
            fields: vec![("THEORIS_QUEUE_ID".to_owned(), "4X\nY".to_owned())],
        }
    }

    #[test]
    fn lines_reach_the_journal_with_their_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let sink = Sink::start(Target::Journal(path));
        sink.write(entry("4XY: client=unknown[192.0.2.1]"));
        let mut buffer = [0; 4096];
        let count = journal.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(text.starts_with("MESSAGE=4XY: client=unknown[192.0.2.1]\nPRIORITY=6\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=postfix/smtpd\nSYSLOG_PID="));
        assert!(text.ends_with("THEORIS_QUEUE_ID\n\u{4}\0\0\0\0\0\0\x004X\nY\n"), "{text:?}");
    }

    #[test]
    fn a_large_line_is_sent_as_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let sink = Sink::start(Target::Journal(path));
        sink.write(entry(&"x".repeat(1_000_000)));
        let received = descriptors::receive(&journal).unwrap();
        let memory = received.descriptors.into_iter().next().unwrap();
        let bytes = descriptors::read_memory(memory, 2_000_000).unwrap();
        assert!(bytes.len() > 1_000_000 && bytes.starts_with(b"MESSAGE=xxx"));
    }

    #[test]
    fn a_journal_that_does_not_read_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _journal = UnixDatagram::bind(&path).unwrap();
        let sink = Sink::start(Target::Journal(path));
        for _ in 0..20_000 {
            sink.write(entry("flood"));
        }
        assert!(sink.dropped() > 10_000 && sink.dropped() < 20_000);
    }
}
