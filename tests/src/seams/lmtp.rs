//! Our lmtp-delivery in the places of Dovecot's lmtp and of Postfix's virtual and local, under
//! Debian's queue manager and LMTP client: every message is accounted for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::client::Client;
use harness::dovecot::{Dovecot, VMAIL};
use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch, skip};

const MESSAGES: usize = 50;

fn can_run() -> bool {
    skip::can_run(true, &["postfix", "dovecot"])
}

/// Sends messages `0..count` to the recipients, over as many transactions of one connection.
fn send(port: u16, recipients: &[&str], count: usize) {
    let mut smtp = Client::tcp(port);
    assert!(smtp.reply().starts_with("220 "));
    smtp.expect("EHLO client.example", "250");
    for number in 0..count {
        smtp.expect("MAIL FROM:<bob@example.com>", "250 2.1.0");
        for recipient in recipients {
            smtp.expect(&format!("RCPT TO:<{recipient}>"), "250 2.1.5");
        }
        smtp.expect("DATA", "354");
        let text = format!(
            "Message-ID: <{number}@test>\r\nSubject: {number}\r\n\r\n..dot\r\nFrom here\r\n."
        );
        smtp.expect(&text, "250 2.0.0");
    }
    smtp.expect("QUIT", "221");
}

fn wait_sent(log: &Log, needle: &str, count: usize) {
    log.wait_until(&format!("{count} lines with {needle:?}"), |lines| {
        (lines.iter().filter(|line| line.text.contains(needle)).count() >= count).then_some(())
    });
}

/// The Message-IDs that Dovecot's IMAP server finds, and its UIDs.
fn read_by_dovecot(dovecot: &Dovecot, user: &str) -> (BTreeSet<String>, Vec<u32>) {
    let fetched = dovecot.doveadm(&[
        "-f",
        "tab",
        "fetch",
        "-u",
        user,
        "uid hdr.message-id",
        "mailbox",
        "INBOX",
        "all",
    ]);
    let lines = fetched.lines().skip(1).map(|line| line.split_once('\t').unwrap());
    let pairs: Vec<(u32, String)> =
        lines.map(|(uid, id)| (uid.parse().unwrap(), id.trim().to_owned())).collect();
    (pairs.iter().map(|(_, id)| id.clone()).collect(), pairs.iter().map(|(uid, _)| *uid).collect())
}

/// File names by UID, as the UID list has them.
fn listed(maildir: &Path) -> Vec<(u32, String)> {
    let text = std::fs::read_to_string(maildir.join("dovecot-uidlist")).unwrap();
    let records = text.lines().skip(1).map(|line| line.split_once(" :").unwrap());
    records
        .map(|(uid, name)| (uid.split(' ').next().unwrap().parse().unwrap(), name.to_owned()))
        .collect()
}

fn expected() -> BTreeSet<String> {
    (0..MESSAGES).map(|number| format!("<{number}@test>")).collect()
}

/// Dovecot's configuration with the LMTP socket moved to `ours`.
fn our_dovecot_conf(scratch: &Scratch, dovecot: &Dovecot) -> (PathBuf, PathBuf) {
    let socket = scratch.path().join("dovecot-run/ours-lmtp");
    let text = std::fs::read_to_string(dovecot.config()).unwrap();
    let text = text.replace(
        "unix_listener lmtp {",
        &format!(
            "unix_listener lmtp {{\n    mode = 0\n  }}\n  unix_listener {} {{",
            socket.display()
        ),
    );
    // The first block got the old listener's setting, too; the last one wins.
    (scratch.write("dovecot/ours.conf", text), socket)
}

fn start(scratch: &Scratch, arguments: &[&str], log: Log) -> Daemon {
    Daemon::start_with("lmtp-delivery", &scratch.directory("run"), arguments, log, |_| {})
}

