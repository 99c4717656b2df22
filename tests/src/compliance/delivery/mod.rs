//! Commands and files: each message goes through Debian's local(8) and pipe(8), and through our
//! lmtp-delivery; the log must say the same, and the command must have seen the same.

mod cases;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch, skip};

use cases::{Case, SERVICES};

/// Prints its arguments and its input.
const SHOW: &str = "#!/bin/sh\nout=$1; shift\n{ for word; do echo \"[$word]\"; done; env | sort; pwd; cat -A; } > $out\n";

/// What a message came to: lines of the log without times, and what commands and files have of it.
type Results = BTreeMap<String, Vec<String>>;

fn lay(scratch: &Scratch) -> Postfix {
    let root = scratch.path().display().to_string();
    let out = scratch.directory("out");
    for path in [scratch.path(), &out] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    scratch.write("show", SHOW);
    fs::set_permissions(scratch.path().join("show"), fs::Permissions::from_mode(0o755)).unwrap();
    set_gid(&scratch.path().join("group"));
    scratch.write("list", format!("\"|cat > {root}/out/included\"\n"));
    let (mut aliases, mut owned) = ("sender: /dev/null\n".to_owned(), String::new());
    for case in cases::all() {
        if let Some(alias) = case.alias {
            let table = if case.name.starts_with("owned_") { &mut owned } else { &mut aliases };
            *table += &format!("{}: {}\n", case.name, alias.replace("ROOT", &root));
        }
    }
    scratch.write("aliases", aliases);
    let owner = nix::unistd::User::from_name(cases::OWNER).unwrap().unwrap();
    let list = format!("\"|id -u > {root}/out/include_owned\"\n");
    for file in [scratch.write("owned", owned), scratch.write("owned_list", list)] {
        std::os::unix::fs::chown(&file, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
            .unwrap();
    }
    let postfix = Postfix::lay(scratch, &cases::MAIN.replace("ROOT", &root));
    postfix.add_services(SERVICES.replace("ROOT", &root).trim_end());
    for table in ["aliases", "owned"] {
        postfix.command(&["postalias", &format!("hash:{root}/{table}")]);
    }
    postfix
}

/// A program that becomes of Postfix's group, as postdrop(1) does, and tells its group with `-g`.
fn set_gid(path: &Path) {
    fs::copy("/usr/bin/id", path).unwrap();
    let group = nix::unistd::Group::from_name("postdrop").unwrap().unwrap();
    nix::unistd::chown(path, None, Some(group.gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o2755)).unwrap();
}

/// One message over SMTP.
fn send(port: u16, case: &Case) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut say = |line: &str, wanted: &str| {
        if !line.is_empty() {
            writer.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        }
        loop {
            let mut reply = String::new();
            reader.read_line(&mut reply).unwrap();
            assert!(reply.starts_with(wanted), "{}: {line}: {reply}", case.name);
            if reply.as_bytes().get(3) == Some(&b' ') {
                break;
            }
        }
    };
    say("", "220");
    say("EHLO client.example", "250");
    say(&format!("MAIL FROM:<{}> SIZE=100", case.sender), "250");
    for recipient in case.recipients() {
        say(&format!("RCPT TO:<{recipient}>"), "250");
    }
    say("DATA", "354");
    let header = format!(
        "From: a@example.net\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <{}@x>\r\n{}",
        case.name, case.header
    );
    say(&format!("{header}Subject: {}\r\n\r\nFrom here\r\n..dot\r\nend\r\n.", case.name), "250");
    say("QUIT", "221");
}

/// Sends everything and waits until the log tells what became of each recipient.
fn deliver(postfix: &Postfix, log: &Log, root: &Path) -> Results {
    let all = cases::all();
    for case in &all {
        send(postfix.port, case);
    }
    let mut results = Results::new();
    for case in &all {
        for recipient in case.recipients() {
            let needle = format!("to=<{}>", recipient);
            let line = log.wait_until(&format!("{}: {needle}", case.name), |lines| {
                let outcome = |text: &str| {
                    text.contains(&needle)
                        && text.contains("status=")
                        && text.contains(&format!("relay={}, ", case.relay()))
                };
                lines.iter().find(|line| outcome(&line.text)).map(|line| line.text.clone())
            });
            let tail = &line[line.find("to=<").unwrap()..];
            let timeless = |word: &&str| !word.starts_with("delay");
            let kept: Vec<&str> = tail.split(", ").filter(timeless).collect();
            let told = kept.join(", ").replace(&root.display().to_string(), "ROOT");
            results.entry(case.name.to_owned()).or_default().push(told);
        }
        if let Ok(seen) = fs::read_to_string(root.join("out").join(case.name)) {
            let seen = seen.replace(&root.display().to_string(), "ROOT");
            results
                .entry(case.name.to_owned())
                .or_default()
                .extend(seen.lines().filter_map(settled));
        }
    }
    results
}

/// A line without what differs from one delivery to the next.
fn settled(line: &str) -> Option<String> {
    for varies in ["Received:", "\tby ", "\tid ", "\tfor ", "^I", "_=", "SHLVL=", "[id "] {
        if line.starts_with(varies) || line.contains("ESMTP id ") {
            return None;
        }
    }
    match line.strip_prefix("From ").and_then(|rest| rest.split_once("  ")) {
        Some((sender, _)) => Some(format!("From {sender}  DATE")),
        None => Some(line.to_owned()),
    }
}

#[test]
fn commands_and_pipe_services_end_as_with_postfix() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let (their_scratch, our_scratch) = (Scratch::new(), Scratch::new());
    let mut theirs = lay(&their_scratch);
    theirs.start();
    let expected = deliver(&theirs, &theirs.log, their_scratch.path());
    theirs.stop();
    let mut ours = lay(&our_scratch);
    let pipes: Vec<&str> =
        SERVICES.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let taken: Vec<(&str, &str)> =
        pipes.iter().copied().chain(["local"]).map(|name| (name, "unix")).collect();
    ours.without(&taken);
    ours.check();
    let config = ours.config();
    let run = our_scratch.directory("run");
    let daemon = Daemon::start("lmtp-delivery", &run, &["-c", config.to_str().unwrap()]);
    ours.start();
    let got = deliver(&ours, &daemon.log, our_scratch.path());
    let mut differing = String::new();
    for (name, expected) in &expected {
        let got = got.get(name);
        if got != Some(expected) {
            differing += &format!("{name}:\n theirs {expected:#?}\n ours {:#?}\n", got);
        }
    }
    assert!(differing.is_empty(), "{differing}");
    assert!(expected.len() >= 25, "{} cases", expected.len());
}
