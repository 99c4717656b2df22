//! Postfix's own postqueue, mailq, postcat and postsuper on a queue in use: beside our queue manager they say and do what they
//! do beside Postfix's, while mail flows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use harness::client::Client;
use harness::handover::Keeper;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::sink::Sink;
use harness::swap::QUEUE;
use harness::{Daemon, Scratch, ports, skip};

/// What may stand in a log, and why.
const ALLOWED: &[&str] = &[
    // Of a machine whose clocks do not agree.
    "file system clock is",
    "resetting file time stamps",
    // What postsuper -s says of the file that this test gave a wrong name.
    "postfix/postsuper[",
];

/// What postsuper -s says of a message that just comes in and has no id yet.
const COMING: &str = "bogus file name: incoming/";

/// Messages m1 to m9 are for a host that is dead at first.
const WAITING: usize = 9;

#[test]
fn the_commands_of_postfix_work_on_our_queue_as_on_theirs() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let players =
        [Keeper::Postfix, Keeper::Ours].map(|keeper| std::thread::spawn(move || play(keeper)));
    let [theirs, ours] = players.map(|player| player.join().unwrap());
    let differ = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours);
    let differ: String =
        differ.map(|(theirs, ours)| format!("theirs:\n{theirs}\nours:\n{ours}\n\n")).collect();
    assert!(differ.is_empty() && ours.len() == theirs.len(), "{differ}");
}

/// Every command in turn; what was said, and what it made of the queue.
fn play(keeper: Keeper) -> Vec<String> {
    let mut site = Site::start(keeper);
    let flow = Flow::start(site.postfix.port);
    site.put_in();
    let deferred = (1..=WAITING).map(|number| (number, "deferred")).collect::<BTreeMap<_, _>>();
    site.tried(&(1..=WAITING).map(|number| (number, 0)).collect(), 1..=WAITING);
    site.becomes(&deferred);
    site.look_at_the_queue();
    hold_and_release(&mut site, &deferred);
    site.structure(&deferred);
    let mut left = deferred;
    left.insert(1, "hold");
    site.run(&["postsuper", "-h", "m1"], "");
    site.becomes(&left);
    site.postcat("-q");
    site.remove_and_expire(&mut left);
    let slow = Sink::start(site.slow);
    site.send_some(&slow, &mut left);
    assert_eq!(left, BTreeMap::from([(1, "hold")]));
    site.run(&["postsuper", "-d", "ALL", "hold"], "");
    site.becomes(&BTreeMap::new());
    let sent = flow.end();
    let empty = || site.messages().is_empty() && site.messages().is_empty(); // one may move meanwhile
    eventually("an empty queue", || empty().then_some(()));
    site.run(&["mailq"], "");
    site.run(&["postqueue", "-j"], "");
    let got = site.fast.account();
    let all: BTreeSet<&str> = got.keys().map(|(id, _)| id.as_str()).collect();
    assert_eq!(all, sent.iter().map(String::as_str).collect::<BTreeSet<_>>());
    assert!(got.values().all(|count| *count == 1), "nothing twice");
    site.logs_are_quiet();
    site.said
}

fn hold_and_release(site: &mut Site, deferred: &BTreeMap<usize, &'static str>) {
    let held = |numbers: &[usize]| {
        let mut queues = deferred.clone();
        queues.extend(numbers.iter().map(|number| (*number, "hold")));
        queues
    };
    let all: Vec<usize> = deferred.keys().copied().collect();
    site.run(&["postsuper", "-h", "ALL", "deferred"], "");
    site.becomes(&held(&all));
    site.run(&["postsuper", "-H", "ALL"], "");
    site.becomes(deferred);
    site.run(&["postsuper", "-h", "-"], "m2\nm3\n");
    site.becomes(&held(&[2, 3]));
    // What is held is not tried.
    let before = site.attempts();
    site.run(&["postqueue", "-f"], "");
    site.tried(&before, all.iter().copied().filter(|number| ![2, 3].contains(number)));
    site.becomes(&held(&[2, 3]));
    assert_eq!([2, 3].map(|number| site.attempts()[&number]), [before[&2], before[&3]]);
    site.run(&["postsuper", "-H", "m2", "-H", "m3", "-H", "m4"], "");
    site.becomes(deferred);
    // A new id, and one more attempt.
    for (words, numbers) in [(&["-r", "m3"][..], vec![3]), (&["-r", "ALL", "deferred"], all)] {
        let (ids, before) = (site.ids.clone(), site.attempts());
        site.run(&[&["postsuper"][..], words].concat(), "");
        site.tried(&before, numbers.iter().copied());
        site.becomes(deferred);
        assert!(numbers.iter().all(|number| site.ids[number] != ids[number]));
    }
}

