//! Accepting mail: Postfix's own load generator, smtp-source, against smtpd and cleanup of each side. Each 250 follows an fsync on
//! both; the mail goes to `discard:`, so that accepting is what is measured.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::postfix::Postfix;
use harness::{Daemon, Scratch};

use super::processes::Tree;
use super::{Comparison, Figure, stop};

const MAIN: &str = "\
relay_domains = bench.example
relay_transport = discard:
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
";

/// Sessions at a time, messages in all, octets of each.
const LOADS: &[(usize, usize, usize)] =
    &[(1, 300, 1_000), (10, 2_000, 1_000), (50, 4_000, 1_000), (10, 500, 100_000)];
const RUNS: usize = 3;

pub fn run() -> Vec<Comparison> {
    let (our_directory, their_directory) = (Scratch::new(), Scratch::new());
    let ours = Postfix::lay(&our_directory, MAIN);
    ours.check();
    let run = our_directory.join("run");
    let config = ours.config().display().to_string();
    let daemons: Vec<Daemon> = ["queue-manager", "smtpd"]
        .iter()
        .map(|name| Daemon::start(name, &run, &["-c", &config]))
        .collect();
    let our_tree = Tree::of(&daemons.iter().map(Daemon::pid).collect::<Vec<_>>());
    let mut theirs = Postfix::lay(&their_directory, MAIN);
    theirs.start();
    let their_tree = Tree::of(&[theirs.master_pid()]);
    LOADS
        .iter()
        .map(|load| {
            let mut comparison = Comparison {
                load: format!("{} sessions, {} messages of {} octets", load.0, load.1, load.2),
                ours: Vec::new(),
                theirs: Vec::new(),
            };
            for _ in 0..RUNS {
                comparison.ours.push(measure(ours.port, &our_tree, *load));
                comparison.theirs.push(measure(theirs.port, &their_tree, *load));
            }
            comparison
        })
        .collect()
}

fn measure(port: u16, tree: &Tree, (sessions, messages, octets): (usize, usize, usize)) -> Figure {
    let cpu = tree.cpu();
    let start = Instant::now();
    let mut source = Command::new("smtp-source");
    source.args([
        "-s",
        &sessions.to_string(),
        "-m",
        &messages.to_string(),
        "-l",
        &octets.to_string(),
        "-d",
    ]);
    source.args(["-f", "from@example.com", "-t", "to@bench.example", &format!("127.0.0.1:{port}")]);
    let mut child = source
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| stop(&format!("smtp-source: {error}")));
    let done = Arc::new(AtomicBool::new(false));
    let mut memory: f64 = 0.0;
    let waiter = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let status = child.wait();
            done.store(true, Ordering::Relaxed);
            (status, Instant::now())
        })
    };
    while !done.load(Ordering::Relaxed) {
        memory = memory.max(tree.memory());
        std::thread::sleep(Duration::from_millis(250));
    }
    let Ok((Ok(status), end)) = waiter.join() else { stop("smtp-source was lost") };
    if !status.success() {
        stop(&format!("smtp-source: {status}"));
    }
    let wall = end.duration_since(start).as_secs_f64();
    Figure {
        rate: messages as f64 / wall,
        cpu: (tree.cpu() - cpu) * 1000.0 / messages as f64,
        memory,
    }
}
