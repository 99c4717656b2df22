//! All daemons on `etc/guide`, and what every round needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::site::Site;
use harness::{Daemon, Scratch, skip};

pub const PASSWORD: &str = "secret";
pub const HOST: &str = "mail.example.com";
pub const USER: &str = "user1@example.com";

/// A running site. Fields are dropped in order: daemons first, then their directory.
pub struct Rig {
    _daemons: Vec<Daemon>,
    pub site: Site,
    pub scratch: Scratch,
}

impl Rig {
    /// Starts everything, or notes that `program` is missing.
    #[track_caller]
    pub fn with(program: &str) -> Option<Self> {
        if !skip::can_run(false, &[program]) {
            return None;
        }
        let scratch = Scratch::new();
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/guide");
        let site = Site::render(&samples, &scratch.directory("s"));
        let daemons = site.start_all();
        Some(Self { _daemons: daemons, site, scratch })
    }

    /// Runs a program to its end with this standard input; stops the test when it fails, with what all sides said.
    #[track_caller]
    pub fn run(&self, command: &mut Command, input: &[u8]) -> String {
        use std::io::Write as _;
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{shown}: {}\n{out}\n{err}\nour log:\n{}",
            output.status,
            self.site.log.text()
        );
        out.into_owned()
    }

    /// Delivers a message to [`USER`] from outside, as the `number`th of this site, and gives its subject.
    #[track_caller]
    pub fn receive(&self, number: usize) -> String {
        let (text, subject) = message("someone@sender.example", USER);
        let mut send = Command::new("curl");
        send.args(["--silent", "--show-error", "--max-time", "30", "--mail-rcpt", USER]);
        send.args(["--mail-from", "someone@sender.example", "--upload-file", "-"]);
        send.arg(format!("smtp://127.0.0.1:{}/mx.sender.example", self.site.port("smtp")));
        self.run(&mut send, text.as_bytes());
        self.wait_delivered(number);
        subject
    }

    /// Waits until `count` deliveries into mailboxes are logged.
    #[track_caller]
    pub fn wait_delivered(&self, count: usize) {
        self.site.log.wait_until(&format!("{count} deliveries"), |lines| {
            let delivered = lines
                .iter()
                .filter(|line| line.text.contains("status=sent (delivered to maildir)"));
            (delivered.count() >= count).then_some(())
        });
    }

    pub fn ca(&self) -> &Path {
        &self.site.ca
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.scratch.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// A message with a subject of its own, lines ending in CRLF, and that subject.
pub fn message(from: &str, to: &str) -> (String, String) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let subject =
        format!("round {} of {}", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    let text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <{}@client.example.com>\r\n\r\nFirst line\r\n.a line that starts with a dot\r\nLast line\r\n",
        subject.replace(' ', "-")
    );
    (text, subject)
}