struct Site {
    ours: Option<Daemon>,
    postfix: Postfix,
    fast: Sink,
    back: Sink,
    /// Where the waiting mail goes; nobody listens there at first.
    slow: u16,
    /// The queue ids of the waiting messages, as they are now.
    ids: BTreeMap<usize, String>,
    /// Every id that one of them had.
    known: BTreeMap<String, usize>,
    said: Vec<String>,
    _scratch: Scratch,
}

impl Site {
    fn start(keeper: Keeper) -> Self {
        let scratch = Scratch::new();
        let (slow, fast, back) = (ports::free(), ports::free(), ports::free());
        let main = format!(
            "in_flow_delay = 0\nfast_flush_domains = slow.test\n\
             transport_maps = inline:{{slow.test=smtp:[127.0.0.1]:{slow}, fast.test=smtp:[127.0.0.1]:{fast}, \
             back.test=smtp:[127.0.0.1]:{back}}}\n"
        );
        let mut postfix = Postfix::lay(&scratch, &main);
        // postsuper -r wakes nobody: pickup looks by itself, once a minute as a rule.
        let master = postfix.config().join("master.cf");
        let text = fs::read_to_string(&master).unwrap();
        fs::write(
            &master,
            text.replacen("pickup    unix  n  -  n  60 ", "pickup    unix  n  -  n  1 ", 1),
        )
        .unwrap();
        if keeper == Keeper::Ours {
            postfix.without(QUEUE);
        }
        postfix.start();
        let config = postfix.config().display().to_string();
        let run = scratch.directory("run");
        let ours = (keeper == Keeper::Ours)
            .then(|| Daemon::start("queue-manager", &run, &["-c", &config]));
        Self {
            ours,
            postfix,
            fast: Sink::start(fast),
            back: Sink::start(back),
            slow,
            ids: BTreeMap::new(),
            known: BTreeMap::new(),
            said: Vec::new(),
            _scratch: scratch,
        }
    }

    fn put_in(&mut self) {
        let mut smtp = Client::tcp(self.postfix.port);
        assert!(smtp.reply().starts_with("220 "));
        smtp.expect("EHLO client.example", "250");
        for number in 1..=WAITING {
            smtp.expect("MAIL FROM:<bob@back.test>", "250");
            smtp.expect(&format!("RCPT TO:<m{number}@slow.test>"), "250");
            smtp.expect("DATA", "354");
            smtp.expect(
                &format!("Subject: {number}\r\nMessage-ID: <{number}@commands.test>\r\n\r\nbody {number}\r\n."),
                "250",
            );
        }
        smtp.expect("QUIT", "221");
    }

    /// The waiting messages as postqueue -j lists them.
    fn listed(&mut self) -> BTreeMap<usize, serde_json::Value> {
        let text = self.postfix.command(&["postqueue", "-j"]);
        let mut found = BTreeMap::new();
        for line in text.lines() {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let address = message["recipients"][0]["address"].as_str().unwrap_or_default();
            if let Some(number) = address.strip_suffix("@slow.test") {
                let number = number.trim_start_matches('m').parse().unwrap();
                // One that moves while the queue is read may be seen in both places.
                found.insert(number, message);
            }
        }
        for (number, message) in &found {
            let id = message["queue_id"].as_str().unwrap().to_owned();
            self.known.insert(id.clone(), *number);
            self.ids.insert(*number, id);
        }
        found
    }

    /// How often each waiting message has been put off.
    fn attempts(&self) -> BTreeMap<usize, usize> {
        let ours = self.ours.iter().flat_map(|ours| ours.log.lines());
        let lines: Vec<String> =
            self.postfix.log.lines().into_iter().chain(ours).map(|line| line.text).collect();
        let of = |number: usize| {
            let to = format!(": to=<m{number}@slow.test>, ");
            lines.iter().filter(|l| l.contains(&to) && l.contains("status=deferred")).count()
        };
        (1..=WAITING).map(|number| (number, of(number))).collect()
    }

    /// Waits until each of these has been tried once more than `before`.
    #[track_caller]
    fn tried(&self, before: &BTreeMap<usize, usize>, numbers: impl IntoIterator<Item = usize>) {
        let numbers: Vec<usize> = numbers.into_iter().collect();
        eventually(&format!("an attempt for {numbers:?}"), || {
            let now = self.attempts();
            numbers.iter().all(|number| now[number] > before[number]).then_some(())
        });
    }

    fn learn(&mut self) {
        drop(self.listed());
    }

