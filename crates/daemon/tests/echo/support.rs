//! Plays the service manager and the clients of the echo service.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here takes that long.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Echo {
    pub directory: TempDir,
    pub address: SocketAddr,
    config: Value,
    child: Child,
    manager: UnixDatagram,
    /// What the daemon gave into the manager's keeping.
    pub kept: Vec<(String, OwnedFd)>,
    log: Arc<Mutex<String>>,
}

/// Starts the service, with one socket that the manager has.
fn spawn(
    directory: &Path,
    socket: Option<(String, OwnedFd)>,
    environment: &[(&str, &Path)],
    log: &Arc<Mutex<String>>,
) -> Child {
    let mut command = Command::new("/bin/sh");
    let script = match socket {
        Some(_) => "exec \"$0\" \"$@\" 3<&0 </dev/null",
        None => "exec \"$0\" \"$@\" </dev/null",
    };
    command.args(["-c", script]).arg(binary()).arg("-c").arg(directory.join("echo.conf"));
    command.env("NOTIFY_SOCKET", directory.join("notify"));
    command.env_remove("JOURNAL_STREAM").env("RUST_BACKTRACE", "0");
    command.env("THEORIS__SANDBOX", "kill"); // what a worker needs and may not do, breaks these tests
    if let Some((name, socket)) = socket {
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).stdin(Stdio::from(socket));
    }
    command.envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stderr, copy) = (child.stderr.take().unwrap(), Arc::clone(log));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            copy.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    child
}

pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/echo")
}

impl Echo {
    /// Starts the service with a socket that the manager has bound, and waits until it is ready.
    pub fn start(extra: Value) -> Self {
        let mut echo = Self::launch(extra, true, &[]);
        echo.until("READY=1");
        echo
    }

    pub fn launch(extra: Value, pass_socket: bool, environment: &[(&str, &Path)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        manager.set_read_timeout(Some(LIMIT)).unwrap();
        let mut config = json!({ "listen": address, "greeting": "hello" });
        merge(&mut config, &extra);
        if config["control"] == "CONTROL" {
            config["control"] = json!(directory.path().join("control"));
        }
        std::fs::write(directory.path().join("echo.conf"), config.to_string()).unwrap();
        let socket = pass_socket.then(|| ("echo".to_owned(), OwnedFd::from(listener)));
        let log = Arc::new(Mutex::new(String::new()));
        let child = spawn(directory.path(), socket, environment, &log);
        Self { directory, address, config, child, manager, kept: Vec::new(), log }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What the manager is told, up to a message with this line.
    pub fn until(&mut self, wanted: &str) {
        loop {
            let got = daemon::descriptors::receive(&self.manager).unwrap_or_else(|error| {
                panic!("no {wanted}: {error}; log:\n{}", self.log());
            });
            let text = String::from_utf8_lossy(&got.bytes).into_owned();
            if let Some(name) = text.lines().find_map(|line| line.strip_prefix("FDNAME=")) {
                let name = name.to_owned();
                self.kept.extend(got.descriptors.into_iter().map(|kept| (name.clone(), kept)));
            }
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
    }

    /// Waits for a line of the log.
    pub fn logged(&self, wanted: &str) {
        eventually(&format!("log line {wanted:?}"), || self.log().contains(wanted), || self.log());
    }

    pub fn configure(&mut self, change: Value) {
        merge(&mut self.config, &change);
        std::fs::write(self.path("echo.conf"), self.config.to_string()).unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// SIGHUP, and everything up to the answer.
    pub fn reload(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGHUP);
        self.until("RELOADING=1");
        self.until("READY=1");
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// Asks the control socket.
    pub fn control(&self, question: &str) -> String {
        let mut socket = UnixStream::connect(self.path("control")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer
    }

    pub fn state(&self) -> Value {
        self.state_at(&self.path("control"))
    }

    pub fn state_at(&self, control: &Path) -> Value {
        let mut socket = UnixStream::connect(control).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.write_all(b"status\n").unwrap();
        serde_json::from_reader(socket).unwrap()
    }

    pub fn setting(&self, name: &str) -> &Value {
        &self.config[name]
    }

    /// Starts the next supervisor, with the last thing that the old one gave into keeping.
    pub fn start_again(&mut self) {
        let kept = self.kept.pop();
        self.child = spawn(self.directory.path(), kept, &[], &self.log);
        self.until("READY=1");
    }

    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "does not end; log:\n{}", self.log());
            std::thread::yield_now();
        }
    }
}

/// Leaves nothing running, whatever the test did.
impl Drop for Echo {
    fn drop(&mut self) {
        self.signal_quietly();
        let _ = self.child.wait();
    }
}

impl Echo {
    fn signal_quietly(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
        }
    }
}

/// Polls what has no event to wait for.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool, context: impl Fn() -> String) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}\n{}", context());
        std::thread::yield_now();
    }
}

fn merge(config: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
}

pub struct Client {
    pub reader: BufReader<TcpStream>,
    pub greeting: String,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self { reader: BufReader::new(stream), greeting: String::new() };
        client.greeting = client.line();
        client
    }

    /// An empty text is the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.reader.read_line(&mut line);
        line.trim_end().to_owned()
    }

    pub fn send(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.line()
    }
}
