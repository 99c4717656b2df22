//! The commands: ours on Postfix's queue, Postfix's on ours.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::postfix::Postfix;
use harness::{Scratch, binaries, skip};

use super::client::shown;
use super::{cases, client};

fn run(program: &Path, postfix: &Postfix, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(words)
        .env("MAIL_CONFIG", postfix.config())
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn original(name: &str) -> std::path::PathBuf {
    Path::new(if name == "mailq" { "/usr/bin" } else { "/usr/sbin" }).join(name)
}

/// Leaves some messages in the queue.
fn fill(postfix: &Postfix) {
    for case in cases::all()
        .iter()
        .filter(|case| ["plain", "virtual aliases", "null sender"].contains(&case.name))
    {
        client::leave(&postfix.queue(), case.flags, &case.records);
    }
    let id = std::fs::read_dir(postfix.queue().join("incoming")).unwrap().next().unwrap().unwrap();
    let name = id.file_name().into_string().unwrap();
    let defer = postfix.queue().join("defer").join(&name[..1]);
    std::fs::create_dir_all(&defer).unwrap();
    let log = "\n<good@sink.test>: host said: 450\nrecipient=good@sink.test\nstatus=4.0.0\naction=delayed\nreason=host said: 450\n\n";
    std::fs::write(defer.join(&name), log).unwrap();
    // Both showq run as this user.
    Command::new("chown")
        .arg("-R")
        .arg("postfix")
        .arg(postfix.queue().join("defer"))
        .status()
        .unwrap();
}

#[test]
fn the_queue_is_listed_alike() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let (postfix, _daemon) = super::ours(&scratch, super::TABLES);
    fill(&postfix);
    for (name, words) in [
        ("postqueue", &["-p"][..]),
        ("postqueue", &["-j"]),
        ("mailq", &[]),
        ("postqueue", &["-f"]),
        ("postqueue", &[]),
        ("postqueue", &["-p", "-j"]),
    ] {
        let theirs = run(&original(name), &postfix, words, "");
        let ours = run(&binaries::path(name), &postfix, words, "");
        let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text(&ours), text(&theirs), "{name} {words:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{name} {words:?}");
    }
}

#[test]
fn files_are_shown_alike() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let (postfix, _daemon) = super::ours(&scratch, super::TABLES);
    fill(&postfix);
    for file in std::fs::read_dir(postfix.queue().join("incoming")).unwrap() {
        let id = file.unwrap().file_name().into_string().unwrap();
        for words in [&["-q"][..], &["-oq"], &["-hq"], &["-bq"], &["-eq"], &["-dq"], &["-bhq"]] {
            let words: Vec<&str> = words.iter().copied().chain([id.as_str()]).collect();
            let theirs = run(&original("postcat"), &postfix, &words, "");
            let ours = run(&binaries::path("postcat"), &postfix, &words, "");
            assert_eq!(
                String::from_utf8_lossy(&ours.stdout),
                String::from_utf8_lossy(&theirs.stdout),
                "postcat {words:?}"
            );
            assert!(ours.status.success());
        }
    }
    let absent = run(&binaries::path("postcat"), &postfix, &["-q", "NOPE"], "");
    assert_eq!(
        absent.status.code(),
        run(&original("postcat"), &postfix, &["-q", "NOPE"], "").status.code()
    );
}

const SUBMISSIONS: &[(&[&str], &str)] = &[
    (
        &["-i", "-t"],
        "To: bob, \"a b\"@x.test\nCc: grp: c@x.test;\nBcc: hidden@x.test\nSubject: one\n\n.\nbody\n",
    ),
    (
        &["-f", "s@x.test", "-N", "success,delay", "-V", "E1", "-R", "full", "bob", "ann@x.test"],
        "Subject: two\r\n\r\nbody\r\n.\nnot this\n",
    ),
    (
        &["-f", "s@x.test", "-N", "never", "-V", "envelope-1", "-R", "hdrs", "bob"],
        "Subject: three\n\nbody\n",
    ),
    (&["-oi", "-FJoe User", "-B8BITMIME", "bob"], "From joe Sat Nov 21\n\nno header\n"),
    (&["-f", "<>", "-G", "bob"], "X: y\n\nz\n"),
    (&["-v", "-i", "-B7BIT", "bob"], "  starts with a blank\n"),
];