    /// Waits until the waiting messages lie in these queues, and notes the whole listing.
    #[track_caller]
    fn becomes(&mut self, wanted: &BTreeMap<usize, &'static str>) {
        let seen = eventually(&format!("{wanted:?}"), || {
            let seen = self.listed();
            let queues =
                seen.iter().map(|(n, message)| (*n, message["queue_name"].as_str().unwrap()));
            let told = |message: &serde_json::Value| {
                message["recipients"][0]["delay_reason"].is_string()
                    || message["queue_name"] == "hold"
            };
            (queues.eq(wanted.iter().map(|(n, queue)| (*n, *queue))) && seen.values().all(told))
                .then_some(seen)
        });
        for mut message in seen.into_values() {
            for varying in ["arrival_time", "message_size"] {
                assert!(message[varying].is_number());
                message[varying] = 0.into();
            }
            let text = self.plain(&message.to_string());
            self.said.push(text);
        }
    }

    /// Runs a command of Postfix, in which messages are named m1 to m9, and notes what it says.
    #[track_caller]
    fn run(&mut self, words: &[&str], input: &str) {
        self.said.push(format!("$ {}", words.join(" ")));
        let id = |word: &str| {
            let number = word.strip_prefix('m').and_then(|number| number.parse::<usize>().ok());
            number.map_or(word.to_owned(), |number| self.ids[&number].clone())
        };
        let words: Vec<String> = words.iter().map(|word| id(word)).collect();
        let input: String = input.lines().map(|line| id(line) + "\n").collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env("MAIL_CONFIG", self.postfix.config())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.lines().filter(|line| !line.contains(COMING));
        let mut lines: Vec<String> = lines.map(|line| self.plain(line)).collect();
        if words.iter().any(|word| word == "ALL") {
            lines.sort(); // they come in the order of the directory
        }
        self.said.push(format!("{}\n{:?}", lines.join("\n"), output.status.code()));
    }

