//! A queue of deferred mail that goes from one queue manager to the other and back while it is delivered.
//!
//! The agents that deliver are Postfix's throughout, and so are smtpd and the commands; what changes hands is everything of
//! [`crate::swap::QUEUE`], in a Postfix that runs on. Each message has its own Message-ID and its own recipients, and the
//! hosts that get them keep account.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::log::Log;
use crate::postfix::Postfix;
use crate::sink::{Account, Sink};
use crate::swap::QUEUE;
use crate::{Daemon, Scratch, ports};

/// Who has the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    Postfix,
    Ours,
}

/// What a run came to; all that can be wrong has stopped it before.
#[derive(Debug)]
pub struct Handover {
    pub messages: usize,
    pub recipients: usize,
    /// Until every message was accepted, tried and deferred by the first keeper.
    pub deferring: Duration,
    /// Messages of the second keeper's delivery, and the time until it was stopped in the middle.
    pub by_second: (usize, Duration),
    /// From the end of one keeper to the readiness of the next.
    pub gaps: [Duration; 2],
    /// Deliveries that were under way when the second keeper ended.
    pub under_way: usize,
    /// Until the queue was empty again.
    pub emptying: Duration,
    pub total: Duration,
}

/// Deliveries at a time for one host.
const CONCURRENCY: usize = 20;
const SENDERS: usize = 8;

/// Plays it: `first` defers `messages`, the other delivers half of what it can and is stopped with deliveries under way, and
/// `first` does the rest. Stops when a recipient gets a message twice or not at all, when the listing of Postfix's own
/// postqueue shows another set of recipients than those that have not got their mail, or when a log complains.
#[track_caller]
pub fn play(first: Keeper, messages: usize) -> Handover {
    let begin = Instant::now();
    let mut site = Site::start(first, messages);
    site.put_in();
    site.wait("every message deferred", || site.count(&["maildrop", "incoming", "active"]) == 0);
    let all = site.expected();
    let deferring = begin.elapsed();
    assert_eq!(site.count(&["deferred"]), messages);
    assert!(site.waiting().into_iter().eq(addresses(&all)), "each recipient is listed once");

    // The one host lives, and has some mail for later; the other is still dead.
    let one = Sink::start(site.ports[0]);
    one.put_off(Some("late"));
    let half = messages * 2 / 5;
    one.hold_after(half);
    let out = site.swap(|| {});
    let since = Instant::now();
    let mark = site.mark();
    site.flush();
    one.wait_held(CONCURRENCY, site.patience);
    let by_second = (one.answered(), since.elapsed());
    assert_eq!(by_second.0, half);
    let dead = all.keys().filter(|(_, address)| address.ends_with("@two.test")).count();
    site.wait("those for the dead host deferred again", || site.put_off(mark) == dead);
    let mut under_way = 0;
    let back = site.swap(|| under_way = one.answer_held());
    if first == Keeper::Ours {
        // Postfix's agents go on without the queue manager that asked them, and hold their files.
        site.ours_log.wait_until("messages that are being delivered", |lines| {
            let skipped = |line: &&crate::log::Line| line.text.ends_with(STILL_DELIVERED);
            (lines.iter().filter(skipped).count() >= CONCURRENCY).then_some(())
        });
        under_way = one.answer_held();
    }
    assert!(under_way >= CONCURRENCY, "{under_way}");
    site.wait("what was under way", || one.answered() >= half + under_way);
    // Agents mark a recipient when they have its answer.
    site.wait("the listing of what is left", || {
        let got = addresses(&one.account());
        site.waiting().iter().eq(addresses(&all).difference(&got))
    });

    let since = Instant::now();
    one.put_off(None);
    one.let_go();
    let two = Sink::start(site.ports[1]);
    let mut flushed: Option<Instant> = None;
    site.wait("an empty queue", || {
        if flushed.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            site.flush();
            flushed = Some(Instant::now());
        }
        let all = ["maildrop", "incoming", "active", "deferred", "bounce", "defer"];
        site.count(&all) == 0 && site.count(&all) == 0 // one may go from queue to queue meanwhile
    });
    let emptying = since.elapsed();
    let mut got = one.account();
    got.extend(two.account());
    assert_eq!(got.len(), all.len());
    assert!(got == all, "each recipient once");
    site.logs_are_quiet();
    let (gaps, recipients) = ([out, back], all.len());
    Handover {
        messages,
        recipients,
        deferring,
        by_second,
        gaps,
        under_way,
        emptying,
        total: begin.elapsed(),
    }
}

