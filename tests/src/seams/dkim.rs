//! Our filter in the place of OpenDKIM, under Debian's Postfix.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::client::Client;
use harness::dns::Server;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch, ports};

use crate::compliance::dkim::rig::{Conversation, Dkimpy, Filter, KEY, Whose, record, zone_line};
use crate::compliance::dkim::{can_run, messages};

const ROUNDS: usize = 100;

fn filter(scratch: &Scratch, name: &str, socket: &str) -> Daemon {
    let directory = scratch.directory(name);
    let key = scratch.write(&format!("{name}/key"), KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    scratch.write(
        &format!("{name}/keytable"),
        format!("sel1._domainkey.example.com example.com:sel1:{}\n", key.display()),
    );
    scratch.write(&format!("{name}/signingtable"), "*@example.com sel1._domainkey.example.com\n");
    let shown = directory.display();
    let conf = format!(
        "Syslog yes\nSyslogSuccess yes\nCanonicalization relaxed/simple\nOversignHeaders From\nUserID postfix\nUMask 007\n\
         Socket {socket}\nKeyTable {shown}/keytable\nSigningTable refile:{shown}/signingtable\nRequireSafeKeys no\n"
    );
    let conf = scratch.write(&format!("{name}/opendkim.conf"), conf);
    Daemon::start_with(
        "dkim-milter",
        &directory,
        &["-x", conf.to_str().unwrap()],
        Log::default(),
        |_| {},
    )
}

#[test]
fn postfix_has_its_mail_signed_over_both_kinds_of_sockets() {
    if !can_run() || !harness::skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let boxes = scratch.directory("virtual");
    std::fs::set_permissions(&boxes, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let (port, second) = (ports::free(), ports::free());
    let socket = scratch.join("spool/milter");
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "smtpd_milters = inet:127.0.0.1:{port}\nin_flow_delay = 0\nvirtual_mailbox_domains = virt.example\n\
             virtual_mailbox_base = {}\nvirtual_mailbox_maps = inline:{{{{inet@virt.example = inet/}}, {{unix@virt.example = unix/}}}}\n\
             virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_minimum_uid = 1\n",
            boxes.display()
        ),
    );
    postfix.add_services(&format!(
        "127.0.0.1:{second} inet n - n - - smtpd -o smtpd_milters=unix:{}",
        socket.display()
    ));
    postfix.start();
    let inet = filter(&scratch, "inet", &format!("inet:{port}@127.0.0.1"));
    let unix = filter(&scratch, "unix", &format!("local:{}", socket.display()));
    for (port, user) in [(postfix.port, "inet"), (second, "unix")] {
        deliver(port, user);
    }
    let public = record(KEY);
    let names = Server::start(&zone_line("sel1", &public));
    let ours = Filter::start(Whose::Ours, &scratch, "ours", &names, "Mode v\n");
    let theirs = Filter::start(Whose::Theirs, &scratch, "theirs", &names, "Mode v\n");
    let mut dkimpy = Dkimpy::start();
    for (user, log) in [("inet", &inet.log), ("unix", &unix.log)] {
        let new = boxes.join(user).join("new");
        let count = || std::fs::read_dir(&new).map_or(0, Iterator::count);
        eventually("all of them in the mailbox", || (count() == ROUNDS).then_some(()));
        for entry in std::fs::read_dir(&new).unwrap().flatten() {
            let message = arrived(&entry.path());
            for filter in [&ours, &theirs] {
                let verdict = filter.verdict(&message);
                assert!(verdict.starts_with("dkim=pass (2048-bit key; unprotected)"), "{verdict}");
            }
            assert!(dkimpy.is_good(&message, "sel1", &public), "{}", entry.path().display());
        }
        log.wait_for("DKIM-Signature field added (s=sel1, d=example.com)");
    }
}

/// As the drop-in `systemd/unprivileged/theoris-dkim-milter.conf` starts it.
#[test]
fn a_filter_that_never_was_root_signs_all_the_same() {
    use std::os::unix::process::CommandExt as _;
    const USER: u32 = 65534;
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.directory("filter");
    let shown = directory.display();
    let key = scratch.write("filter/key", KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let conf = scratch.write(
        "filter/opendkim.conf",
        format!("UserID nobody\nUMask 007\nMode s\nDomain example.com\nSelector sel1\nKeyFile {shown}/key\nRequireSafeKeys no\nSocket local:{shown}/socket\n"),
    );
    for path in [&directory, &key] {
        nix::unistd::chown(path, Some(USER.into()), Some(USER.into())).unwrap();
    }
    let arguments = ["-x", conf.to_str().unwrap()];
    let daemon =
        Daemon::start_with("dkim-milter", &directory, &arguments, Log::default(), |command| {
            command.uid(USER).gid(USER);
        });
    let mut processes = daemon.workers();
    processes.push(daemon.pid());
    for pid in processes {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");
    }
    let answer = Conversation::open(&directory.join("socket")).message("127.0.0.1", &messages()[0]);
    assert!(answer.inserted("DKIM-Signature").is_some(), "{answer:?}\n{}", daemon.log.text());
}

fn deliver(port: u16, user: &str) {
    let mut client = Client::tcp(port);
    client.reply();
    client.expect("EHLO client.example", "250");
    let messages = messages();
    for round in 0..ROUNDS {
        let message = &messages[round % messages.len()];
        client.expect("MAIL FROM:<alice@example.com>", "250");
        client.expect(&format!("RCPT TO:<{user}@virt.example>"), "250");
        client.expect("DATA", "354");
        let mut lines = Vec::new();
        for line in message.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                lines.push(b'.');
            }
            lines.extend_from_slice(line);
        }
        client.raw(&lines);
        client.expect(".", "250");
    }
    client.expect("QUIT", "221");
}

/// A delivered message with the line ends that it had on its way.
fn arrived(path: &Path) -> Vec<u8> {
    let stored = std::fs::read(path).unwrap();
    stored.split_inclusive(|&octet| octet == b'\n').fold(Vec::new(), |mut message, line| {
        message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        message.extend_from_slice(b"\r\n");
        message
    })
}