    /// Without what differs between any two runs: queue ids, ports, times and the sizes that contain an id.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (id, number) in &self.known {
            text = text.replace(&format!("{}/{id}", &id[..1]), &format!("h/m{number}"));
            text = text.replace(id, &format!("m{number}"));
        }
        // Which message finds the host dead, and which ones wait for that, is chance.
        text.replace(&self.slow.to_string(), "PORT").replace("delivery temporarily suspended: ", "")
    }

    fn messages(&self) -> Vec<PathBuf> {
        let names = ["maildrop", "incoming", "active", "deferred", "hold"];
        names.iter().flat_map(|name| files(&self.postfix.queue().join(name))).collect()
    }

    /// (postsuper -r leaves these behind, whoever has the queue; `-s` takes them away when they are a week old.)
    fn logs(&self) -> Vec<PathBuf> {
        let names = ["bounce", "defer", "trace"];
        names.iter().flat_map(|name| files(&self.postfix.queue().join(name))).collect()
    }

    /// Every way to look at it.
    fn look_at_the_queue(&mut self) {
        for words in [&["postqueue", "-p"][..], &["mailq"], &["sendmail", "-bp"]] {
            let text = self.postfix.command(words);
            // A block for each message: id, size, date, sender; the reason; the recipients.
            let mut blocks: Vec<String> = text
                .split("\n\n")
                .filter(|block| block.contains("bob@back.test"))
                .map(|block| {
                    let start = block.rfind("\n-Queue").map_or(0, |at| at + 1);
                    let words: Vec<&str> = block[start..].split_whitespace().collect();
                    let from = words.iter().position(|word| *word == "bob@back.test").unwrap();
                    let id = self.plain(words[from - 6]);
                    self.plain(&format!("{id} {}", words[from..].join(" ")))
                })
                .collect();
            blocks.sort();
            assert_eq!(blocks.len(), WAITING, "{text}");
            self.said.extend(blocks);
            assert!(text.contains("-Queue ID-") && text.contains(" Request"), "{text}");
        }
        for option in ["-q", "-eq", "-hq", "-bq", "-bhq"] {
            self.postcat(option);
        }
    }

    /// What is in m1, without sizes, times and ports.
    #[track_caller]
    fn postcat(&mut self, option: &str) {
        let id = self.ids[&1].clone();
        let text = self.postfix.command(&["postcat", option, &id]);
        let varies = |line: &&str| {
            [
                "message_size",
                "message_arrival_time",
                "create_time",
                "client_port",
                "server_port",
                "Date:",
                "\tfor <",
                "; ",
            ]
            .iter()
            .any(|word| line.contains(word))
        };
        let lines: Vec<String> =
            text.lines().filter(|line| !varies(line)).map(|line| self.plain(line)).collect();
        self.said.push(format!("$ postcat {option}\n{}", lines.join("\n")));
    }

    /// One file at the wrong place, one under a wrong name: `-s` mends both, and their mail waits as before.
    fn structure(&mut self, deferred: &BTreeMap<usize, &'static str>) {
        let path = |id: &str| self.postfix.queue().join("deferred").join(&id[..1]).join(id);
        let (misplaced, renamed) = (self.ids[&4].clone(), self.ids[&5].clone());
        let right = path(&misplaced);
        let wrong = self.postfix.queue().join("deferred").join(&misplaced);
        fs::rename(&right, &wrong).unwrap();
        let file = path(&renamed);
        let copy = file.with_extension("copy");
        let done = Command::new("cp").arg("-p").args([&file, &copy]).status().unwrap();
        assert!(done.success());
        fs::rename(&copy, &file).unwrap();
        // The logs of the queue manager may still be open; nothing of these messages is under way.
        self.said.push("$ postsuper -s".to_owned());
        let output = Command::new("postsuper")
            .arg("-s")
            .env("MAIL_CONFIG", self.postfix.config())
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("Renamed to match inode number: 1 message"), "{text}");
        assert!(right.exists() && !wrong.exists());
        assert!(!file.exists(), "has the name of its inode");
        self.learn();
        let text: String =
            text.lines().filter(|line| !line.contains(COMING)).map(|l| format!("{l}\n")).collect();
        self.said.push(self.plain(&text));
        self.becomes(deferred);
        assert_ne!(self.ids[&5], renamed);
        self.run(&["postsuper", "-s"], "");
        self.run(&["postsuper", "-p", "deferred"], "");
    }

    fn remove_and_expire(&mut self, left: &mut BTreeMap<usize, &'static str>) {
        let gone = self.ids[&4].clone();
        self.run(&["postsuper", "-d", "m4"], "");
        left.remove(&4);
        self.becomes(left);
        let of_it = |path: &PathBuf| path.file_name().is_some_and(|name| *name == *gone);
        assert!(!self.messages().iter().chain(&self.logs()).any(of_it), "neither message nor log");
        self.run(&["postsuper", "-d", "m4"], ""); // nothing is no fault
        self.run(&["postsuper", "-h", "m6"], "");
        left.insert(6, "hold");
        self.becomes(left);
        self.run(&["postsuper", "-e", "m5", "-f", "m6"], "");
        let before = self.attempts();
        self.run(&["postqueue", "-f"], "");
        left.retain(|number, _| ![5, 6].contains(number));
        self.tried(&before, left.keys().copied().filter(|number| *number != 1));
        self.becomes(left);
        eventually("two notices", || (self.back.account().len() == 2).then_some(()));
    }

    /// The host lives: one message goes, then those of its site, and what is held stays.
    fn send_some(&mut self, slow: &Sink, left: &mut BTreeMap<usize, &'static str>) {
        self.run(&["postqueue", "-i", "m7"], "");
        left.remove(&7);
        // A listing misses a message that goes from one queue to the other meanwhile, so the host is asked first.
        eventually("one message at the host", || (slow.account().len() == 1).then_some(()));
        self.becomes(left);
        assert_eq!(slow.account().len(), 1);
        self.run(&["postqueue", "-s", "slow.test"], "");
        left.retain(|_, queue| *queue == "hold");
        eventually("five messages at the host", || (slow.account().len() == 5).then_some(()));
        self.becomes(left);
        let got = slow.account();
        let wanted: Vec<String> =
            [2, 3, 7, 8, 9].map(|number| format!("m{number}@slow.test")).into();
        assert_eq!(got.keys().map(|(_, address)| address.clone()).collect::<Vec<_>>(), wanted);
        assert!(got.values().all(|count| *count == 1), "{got:?}");
    }

    /// Nobody complains.
    fn logs_are_quiet(&self) {
        let mut text = self.postfix.log.text();
        if let Some(ours) = &self.ours {
            text.push_str(&ours.log.text());
        }
        let complains = |line: &&str| {
            let words = ["warning:", "error:", "fatal:", "panic:", "throttling"];
            words.iter().any(|word| line.contains(word))
                && !ALLOWED.iter().any(|word| line.contains(word))
        };
        let bad: Vec<&str> = text.lines().filter(complains).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

/// Mail to a host that lives, all the time.
struct Flow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<String>>,
}

impl Flow {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let mut smtp = Client::tcp(port);
            assert!(smtp.reply().starts_with("220 "));
            smtp.expect("EHLO client.example", "250");
            let mut sent = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let id = format!("<{}@flow.test>", sent.len());
                smtp.expect("MAIL FROM:<alice@back.test>", "250");
                smtp.expect("RCPT TO:<anna@fast.test>", "250");
                smtp.expect("DATA", "354");
                smtp.expect(&format!("Message-ID: {id}\r\n\r\nbody\r\n."), "250");
                sent.push(id);
                // A host's mail, not a benchmark.
                std::thread::park_timeout(std::time::Duration::from_millis(20));
            }
            sent
        });
        Self { stop, sender }
    }

    /// The Message-IDs of all that were accepted.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.sender.join().unwrap()
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}