/// What a queue manager says of a message whose file an agent still holds.
const STILL_DELIVERED: &str = ": skipped, still being delivered";

/// Whom message `number` is for: one host or the other, both in either order, or a recipient whose host has no time yet.
fn recipients(number: usize) -> Vec<String> {
    let (one, two) = (format!("r{number}@one.test"), format!("r{number}@two.test"));
    match number % 5 {
        0 => vec![one],
        1 => vec![two],
        2 => vec![one, two],
        3 => vec![two, one],
        _ => vec![format!("late{number}@one.test"), one],
    }
}

fn message_id(number: usize) -> String {
    format!("<{number}@handover.test>")
}

fn addresses(account: &Account) -> BTreeSet<String> {
    account.keys().map(|(_, address)| address.clone()).collect()
}

/// Postfix ends before its directory does.
struct Site {
    ours: Option<Daemon>,
    ours_log: Log,
    postfix: Postfix,
    messages: usize,
    ports: [u16; 2],
    patience: Duration,
    scratch: Scratch,
}

impl Site {
    fn start(first: Keeper, messages: usize) -> Self {
        let scratch = Scratch::new();
        let ports = [ports::free(), ports::free()];
        let main = format!(
            "in_flow_delay = 0\nsmtp_host_lookup = native\n\
             transport_maps = inline:{{one.test=smtp:[127.0.0.1]:{}, two.test=smtp:[127.0.0.1]:{}}}\n\
             smtp_destination_concurrency_limit = {CONCURRENCY}\n\
             initial_destination_concurrency = {CONCURRENCY}\n",
            ports[0], ports[1]
        );
        let mut postfix = Postfix::lay(&scratch, &main);
        if first == Keeper::Ours {
            postfix.without(QUEUE);
        }
        postfix.start();
        postfix.keep_held();
        let patience = Duration::from_secs(30 + messages as u64 / 40);
        let ours_log = Log::default();
        let mut site = Self { ours: None, ours_log, postfix, messages, ports, patience, scratch };
        if first == Keeper::Ours {
            site.ours = Some(site.daemon());
        }
        site
    }

    fn daemon(&self) -> Daemon {
        let config = self.postfix.config().display().to_string();
        let run = self.scratch.directory("run");
        let log = self.ours_log.clone();
        Daemon::start_with("queue-manager", &run, &["-c", &config], log, |_| {})
    }

    /// Gives the queue to the other one; `ending` happens while ours ends. Gives the gap.
    fn swap(&mut self, ending: impl FnOnce()) -> Duration {
        match self.ours.take() {
            None => {
                let gap = Instant::now();
                self.postfix.close(QUEUE);
                self.ours = Some(self.daemon());
                gap.elapsed()
            }
            Some(mut ours) => {
                ours.signal(nix::sys::signal::Signal::SIGTERM);
                ours.wait_notify("STOPPING=1");
                ending();
                assert!(ours.wait_end().success());
                let gap = Instant::now();
                self.postfix.put_held_back();
                self.postfix.keep_held();
                self.postfix.open(QUEUE);
                gap.elapsed()
            }
        }
    }

