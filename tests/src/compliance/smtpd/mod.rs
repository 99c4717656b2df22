//! smtpd: dialogues against Debian's Postfix and ours, over one and the same queue.
//!
//! `cases/*.txt` hold the dialogues with the replies that both must give; a case is a service of its own in
//! master.cf, so every setting can be tried. Beyond the replies written there, all replies, all log lines of the
//! two servers and the queue files are compared word for word.

mod case;
mod peers;
mod policy_server;
mod transcript;

use harness::skip;

use case::Case;
use peers::Peers;

fn run(topic: &str) {
    if !skip::can_run(true, &["postfix", "dovecot"]) {
        return;
    }
    let directory = format!("{}/src/compliance/smtpd/cases", env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(format!("{directory}/{name}")).unwrap();
    let mut cases = Case::read_all(&read(&format!("{topic}.txt")));
    if let Ok(only) = std::env::var("THEORIS_CASE") {
        cases.retain(|case| case.name.contains(&only));
    }
    let zone = matches!(topic, "dns" | "screen").then(|| read("dns.zone"));
    let peers = Peers::start(&cases, zone.as_deref());
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        failures.extend(peers.compare(number, case));
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
    println!("{topic}: {} cases", cases.len());
}

#[test]
fn dialogue() {
    run("dialogue");
}

#[test]
fn envelope() {
    run("envelope");
}

#[test]
fn content() {
    run("content");
}

#[test]
fn restrictions() {
    run("restrictions");
}

#[test]
fn access_tables() {
    run("access");
}

#[test]
fn limits() {
    run("limits");
}

#[test]
fn logins() {
    run("auth");
}

#[test]
fn dns() {
    run("dns");
}

#[test]
fn policy_services() {
    run("policy");
}

#[test]
fn tls() {
    run("tls");
}

#[test]
fn screening() {
    run("screen");
}
