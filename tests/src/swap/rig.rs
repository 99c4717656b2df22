//! A host of the originals, the operator's command on it, and senders that count every accepted message.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::client::Client;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::services::{Services, said};
use harness::{Scratch, binaries};

/// What an allowed line of Postfix's log holds, though it is a warning: milter connects within a measured gap.
pub const IN_A_GAP: &str = "connect to Milter service";

/// The command on its host.
pub struct Host {
    pub services: Services,
    pub postfix: Option<Postfix>,
    words: Vec<String>,
    /// Goes last.
    pub scratch: Scratch,
}

/// What Postfix says by itself: of a machine whose clocks differ, and of a queue manager of its own that a reload has ended and
/// that has not taken the last calls to wake up; and its postsuper, which each reload runs, of a message that just comes in and has no
/// id yet.
const OF_POSTFIX: [&str; 4] = [
    ": warning: bogus file name: incoming/",
    "file system clock is",
    "resetting file time stamps",
    "master_wakeup_timer_event: service qmgr(public/qmgr): Resource temporarily unavailable",
];

impl Host {
    /// `resolver` goes into theoris.toml.
    pub fn new(scratch: Scratch, postfix: Option<Postfix>, resolver: Option<String>) -> Self {
        let services = Services::lay(&scratch);
        let run = scratch.directory("run");
        let mut toml = format!("run-directory = \"{}\"\n", run.display());
        if let Some(server) = resolver {
            toml.push_str(&format!("[resolver]\nservers = [\"{server}\"]\n"));
        }
        let toml = scratch.write("theoris.toml", toml);
        let daemons = binaries::path("theoris").parent().unwrap().display().to_string();
        let mut words = Vec::new();
        for (option, value) in [
            ("-c", scratch.join("postfix").display().to_string()),
            ("-x", scratch.join("opendkim.conf").display().to_string()),
            ("--dovecot", scratch.join("dovecot/dovecot.conf").display().to_string()),
            ("--theoris", toml.display().to_string()),
            ("--state", scratch.join("state").display().to_string()),
            ("--units", services.drop_ins().display().to_string()),
            ("--daemons", daemons),
            ("--patience", "20".to_owned()),
        ] {
            words.extend([option.to_owned(), value]);
        }
        Self { services, postfix, words, scratch }
    }

    pub fn toml(&self) -> String {
        self.scratch.join("theoris.toml").display().to_string()
    }

    pub fn postfix(&self) -> &Postfix {
        self.postfix.as_ref().unwrap()
    }

    pub fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.services.theoris();
        command.args(words).args(&self.words).stdin(std::process::Stdio::null());
        command
    }

    pub fn theoris(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// It must succeed; gives what it said.
    #[track_caller]
    pub fn must(&self, words: &[&str]) -> String {
        let output = self.theoris(words);
        let text = said(&output);
        let more = self.postfix.as_ref().map(|postfix| postfix.log.text()).unwrap_or_default();
        assert!(output.status.success(), "{words:?}: {}\n{text}\n{more}", output.status);
        text
    }

    /// It must be refused with exit code 2; gives what it said.
    #[track_caller]
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.theoris(words);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}:\n{text}");
        text
    }

    pub fn master_cf(&self) -> Vec<u8> {
        std::fs::read(self.scratch.join("postfix/master.cf")).unwrap()
    }

    /// Nothing but the allowed lines is in Postfix's log, and what it says by itself.
    #[track_caller]
    pub fn no_complaints(&self, allowed: &[&str]) {
        let log = self.postfix().log.text();
        let bad = |line: &&str| {
            let complains = ["warning:", "error:", "fatal:", "panic:", "throttling"];
            complains.iter().any(|word| line.contains(word))
                && !allowed.iter().chain(&OF_POSTFIX).any(|word| line.contains(word))
        };
        let bad: Vec<&str> = log.lines().filter(bad).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

/// Senders at work until they are told to end.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    /// Messages from `alice@example.com` to `recipients` in turn, each with a Message-ID of its own.
    pub fn start(port: u16, senders: usize, recipients: &[&str]) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |sender| {
            let (stop, count) = (stop.clone(), count.clone());
            let recipients: Vec<String> =
                recipients.iter().map(|name| (*name).to_owned()).collect();
            std::thread::spawn(move || {
                let mut accepted = Vec::new();
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    session(port, sender, &mut number, &recipients, &mut accepted, &count);
                }
                accepted
            })
        };
        let senders = (0..senders).map(start).collect();
        Self { stop, count, senders }
    }

    /// Waits until so many more messages have been accepted.
    #[track_caller]
    pub fn flows(&self, more: usize) {
        let before = self.count.load(Ordering::SeqCst);
        eventually("mail to flow", || {
            (self.count.load(Ordering::SeqCst) >= before + more).then_some(())
        });
    }

    /// The Message-IDs of all that were accepted.
    pub fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    }
}

/// Three messages in one session; one that is put off is sent again later under its own Message-ID.
fn session(
    port: u16,
    sender: usize,
    number: &mut usize,
    recipients: &[String],
    accepted: &mut Vec<String>,
    count: &AtomicUsize,
) {
    let mut client = Client::tcp(port);
    client.reply();
    client.expect("EHLO client.example", "250");
    for _ in 0..3 {
        *number += 1;
        let id = format!("<{sender}.{number}@swap.test>");
        let recipient = &recipients[*number % recipients.len()];
        let begun = client.ask("MAIL FROM:<alice@example.com>").starts_with("250")
            && client.ask(&format!("RCPT TO:<{recipient}>")).starts_with("250")
            && client.ask("DATA").starts_with("354");
        let message = format!(
            "From: Alice <alice@example.com>\r\nTo: {recipient}\r\nSubject: swap\r\nMessage-ID: {id}\r\n\
             Date: Fri, 1 Jan 2027 00:00:00 +0000\r\n\r\nbody\r\n."
        );
        if begun && client.ask(&message).starts_with("250") {
            accepted.push(id);
            count.fetch_add(1, Ordering::SeqCst);
        } else {
            break;
        }
        // A host's mail, not a benchmark: swaps take place between messages as well as within them.
        std::thread::park_timeout(Duration::from_millis(8));
    }
    client.send("QUIT");
    client.next_line();
}

/// The messages in a Maildir, by Message-ID.
pub fn in_maildir(maildir: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for entry in std::fs::read_dir(maildir.join("new")).into_iter().flatten().flatten() {
        let Ok(message) = std::fs::read(entry.path()) else { continue };
        found.entry(message_id(&String::from_utf8_lossy(&message))).or_default().push(message);
    }
    found
}

pub fn message_id(message: &str) -> String {
    let named = message.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("message-id").then(|| value.to_owned())
    });
    named.unwrap_or_default()
}

/// Whether no message waits.
pub fn is_empty(queue: &Path) -> bool {
    let queues = ["maildrop", "incoming", "active", "deferred"];
    fn empty(directory: &Path) -> bool {
        std::fs::read_dir(directory).into_iter().flatten().flatten().all(|entry| {
            let path: PathBuf = entry.path();
            path.is_dir() && empty(&path)
        })
    }
    queues.iter().all(|name| empty(&queue.join(name)))
}