    fn put_in(&self) {
        let (port, messages) = (self.postfix.port, self.messages);
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                scope.spawn(move || send(port, (sender..messages).step_by(SENDERS)));
            }
        });
    }

    /// Every pair of message and recipient, once.
    fn expected(&self) -> Account {
        let pairs = (0..self.messages).flat_map(|number| {
            recipients(number).into_iter().map(move |address| ((message_id(number), address), 1))
        });
        pairs.collect()
    }

    /// Files in these directories of the queue.
    fn count(&self, directories: &[&str]) -> usize {
        directories.iter().map(|name| files(&self.postfix.queue().join(name))).sum()
    }

    /// The recipients that Postfix's own postqueue lists. It reads one directory after the other: a message that moves
    /// meanwhile is listed twice.
    fn waiting(&self) -> Vec<String> {
        let text = self.postfix.command(&["postqueue", "-j"]);
        let mut found = Vec::new();
        for line in text.lines() {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            for recipient in message["recipients"].as_array().unwrap() {
                found.push(recipient["address"].as_str().unwrap().to_owned());
            }
        }
        found.sort();
        found
    }

    /// How long the logs are.
    fn mark(&self) -> [usize; 2] {
        [&self.postfix.log, &self.ours_log].map(|log| log.lines().len())
    }

    /// How many of those for the dead host have been put off since.
    fn put_off(&self, mark: [usize; 2]) -> usize {
        let who = |text: &str| {
            let (address, rest) = text.split_once(" to=<")?.1.split_once(">, ")?;
            let so = address.ends_with("@two.test") && rest.contains("status=deferred");
            so.then(|| address.to_owned())
        };
        let mut put_off = BTreeSet::new();
        for (log, mark) in [&self.postfix.log, &self.ours_log].into_iter().zip(mark) {
            put_off.extend(log.lines()[mark..].iter().filter_map(|line| who(&line.text)));
        }
        put_off.len()
    }

    fn flush(&self) {
        self.postfix.command(&["postqueue", "-f"]);
    }

    #[track_caller]
    fn wait(&self, what: &str, mut so: impl FnMut() -> bool) {
        let end = Instant::now() + self.patience;
        while !so() {
            let told = || format!("{}\n{}", self.postfix.log.text(), self.ours_log.text());
            assert!(Instant::now() < end, "waited {:?} for {what}\n{}", self.patience, told());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Each message was removed once, and nobody complains.
    #[track_caller]
    fn logs_are_quiet(&self) {
        let lines = || [self.postfix.log.lines(), self.ours_log.lines()].concat();
        self.wait("a line for each removal", || {
            let removed = |line: &&crate::log::Line| line.text.ends_with(": removed");
            lines().iter().filter(removed).count() == self.messages
        });
        let complains = |text: &str| {
            ["warning:", "error:", "fatal:", "panic:", "throttling", "status=bounced"]
                .iter()
                .any(|word| text.contains(word))
        };
        let lines = lines();
        let bad: Vec<&str> = lines
            .iter()
            .map(|line| line.text.as_str())
            .filter(|text| complains(text) && !is_allowed(text))
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

fn is_allowed(text: &str) -> bool {
    ALLOWED.iter().any(|(holds, end)| text.contains(holds) && text.ends_with(end))
}

/// What may be said: what it holds and how it ends, and why.
const ALLOWED: &[(&str, &str)] = &[
    // Of a machine whose clocks do not agree.
    ("warning: file system clock is ", ""),
    ("warning: resetting file time stamps", ""),
    // Postfix's queue manager, when it reads the queue faster than it delivers: more than 4,000 are active.
    ("warning: mail for [127.0.0.1]:", " active queue entries"),
    (
        "warning: you may need to increase the main.cf smtp_destination_concurrency_limit from 20",
        "",
    ),
    ("warning: you may need a separate master.cf transport for [127.0.0.1]:", ""),
    ("warning: this may slow down other mail deliveries", ""),
    ("warning: please avoid flushing the whole queue when you have", ""),
    ("warning: lots of deferred mail, that is bad for performance", ""),
    ("warning: to turn off these warnings specify: qmgr_clog_warn_time = 0", ""),
    // Postfix's master, of a queue manager of its own that a reload has ended.
    ("master_wakeup_timer_event: service qmgr(public/qmgr): Resource temporarily unavailable", ""),
    // Postfix's master, at a reload, of a process of its own that had nothing to do and that it ended.
    ("warning: process /usr/lib/postfix/sbin/cleanup pid ", " exit status 15"),
    // Postfix's processes, when master ends its own trivial-rewrite at a reload: they ask again.
    ("warning: problem talking to service rewrite: ", "Connection reset by peer"),
    ("warning: problem talking to service rewrite: ", "Success"),
    ("warning: problem talking to service rewrite: ", "Broken pipe"),
    // Postfix's agents, when master ends its own scache at a reload: they make a new connection the next time.
    ("warning: problem talking to service private/scache: ", ""),
    // Postfix's error(8), of its own bounce(8) that master ends at a reload: what it could not put off stays deferred.
    ("warning: write private/defer socket: ", ""),
    ("warning: write/read private/defer socket: ", ""),
    ("warning: connect to private/defer: ", ""),
    ("postfix/error[", ": defer service failure"),
];

fn send(port: u16, numbers: impl Iterator<Item = usize>) {
    let mut smtp = Client::tcp(port);
    assert!(smtp.reply().starts_with("220 "));
    smtp.expect("EHLO client.example", "250");
    for number in numbers {
        smtp.expect("MAIL FROM:<bob@example.com>", "250");
        for recipient in recipients(number) {
            smtp.expect(&format!("RCPT TO:<{recipient}>"), "250");
        }
        smtp.expect("DATA", "354");
        let id = message_id(number);
        smtp.expect(&format!("Subject: {number}\r\nMessage-ID: {id}\r\n\r\nbody\r\n."), "250");
        smtp.transcript.clear();
    }
    smtp.expect("QUIT", "221");
}

fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let count = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(_) => 1,
        Err(_) => 0,
    };
    entries.map(count).sum()
}
