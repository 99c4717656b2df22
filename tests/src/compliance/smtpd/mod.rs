//! smtpd: dialogues against Debian's Postfix and ours, over one and the same queue.
//!
//! `cases/*.txt` hold the dialogues with the replies that both must give; a case is a service of its own in
//! master.cf, so every setting can be tried. Beyond the replies written there, all replies, all log lines of the
//! two servers and the queue files are compared word for word.

mod agreeing;
mod case;
mod client;
mod peers;
mod policy_server;
mod readers;
mod transcript;

use harness::{proof, skip};

use case::Case;
use peers::Peers;

/// The files of `cases`.
const TOPICS: &[&str] = &[
    "access",
    "auth",
    "content",
    "dialogue",
    "dns",
    "envelope",
    "limits",
    "notices",
    "policy",
    "restrictions",
    "screen",
    "tls",
];

fn file(name: &str) -> String {
    let path = format!("{}/src/compliance/smtpd/cases/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn cases(topic: &str) -> Vec<Case> {
    Case::read_all(&file(&format!("{topic}.txt")))
}

fn run(topic: &str) {
    if !skip::can_run(true, &["postfix", "dovecot"]) {
        return;
    }
    let mut cases = cases(topic);
    proof::keep_concerned(&mut cases, Case::sets);
    if let Ok(only) = std::env::var("THEORIS_CASE") {
        cases.retain(|case| case.name.contains(&only));
    }
    let zone = matches!(topic, "dns" | "screen").then(|| file("dns.zone"));
    let peers = Peers::start(&cases, zone.as_deref());
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        failures.extend(peers.compare(number, case));
        if proof::is_found(&failures) {
            break;
        }
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

/// What the postmaster hears of sessions that went wrong.
#[test]
fn notices() {
    run("notices");
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

/// Every setting of smtpd and postscreen that is obeyed has another value than its default in some case, or a test
/// elsewhere.
#[test]
fn every_setting_has_a_case() {
    /// Set for every case by the rig.
    const EVERYWHERE: &[&str] = &["smtpd_sasl_path", "smtpd_sasl_type", "smtpd_service_name"];
    let set: std::collections::BTreeSet<String> = TOPICS
        .iter()
        .flat_map(|topic| cases(topic))
        .flat_map(|case| case.settings.into_iter().map(|(name, _)| name))
        .collect();
    let register = format!("{}/../crates/config/register/postfix.tsv", env!("CARGO_MANIFEST_DIR"));
    let register = std::fs::read_to_string(register).unwrap();
    let without: Vec<&str> = register
        .lines()
        .skip(1)
        .map(|row| row.split('\t').collect::<Vec<_>>())
        .filter(|row| row[5].split(' ').any(|reader| matches!(reader, "smtpd" | "postscreen")))
        .filter(|row| matches!(row[6], "supported" | "differs"))
        .filter(|row| row[9].is_empty() || row[9].starts_with("compliance::smtpd::"))
        .map(|row| row[0])
        .filter(|name| !set.contains(*name) && !EVERYWHERE.contains(name))
        .collect();
    assert!(without.is_empty(), "no case sets {without:?}");
}

/// A server that says yes to everything, in Postfix's words, is found out in each case: by a reply, by a message that is
/// not in the queue, or by a line that its log should hold.
#[test]
fn no_case_is_content_with_a_server_that_always_agrees() {
    let all: Vec<(&str, Case)> = TOPICS
        .iter()
        .chain(&["abuse"])
        .flat_map(|topic| cases(topic).into_iter().map(move |case| (*topic, case)))
        .collect();
    let content: Vec<String> = all
        .iter()
        .filter(|(_, case)| agreeing::difference(case).is_none())
        .map(|(topic, case)| format!("{topic}: {}", case.name))
        .collect();
    assert!(content.is_empty(), "content are {} of {}: {content:#?}", content.len(), all.len());
    assert!(all.len() >= 150, "{} cases", all.len());
}
