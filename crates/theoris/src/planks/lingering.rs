//! For tests: an original that has been told to close its socket, and has not done so yet.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::process::{self, Address};
use super::services::Systemd;
use super::steps::{Run, until};
use super::{Manner, Mishap};

/// What a reload of Postfix or Dovecot may take from the signal until it has closed a socket.
const RELOAD: Duration = Duration::from_millis(100);

/// It waits for events at an epoll(7) descriptor, as they do. It tells where it listens and that it has been signalled,
/// and closes its socket when a line comes in.
const PROGRAM: &str = "\
import os, select, signal, socket, sys
os.chdir(sys.argv[1])
if sys.argv[2] == 'tcp':
    listener = socket.create_server(('127.0.0.1', 0))
    at = listener.getsockname()[1]
else:
    listener = socket.socket(socket.AF_UNIX)
    at = sys.argv[2]
    listener.bind(at)
    listener.listen()
wake, ring = os.pipe()
os.set_blocking(ring, False)
signal.set_wakeup_fd(ring)
signal.signal(signal.SIGHUP, lambda *_: None)
events = select.epoll()
events.register(wake, select.EPOLLIN)
events.register(0, select.EPOLLIN)
print(at, flush=True)
while True:
    for descriptor, _ in events.poll():
        if descriptor == wake:
            os.read(wake, 16)
            print('signalled', flush=True)
        elif os.read(0, 16):
            listener.close()
";

/// Ends with the test.
pub struct Lingering {
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
    pub at: Address,
    /// How many signals come to nothing.
    pub missed: usize,
}

impl Lingering {
    /// A process of this name that works in `directory` and listens at a path there or, with `tcp`, at some port.
    pub fn start(directory: &Path, name: &str, socket: &str) -> Self {
        let interpreter = Path::new("/usr/bin/python3");
        assert!(interpreter.exists(), "this test needs {}", interpreter.display());
        let program = directory.join(name);
        std::os::unix::fs::symlink(interpreter, &program).unwrap(); // a process has the name that it was started by
        let mut command = Command::new(&program);
        command
            .args(["-IS", "-c", PROGRAM])
            .arg(directory)
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        let place = told.next().unwrap().unwrap();
        let at = match place.parse() {
            Ok(port) => Address::Tcp(([127, 0, 0, 1], port).into()),
            Err(_) => Address::Unix(place.into()),
        };
        Self { child, told, at, missed: 0 }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn listens(&self) -> bool {
        !process::listening(self.pid(), &self.at).is_empty()
    }

    /// `close` has it read its configuration, and must not come back before the socket is closed.
    #[track_caller]
    pub fn awaited_by(
        mut self,
        close: impl FnOnce(&mut Run<'_>) -> Result<(), Mishap> + Send + 'static,
    ) {
        assert!(self.listens());
        let closing = std::thread::spawn(|| {
            let mut services = Systemd { units: "/nowhere".into(), state: "/nowhere".into() };
            close(&mut Run::new(&mut services, Manner::default()))
        });
        for _ in 0..=self.missed {
            assert_eq!(self.told.next().unwrap().unwrap(), "signalled");
        }
        let early = until(RELOAD, || closing.is_finished());
        assert!(early.is_err(), "the original has its socket still");
        writeln!(self.child.stdin.as_ref().unwrap()).unwrap();
        assert_eq!(closing.join().unwrap(), Ok(()));
        assert!(!self.listens() && process::is_alive(self.pid()));
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