#[test]
fn postfix_delivers_to_our_lmtp_server_and_dovecot_reads_it() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let mut dovecot =
        Dovecot::lay(&scratch, &[("alice@example.org", "a"), ("bob@example.org", "b")], "");
    let (config, socket) = our_dovecot_conf(&scratch, &dovecot);
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "virtual_mailbox_domains = example.org\nvirtual_transport = lmtp:unix:{}\nrecipient_delimiter = +",
            socket.display()
        ),
    );
    dovecot.start();
    let log = Log::default();
    let _ours = start(&scratch, &["--dovecot", config.to_str().unwrap()], log.clone());
    postfix.start();
    send(postfix.port, &["alice@example.org", "bob+detail@example.org"], MESSAGES);
    wait_sent(&postfix.log, "status=sent (250 2.0.0 <", 2 * MESSAGES);
    wait_sent(&log, ": saved mail to INBOX", 2 * MESSAGES);
    for user in ["alice@example.org", "bob@example.org"] {
        // Deliveries that met another one at work have no UID yet; Dovecot gives it now.
        let before = listed(&dovecot.maildir(user));
        let (ids, uids) = read_by_dovecot(&dovecot, user);
        assert_eq!((ids, uids.len()), (expected(), MESSAGES), "{user}");
        let after = listed(&dovecot.maildir(user));
        assert_eq!(after[..before.len()], before, "Dovecot changed {user}'s UIDs");
        assert_eq!(uids, after.iter().map(|(uid, _)| *uid).collect::<Vec<_>>(), "{user}");
    }
    let text = dovecot.doveadm(&[
        "fetch",
        "-u",
        "alice@example.org",
        "text",
        "mailbox",
        "INBOX",
        "uid",
        "1",
    ]);
    assert!(text.contains("Return-Path: <bob@example.com>"), "{text}");
    assert!(text.contains("by mail.example.com with LMTP") || text.contains("with LMTP"), "{text}");
    assert!(text.contains(".dot\r\nFrom here") || text.contains(".dot\nFrom here"), "{text}");
}

#[test]
fn an_unknown_user_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let mut dovecot = Dovecot::lay(&scratch, &[("alice@example.org", "a")], "");
    let text = std::fs::read_to_string(dovecot.config()).unwrap();
    let users = scratch.path().join("dovecot/users");
    let text = text.replace("driver = static", "driver = passwd-file").replace(
        &format!("args = uid={VMAIL} gid={VMAIL} home={}/vhosts/%d/%n", scratch.path().display()),
        &format!(
            "args = {}\n  default_fields = uid={VMAIL} gid={VMAIL} home={}/vhosts/%d/%n",
            users.display(),
            scratch.path().display()
        ),
    );
    std::fs::write(dovecot.config(), text).unwrap();
    let (config, socket) = our_dovecot_conf(&scratch, &dovecot);
    dovecot.start();
    let _ours = start(&scratch, &["--dovecot", config.to_str().unwrap()], Log::default());
    // The same conversation with Dovecot's own lmtp and with ours.
    for socket in [dovecot.lmtp.clone(), socket] {
        let mut lmtp = Client::unix(&socket);
        assert!(lmtp.reply().starts_with("220 "));
        lmtp.expect("LHLO client.example", "250");
        lmtp.expect("MAIL FROM:<>", "250 2.1.0 OK");
        lmtp.expect(
            "RCPT TO:<nosuch@example.org>",
            "550 5.1.1 <nosuch@example.org> User doesn't exist: nosuch@example.org",
        );
        lmtp.expect("RCPT TO:<alice@example.org>", "250 2.1.5 OK");
        lmtp.expect("DATA", "354 OK");
        lmtp.expect("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 <alice@example.org> ");
        lmtp.expect("QUIT", "221 2.0.0");
    }
    let (_, uids) = read_by_dovecot(&dovecot, "alice@example.org");
    assert_eq!(uids, [1, 2]);
}

