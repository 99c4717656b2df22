//! The sandbox of the real daemons: every worker that meets anybody stands behind all three walls before it starts
//! its first thread. What the walls keep out is tried in `attempts.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use harness::site::Site;
use harness::strace::Strace;
use harness::{Daemon, Scratch, skip};

/// Those that start programs or load modules of the host: outside on purpose.
pub const OUTSIDE: [&str; 2] = ["authd: auth-worker", "lmtp-delivery: runner"];
const CALLS: &str = "execve,prctl,landlock_restrict_self,seccomp,clone,clone3";

pub fn role(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(line.split(|octet| *octet == 0).next().unwrap_or_default()).into_owned()
}

fn fact(pid: i32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("gone").trim().to_owned()
}

fn stands_inside(daemon: &Daemon) -> Vec<String> {
    let mut roles = Vec::new();
    for pid in daemon.workers() {
        let role = role(pid);
        let facts = [fact(pid, "NoNewPrivs:"), fact(pid, "Seccomp:"), fact(pid, "CapEff:")];
        if OUTSIDE.contains(&role.as_str()) {
            continue;
        }
        assert_eq!(facts, ["1", "2", "0000000000000000"], "{role}");
        roles.push(role);
    }
    roles
}

/// The calls of each worker that was started while strace looked, by its name.
fn by_worker(record: &str) -> BTreeMap<String, Vec<&str>> {
    let mut named: BTreeMap<&str, String> = BTreeMap::new();
    let mut calls: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in record.lines() {
        let Some((pid, call)) = line.trim_start().split_once(' ') else { continue };
        if call.contains("execve(") && call.contains("--theoris-worker") {
            let name = call.split_once("[\"").and_then(|(_, rest)| rest.split_once('"'));
            named.insert(pid, name.map_or("", |(name, _)| name).to_owned());
        } else if let Some(name) = named.get(pid) {
            calls.entry(name.clone()).or_default().push(call);
        }
    }
    calls
}

#[test]
fn every_worker_is_confined_before_its_first_thread() {
    if !skip::can_run(true, &["strace"]) {
        return;
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let scratch = Scratch::new();
    let site = Site::render(&samples.join("guide"), scratch.path());
    let mut seen = 0;
    for daemon in site.start_all() {
        seen += stands_inside(&daemon).len();
        let output = scratch.path().join("calls");
        let strace = Strace::attach(&[daemon.pid()], CALLS, &output);
        daemon.reload();
        let record = strace.finish();
        let workers = by_worker(&record);
        assert!(!workers.is_empty(), "{record}");
        for (name, calls) in workers.iter().filter(|(name, _)| !OUTSIDE.contains(&name.as_str())) {
            let first = |call: &str| calls.iter().position(|line| line.contains(call));
            let (landlock, seccomp) = (first("landlock_restrict_self"), first("seccomp("));
            assert!(landlock.is_some() && seccomp > landlock, "{name}: {calls:#?}");
            let thread = calls.iter().position(|line| line.contains("clone"));
            assert!(thread.is_none() || thread > seccomp, "{name}: {calls:#?}");
        }
    }
    assert!(seen >= 10, "{seen} workers");
}
