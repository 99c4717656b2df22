//! Mail to other hosts: Postfix's smtp(8) and ours, under Postfix's queue manager, against the same scripted hosts.
//!
//! `cases/*.txt` hold the cases with the outcome that both must give (see `case.rs` for their language); a case is a
//! delivery service of its own in master.cf, so every setting can be tried. Beyond what is written there, the log lines, what
//! the remote hosts were told, the defer logs and the notices to the sender are compared word for word.

mod case;
mod side;
mod transcript;

use harness::{proof, skip};

use case::Case;
use side::{Side, Who};

fn run(topic: &str) {
    if !skip::can_run(true, &["postfix", "unshare"]) {
        return;
    }
    let path = format!("{}/src/compliance/outbound/cases/{topic}.txt", env!("CARGO_MANIFEST_DIR"));
    let mut cases = Case::read_all(&std::fs::read_to_string(&path).unwrap());
    proof::keep_concerned(&mut cases, Case::sets);
    if let Ok(only) = std::env::var("THEORIS_CASE") {
        cases.retain(|case| case.name.contains(&only));
    }
    // THEORIS_PEER=theirs: only Postfix, to see what it does.
    let alone = std::env::var("THEORIS_PEER").is_ok_and(|peer| peer == "theirs");
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| Side::play(Who::Theirs, &cases));
        let ours = (!alone).then(|| scope.spawn(|| Side::play(Who::Ours, &cases)));
        (theirs.join().unwrap(), ours.map(|ours| ours.join().unwrap()).unwrap_or_default())
    });
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut failure = case.judge(&theirs[number]).map_err(|why| format!("Postfix: {why}"));
        if let (Ok(()), Some(ours)) = (&failure, ours.get(number)) {
            failure = case
                .judge(ours)
                .and_then(|()| theirs[number].difference(ours, case.any_log))
                .map_err(|why| format!("ours: {why}"));
        }
        if alone && std::env::var_os("THEORIS_CASE").is_some() {
            println!("case {}\n{}", case.name, theirs[number]);
        }
        if let Err(why) = failure {
            failures.push(format!("case {}\n{why}", case.name));
        }
    }
    let count = cases.len();
    assert!(
        failures.is_empty(),
        "{} of {count} cases:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    println!("{topic}: {count} cases");
}

#[test]
fn stages() {
    run("stages");
}

#[test]
fn names() {
    run("names");
}

#[test]
fn tls() {
    run("tls");
}

#[test]
fn logins() {
    run("logins");
}

#[test]
fn content() {
    run("content");
}
