//! Draining a queue: mail that waits in `incoming` goes to Postfix's smtp-sink on loopback addresses, through Postfix's queue manager
//! with Postfix's smtp, the same with ours, and through our queue manager with ours.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::postfix::Postfix;
use harness::{Daemon, Scratch, dns, ports};

use super::processes::Tree;
use super::{Comparison, Figure, stop};

/// Hosts that the messages are for.
const DESTINATIONS: &[usize] = &[1, 50];
const RUNS: usize = 3;
/// What a queue that does not move is given before the benchmark gives up.
const LONGEST: Duration = Duration::from_secs(300);

/// What our queue-manager stands in for.
const QUEUE: &[(&str, &str)] = &[
    ("pickup", "unix"),
    ("cleanup", "unix"),
    ("qmgr", "unix"),
    ("rewrite", "unix"),
    ("bounce", "unix"),
    ("defer", "unix"),
    ("trace", "unix"),
    ("flush", "unix"),
    ("error", "unix"),
    ("retry", "unix"),
    ("discard", "unix"),
    ("showq", "unix"),
];
const SMTP: &[(&str, &str)] = &[("smtp", "unix"), ("relay", "unix"), ("lmtp", "unix")];

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Theirs,
    OurSmtp,
    OurQueue,
}

/// Each load with our smtp alone and with our queue manager too, beside the same runs of Postfix.
pub fn run(messages: usize) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for destinations in DESTINATIONS {
        let hosts = Hosts::start(*destinations);
        let mut figures: [Vec<Figure>; 3] = Default::default();
        for _ in 0..RUNS {
            for (side, figures) in
                [Side::Theirs, Side::OurSmtp, Side::OurQueue].into_iter().zip(&mut figures)
            {
                figures.push(measure(side, &hosts, messages));
            }
        }
        let [theirs, smtp, queue] = figures;
        let load = |by: &str| format!("{messages} messages to {destinations} destinations, {by}");
        comparisons.push(Comparison {
            load: load("Postfix's queue manager"),
            ours: smtp,
            theirs: theirs.clone(),
        });
        comparisons.push(Comparison { load: load("our queue-manager"), ours: queue, theirs });
    }
    comparisons
}

/// The receiving hosts and the name server that knows them.
struct Hosts {
    domains: Vec<String>,
    dns: dns::Server,
    sinks: Vec<Child>,
}

impl Hosts {
    fn start(count: usize) -> Self {
        let (mut zone, mut domains, mut sinks) = (String::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let (address, domain) = (ports::address(), format!("d{number}.bench.test"));
            zone.push_str(&format!("{domain} MX 10 mx.{domain}\nmx.{domain} A {address}\n"));
            let mut sink = Command::new("smtp-sink");
            sink.args(["-u", "nobody", &format!("{address}:25"), "200"]).stdin(Stdio::null());
            sinks.push(sink.spawn().unwrap_or_else(|error| stop(&format!("smtp-sink: {error}"))));
            domains.push(domain);
        }
        Self { domains, dns: dns::Server::start(&zone), sinks }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for sink in &mut self.sinks {
            let _ = sink.kill();
            let _ = sink.wait();
        }
    }
}

fn measure(side: Side, hosts: &Hosts, messages: usize) -> Figure {
    let scratch = Scratch::new();
    let mut postfix = Postfix::lay(&scratch, "in_flow_delay = 0\nsmtp_address_preference = ipv4\n");
    let name_server = hosts.dns.address();
    postfix.sees(&format!("nameserver {}\n", name_server.ip()), "127.0.0.1 localhost\n");
    let master = postfix.config().join("master.cf");
    let whole = read(&master);
    postfix.without(&[("qmgr", "unix")]);
    postfix.start();
    fill(&postfix, hosts, messages);
    postfix.stop();
    write(&master, &whole);
    match side {
        Side::Theirs => {}
        Side::OurSmtp => postfix.without(SMTP),
        Side::OurQueue => postfix.without(&[SMTP, QUEUE].concat()),
    }
    let config = postfix.config().display().to_string();
    let run = scratch.join("run");
    let servers = format!("resolver.servers=[\"{name_server}\"]");
    let mut daemons = Vec::new();
    if side != Side::Theirs {
        let words = ["-c", &config, "--set", &servers];
        daemons.push(Daemon::start("smtp-delivery", &run, &words));
    }
    if side == Side::OurQueue {
        daemons.push(Daemon::start("queue-manager", &run, &["-c", &config]));
    } else {
        postfix.start();
    }
    let start = Instant::now();
    let mut roots: Vec<i32> = daemons.iter().map(Daemon::pid).collect();
    if side != Side::OurQueue {
        roots.push(postfix.master_pid());
    }
    let tree = Tree::of(&roots);
    let memory = drain(&postfix.queue(), &tree);
    let figure = Figure {
        rate: messages as f64 / start.elapsed().as_secs_f64(),
        cpu: tree.cpu() * 1000.0 / messages as f64,
        memory,
    };
    let left = count(&postfix.queue().join("deferred")) + count(&postfix.queue().join("bounce"));
    if left > 0 {
        stop(&format!("{left} messages were not delivered"));
    }
    for daemon in &mut daemons {
        daemon.stop();
    }
    postfix.stop();
    figure
}

/// Accepts the messages; nobody delivers them yet.
fn fill(postfix: &Postfix, hosts: &Hosts, messages: usize) {
    let share = (messages / hosts.domains.len()).to_string();
    for domain in &hosts.domains {
        let mut source = Command::new("smtp-source");
        source.args(["-s", "20", "-m", &share, "-l", "1000", "-d", "-f", "from@example.com"]);
        source.args(["-t", &format!("to@{domain}"), &format!("127.0.0.1:{}", postfix.port)]);
        match source.stdin(Stdio::null()).status() {
            Ok(status) if status.success() => {}
            other => stop(&format!("smtp-source: {other:?}")),
        }
    }
}

/// Waits for an empty queue; gives the largest memory seen.
fn drain(queue: &Path, tree: &Tree) -> f64 {
    let end = Instant::now() + LONGEST;
    let (mut memory, mut looked): (f64, Option<Instant>) = (0.0, None);
    while ["incoming", "active"].iter().any(|name| count(&queue.join(name)) > 0) {
        if looked.is_none_or(|at| at.elapsed() > Duration::from_millis(500)) {
            memory = memory.max(tree.memory());
            looked = Some(Instant::now());
        }
        if Instant::now() > end {
            stop("the queue does not get empty");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    memory.max(tree.memory())
}

/// Files below a directory.
fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count(&entry.path()),
        Ok(_) => 1,
        Err(_) => 0,
    });
    files.sum()
}

fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    text.unwrap_or_else(|error| stop(&format!("{}: {error}", path.display())))
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        stop(&format!("{}: {error}", path.display()));
    }
}