/// sendmail and postdrop of both write the same maildrop files.
#[test]
fn submissions_are_alike() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let postfix = Postfix::lay(&scratch, "");
    postfix.check();
    for (words, input) in SUBMISSIONS {
        let dropped = |program: &Path| {
            let output = run(program, &postfix, words, input);
            assert!(output.status.success(), "{words:?}: {output:?}");
            let files: Vec<_> = std::fs::read_dir(postfix.queue().join("maildrop"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert_eq!(files.len(), 1);
            let mut lines = shown(&std::fs::read(&files[0]).unwrap(), "\u{1}");
            lines.retain(|line| !line.starts_with("T "));
            use std::os::unix::fs::PermissionsExt as _;
            lines.push(format!(
                "{:o}",
                std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o7777
            ));
            std::fs::remove_file(&files[0]).unwrap();
            (lines, String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let theirs = dropped(&original("sendmail"));
        assert_eq!(dropped(&binaries::path("sendmail")), theirs, "{words:?}");
    }
}

/// sendmail of both runs the postdrop in `command_directory`.
#[test]
fn sendmail_runs_the_postdrop_of_the_host() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let postfix = Postfix::lay(&scratch, "");
    postfix.check();
    let (own, told) = (scratch.directory("commands"), scratch.join("told"));
    let script = format!("#!/bin/sh\necho run >{}\nexit 1\n", told.display());
    let postdrop = scratch.write("commands/postdrop", script);
    std::fs::set_permissions(&postdrop, std::fs::Permissions::from_mode(0o755)).unwrap();
    let main = postfix.config().join("main.cf");
    let text = std::fs::read_to_string(&main).unwrap();
    let moved = format!("command_directory = {}", own.display());
    std::fs::write(&main, text.replace("command_directory = /usr/sbin", &moved)).unwrap();
    // Alone: with our postdrop beside it, it runs that one.
    let alone = scratch.join("sendmail");
    std::fs::copy(binaries::path("sendmail"), &alone).unwrap();
    for program in [original("sendmail"), alone] {
        let _ = std::fs::remove_file(&told);
        run(&program, &postfix, &["-i", "bob"], "Subject: x\n\nbody\n");
        assert!(told.exists(), "{}", program.display());
    }
}

/// pickup of both hands the same message to cleanup; a damaged file is set aside and told.
#[test]
fn pickup_takes_what_was_dropped() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let (their_scratch, our_scratch) = (Scratch::new(), Scratch::new());
    let theirs = super::theirs(&their_scratch, "in_flow_delay = 0\n");
    let (ours, daemon) = super::ours(&our_scratch, "");
    for (words, input) in SUBMISSIONS {
        let queued = |postfix: &Postfix, program: &Path| {
            let output = run(program, postfix, words, input);
            assert!(output.status.success(), "{words:?}: {output:?}");
            let path = harness::log::eventually("the message in incoming", || {
                use std::os::unix::fs::PermissionsExt as _;
                let entries = std::fs::read_dir(postfix.queue().join("incoming")).unwrap();
                // cleanup begins under another name; a file that is whole keeps the one it has.
                let whole = |file: &std::fs::DirEntry| {
                    file.metadata().is_ok_and(|facts| facts.permissions().mode() & 0o700 == 0o700)
                };
                entries.flatten().find(whole).map(|file| file.path())
            });
            let id = path.file_name().unwrap().to_str().unwrap();
            let mut lines = shown(&std::fs::read(&path).unwrap(), id);
            lines.retain(|line| {
                !line.starts_with("T ") && !line.contains("; ") && !line.starts_with("N Date: ")
            });
            // The data offset depends on the digits of the microsecond.
            let size: Vec<&str> = lines[0].split_whitespace().collect();
            lines[0] = format!("{} {}", size[1], size[3..].join(" "));
            std::fs::remove_file(&path).unwrap();
            lines
        };
        let expected = queued(&theirs, &original("sendmail"));
        assert_eq!(queued(&ours, &original("sendmail")), expected, "{words:?}");
    }
    daemon.log.wait_for(": uid=0 from=<s@x.test>");
    let damaged = ours.queue().join("maildrop/ABCDEF123456");
    std::fs::write(&damaged, b"S\x03joeM\x00N\x20cut").unwrap();
    Command::new("chmod").args(["744"]).arg(&damaged).status().unwrap();
    run(&original("postqueue"), &ours, &["-f"], "");
    std::os::unix::net::UnixStream::connect(ours.queue().join("public/pickup"))
        .unwrap()
        .write_all(b"W\0")
        .unwrap();
    daemon.log.wait_for("saving corrupt file \"ABCDEF123456\" from queue \"maildrop\"");
    assert!(ours.queue().join("corrupt/ABCDEF123456").exists());
}
