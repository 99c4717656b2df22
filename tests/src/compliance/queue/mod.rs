//! The queue: what ours writes is what Postfix writes, and each reads the other's.

mod cases;
mod client;
mod commands;
mod postsuper;
mod settings;

use harness::postfix::Postfix;
use harness::{Daemon, Scratch, skip};

use client::{Taken, give};

const TABLES: &str = "\
virtual_alias_maps = inline:{two@example.com=a@example.com,{three@v.test = a@x.test b@x.test me}}
header_checks = regexp:{
  {/^Subject: rej/ REJECT no such subject}
  {/^Subject: rep/ REPLACE Subject: replaced}
  {/^Subject: pre/ PREPEND X-Pre: yes}
  {/^Subject: hold/ HOLD why}
  {/^Subject: warn/ WARN w}
  {/^Subject: strip/ STRIP s}
  {/^Subject: redir/ REDIRECT you@x.test}
  {/^Subject: filt/ FILTER smtp:[127.0.0.1]}
  {/^Subject: bcc/ BCC bcc@x.test}
  {/^Subject: disc/ DISCARD d}
  {/^X-Ign/ IGNORE}
  {/^X-Part: rej/ REJECT part} }
body_checks = regexp:{
  {/^badbody/ REJECT bad body}
  {/^repbody/ REPLACE good body}
  {/^prebody/ PREPEND before}
  {/^ignbody/ IGNORE} }
delay_warning_time = 4h
always_bcc = archive
sender_bcc_maps = inline:{s@example.com=sbcc@x.test}
recipient_bcc_maps = inline:{r@example.com=rbcc}
sender_canonical_maps = inline:{canon@example.com=real@example.com}
in_flow_delay = 0
";

/// A Postfix whose queue nobody empties.
fn theirs(scratch: &Scratch, main: &str) -> Postfix {
    let mut postfix = Postfix::lay(scratch, main);
    postfix.without(&[("qmgr", "unix")]);
    postfix.start();
    postfix
}

/// The same with our queue-manager in the place of cleanup, pickup and showq, and nothing else.
fn ours(scratch: &Scratch, main: &str) -> (Postfix, Daemon) {
    let postfix = Postfix::lay(scratch, main);
    postfix.without(&[("cleanup", "unix"), ("pickup", "unix"), ("showq", "unix")]);
    postfix.check();
    let config = postfix.config();
    let daemon = Daemon::start(
        "queue-manager",
        &scratch.directory("run"),
        &["-c", config.to_str().unwrap()],
    );
    (postfix, daemon)
}

/// Each case goes to Postfix's cleanup and to ours: same answer, same queue, same records.
#[test]
fn both_cleanups_write_the_same_queue_file() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let (their_scratch, our_scratch) = (Scratch::new(), Scratch::new());
    let theirs = theirs(&their_scratch, TABLES);
    let (ours, _daemon) = ours(&our_scratch, TABLES);
    let mut differing = Vec::new();
    for case in cases::all() {
        let expected: Taken = give(&theirs.queue(), case.flags, &case.records);
        let got: Taken = give(&ours.queue(), case.flags, &case.records);
        if expected != got {
            differing.push(format!("{}:\n theirs {expected:#?}\n ours {got:#?}", case.name));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The lines that log readers count are the same, too.
#[test]
fn both_cleanups_log_the_same() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let (their_scratch, our_scratch) = (Scratch::new(), Scratch::new());
    let theirs = theirs(&their_scratch, TABLES);
    let (ours, daemon) = ours(&our_scratch, TABLES);
    for case in cases::all().into_iter().filter(|case| case.logged) {
        let lines = |log: &harness::Log, queue: &std::path::Path| {
            let before = log.lines().len();
            let taken = give(queue, case.flags, &case.records);
            log.wait_until("a line about the check", |lines| {
                let about = |text: &str| text.contains(": header ") || text.contains(": body ");
                lines
                    .iter()
                    .any(|line| line.text.contains(&taken.id) && about(&line.text))
                    .then_some(())
            });
            // A process of Postfix may write of the message before when this one has begun.
            let told: Vec<String> = log.lines()[before..]
                .iter()
                .filter(|line| line.text.contains(&taken.id))
                .filter_map(|line| {
                    let text = line.text.split_once("/cleanup[")?.1;
                    Some(text.split_once("]: ")?.1.replace(&taken.id, "ID"))
                })
                .filter(|text| !text.contains("public/qmgr") && !text.contains("message-id="))
                .collect();
            told
        };
        let expected = lines(&theirs.log, &theirs.queue());
        assert_eq!(lines(&daemon.log, &ours.queue()), expected, "{}", case.name);
    }
}

/// A client that goes away, or sends what is no record, leaves nothing behind.
#[test]
fn broken_clients_leave_no_file() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let (postfix, _daemon) = ours(&scratch, "");
    let case = cases::all().remove(0);
    let bytes = client::bytes(case.flags, &case.records);
    for length in (0..bytes.len()).step_by(37) {
        client::cut(&postfix.queue(), &bytes[..length]);
    }
    client::cut(&postfix.queue(), b"flags\x00178\0\0N\xff\xff\xff\xff\xff\xff");
    client::cut(&postfix.queue(), &[0xff; 200_000]);
    harness::log::eventually("incoming to be empty", || {
        std::fs::read_dir(postfix.queue().join("incoming")).unwrap().next().is_none().then_some(())
    });
    assert!(give(&postfix.queue(), case.flags, &case.records).file.is_some());
}

/// What cannot be written is refused with the status for a write error, and goes away.
#[test]
fn a_file_that_grows_beyond_the_limit_is_refused() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let (postfix, _daemon) = ours(&scratch, "message_size_limit = 20000\n");
    let case = cases::all().into_iter().find(|case| case.name == "big").unwrap();
    let taken = give(&postfix.queue(), case.flags, &case.records);
    assert_eq!(taken.answer, "status|4|reason|||");
    harness::log::eventually("incoming to be empty", || {
        std::fs::read_dir(postfix.queue().join("incoming")).unwrap().next().is_none().then_some(())
    });
}
