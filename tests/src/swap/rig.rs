//! A host of the originals, the operator's command on it, and senders that count every accepted message.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::log::{eventually, settled};
use harness::postfix::Postfix;
use harness::services::{Services, said};
use harness::{Scratch, binaries};

use super::lines::{self, Allowed, When};

/// The command on its host.
pub struct Host {
    pub services: Services,
    pub postfix: Option<Postfix>,
    words: Vec<String>,
    /// Goes last.
    pub scratch: Scratch,
}

/// A file's time comes from the kernel's last tick, so on a machine with slow ticks it may lie in the second before.
pub const OF_THE_CLOCK: &[Allowed] = &[
    Allowed {
        line: "postfix/*: warning: file system clock is 1 seconds behind local clock",
        when: When::Ever,
        why: "the clock of files has ticked less recently than the other",
    },
    Allowed {
        line: "postfix/*: warning: file system clock is 1 seconds ahead of local clock",
        when: When::Ever,
        why: "a process that was held up between the two looks",
    },
    Allowed {
        line: "postfix/*: warning: resetting file time stamps - this hurts performance",
        when: When::Ever,
        why: "what Postfix does about it",
    },
];

const BETWEEN_FLUSHES: Duration = Duration::from_secs(2);

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

    /// Does a swap, and notes in the originals' logs that it begins.
    pub fn swapping<T>(&self, swap: impl FnOnce() -> T) -> T {
        for log in ["maillog", "dovecot.log"] {
            lines::swap_begins(&self.scratch.join(log));
        }
        swap()
    }

    /// It must succeed; gives what it said.
    #[track_caller]
    pub fn must(&self, words: &[&str]) -> String {
        let output = self.swapping(|| self.theoris(words));
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

    /// The same, and everything is back within ten seconds: the best of three, since a busy machine may hold one up.
    #[track_caller]
    pub fn rolled_back(&self, words: &[&str]) -> String {
        let mut took = Vec::new();
        loop {
            let begin = Instant::now();
            let text = self.swapping(|| self.refused(words));
            took.push(begin.elapsed());
            assert!(text.contains("everything is as it was before"), "{text}");
            if took.last().is_some_and(|took| took.as_secs() < 10) {
                return text;
            }
            assert!(took.len() < 3, "{took:?}");
        }
    }

    pub fn master_cf(&self) -> Vec<u8> {
        std::fs::read(self.scratch.join("postfix/master.cf")).unwrap()
    }

    /// Waits until Postfix has nothing left to do. What an agent delivers while a queue manager starts, that one puts off
    /// for a minute, and then for as long as nothing comes in; it is flushed.
    #[track_caller]
    pub fn queue_empties(&self) {
        let (queue, config) = (self.postfix().queue(), self.postfix().config());
        let mut flushed = Instant::now();
        let empty = settled(|| {
            if flushed.elapsed() > BETWEEN_FLUSHES {
                self.postfix().command(&["postqueue", "-c", &config.display().to_string(), "-f"]);
                flushed = Instant::now();
            }
            let empty = is_empty(&queue);
            (empty, empty)
        });
        let mut list = std::process::Command::new("find");
        list.arg(&queue).args([
            "-type",
            "f",
            "-size",
            "+0",
            "-printf",
            "%P %m %s bytes, changed %t\\n",
        ]);
        let found = list.output().unwrap().stdout;
        let (found, log) = (String::from_utf8_lossy(&found), self.postfix().log.text());
        assert!(empty, "the queue is not empty:\n{found}\n{log}");
    }

    /// Nothing but the allowed lines is in Postfix's log.
    #[track_caller]
    pub fn no_complaints(&self, allowed: &[Allowed]) {
        let log = std::fs::read_to_string(self.scratch.join("maillog")).unwrap();
        let bad = lines::complaints(&log, &[OF_THE_CLOCK, allowed].concat());
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
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let sender = NEXT.fetch_add(1, Ordering::SeqCst);
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
        std::thread::park_timeout(Duration::from_millis(40));
    }
    client.send("QUIT");
    client.next_line();
}

/// The messages in a Maildir, by Message-ID.
pub fn in_maildir(maildir: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for name in ["new", "cur"] {
        for entry in std::fs::read_dir(maildir.join(name)).into_iter().flatten().flatten() {
            let Ok(message) = std::fs::read(entry.path()) else { continue };
            found.entry(message_id(&String::from_utf8_lossy(&message))).or_default().push(message);
        }
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
    // A message may go from a queue that is not looked at yet to one that was: it does not do so twice.
    queues.iter().chain(&queues).all(|name| empty(&queue.join(name)))
}