#[test]
fn postfix_delivers_to_our_virtual_agent() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let mut dovecot = Dovecot::lay(&scratch, &[("alice@example.org", "a")], "");
    let map = scratch.write(
        "maps/virtual",
        "alice@example.org example.org/alice/Maildir/\nmbox@example.org example.org/mbox\n",
    );
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "virtual_mailbox_domains = example.org\nvirtual_mailbox_base = {}/vhosts\nvirtual_mailbox_maps = texthash:{}\n\
             virtual_uid_maps = static:{VMAIL}\nvirtual_gid_maps = static:{VMAIL}\nvirtual_minimum_uid = 1000\nvirtual_mailbox_limit = 0\n\
             smtpd_reject_unlisted_recipient = no\nrecipient_delimiter = +",
            scratch.path().display(),
            map.display()
        ),
    );
    postfix.without(&[("virtual", "unix")]);
    dovecot.start();
    postfix.start();
    let log = Log::default();
    let _ours = start(&scratch, &["-c", postfix.config().to_str().unwrap()], log.clone());
    send(postfix.port, &["alice+x@example.org"], MESSAGES);
    wait_sent(&log, "relay=virtual, delay=", MESSAGES);
    assert!(!log.text().contains("deferred"), "{}", log.text());
    let (ids, uids) = read_by_dovecot(&dovecot, "alice@example.org");
    assert_eq!((ids, uids.len()), (expected(), MESSAGES));
    let line = log.wait_for("status=sent (delivered to maildir)");
    assert!(line.contains(": to=<alice+x@example.org>, relay=virtual, delay="), "{line}");
    assert!(line.contains(", dsn=2.0.0, "), "{line}");
    wait_sent(&postfix.log, ": removed", MESSAGES);
    // An unknown user is bounced, an mbox file is filled.
    send(postfix.port, &["nosuch@example.org", "mbox@example.org"], 1);
    let line = log.wait_for("status=bounced");
    assert!(
        line.contains("dsn=5.1.1, status=bounced (unknown user: \"nosuch@example.org\")"),
        "{line}"
    );
    log.wait_for("status=sent (delivered to mailbox)");
    let mbox = std::fs::read_to_string(scratch.path().join("vhosts/example.org/mbox")).unwrap();
    assert!(mbox.starts_with("From bob@example.com  "), "{mbox}");
    assert!(
        mbox.contains("\nX-Original-To: mbox@example.org\nDelivered-To: mbox@example.org\n"),
        "{mbox}"
    );
    assert!(mbox.ends_with(".dot\n>From here\n\n"), "{mbox}");
}

#[test]
fn our_local_agent_expands_aliases_and_sends_on() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let copy = scratch.directory("copies").join("file");
    let owner = nix_user("nobody");
    std::os::unix::fs::chown(copy.parent().unwrap(), Some(owner.0), Some(owner.1)).unwrap();
    let aliases = scratch.write(
        "maps/aliases",
        format!("team: remote@discard.example, other\nother: {}\nowner-team: remote@discard.example\nloop: loop2\nloop2: loop\ncmd: \"|/bin/true\"\n", copy.display()),
    );
    let mut postfix = Postfix::lay(
        &scratch,
        "local_recipient_maps =\ntransport_maps = inline:{discard.example=discard:}\nmailbox_size_limit = 0\nhome_mailbox = Maildir/\nminimal_backoff_time = 1000s",
    );
    let main = postfix.config().join("main.cf");
    let text = std::fs::read_to_string(&main)
        .unwrap()
        .replace("alias_maps =\n", &format!("alias_maps = hash:{}\n", aliases.display()));
    std::fs::write(main, text).unwrap();
    postfix.without(&[("local", "unix")]);
    postfix.start();
    let log = Log::default();
    let _ours = start(&scratch, &["-c", postfix.config().to_str().unwrap()], log.clone());
    send(
        postfix.port,
        &["team@example.com", "nosuchuser@example.com", "loop@example.com", "cmd@example.com"],
        1,
    );
    let line = log.wait_for("forwarded as");
    assert!(line.contains("to=<team@example.com>, relay=local, delay="), "{line}");
    postfix.log.wait_for("to=<remote@discard.example>");
    postfix.log.wait_for("from=<owner-team@example.com>");
    log.wait_for("delivered to file: ");
    assert!(std::fs::read_to_string(copy).unwrap().contains("Subject: 0\n"));
    let line = log.wait_for("unknown user: \"nosuchuser\"");
    assert!(line.contains("dsn=5.1.1, status=bounced"), "{line}");
    log.wait_for("status=bounced (mail forwarding loop for loop@example.com)");
    log.wait_for("status=sent (delivered to command: /bin/true)");
}

fn nix_user(name: &str) -> (u32, u32) {
    let text = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}
