//! One Maildir that Dovecot's LMTP fills while Dovecot's imapd and ours have it open, and both POP3 servers read it.

use harness::client::Client;
use harness::{Daemon, ports};

use crate::compliance::imap::Both;

const MESSAGES: usize = 50;

/// Delivers to `USER@example.org` through Dovecot's LMTP.
fn deliver(lmtp: &mut Client, user: &str, number: usize) {
    lmtp.expect("MAIL FROM:<bob@example.com>", "250");
    lmtp.expect(&format!("RCPT TO:<{user}@example.org>"), "250");
    lmtp.expect("DATA", "354");
    let text = format!("Message-ID: <m{number}@example.com>\r\nSubject: {number}\r\n\r\nbody\r\n.");
    lmtp.expect(&text, "250");
}

fn logged_in(port: u16) -> Client {
    let mut client = Client::tcp(port);
    client.line();
    let answer = client.imap("a", "LOGIN theirs@example.org secret");
    assert!(answer.last().unwrap().starts_with("a OK"), "{answer:?}");
    client.imap("b", "SELECT INBOX");
    client
}

/// UID, flags and size of every message, as a server tells them.
fn shown(client: &mut Client) -> Vec<String> {
    let mut lines = client.imap("f", "UID FETCH 1:* (FLAGS RFC822.SIZE)");
    lines.retain(|line| line.contains(" FETCH (UID "));
    for line in &mut lines {
        // Who is first to see a message is only one of both.
        *line = line.replace(" \\Recent", "").replace("\\Recent", "");
    }
    lines
}

/// Our pop3d on the configuration of `both`, and its port.
fn pop3d(both: &Both) -> (Daemon, u16) {
    let port = ports::free();
    let config = std::fs::read_to_string(both.dovecot.config()).unwrap();
    let config =
        config.replacen(&format!("port = {}", both.dovecot.pop3), &format!("port = {port}"), 1);
    let directory = both.dovecot.config().parent().unwrap().join("pop3d");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("dovecot.conf");
    std::fs::write(&path, config).unwrap();
    (Daemon::start("pop3d", &directory, &["-c", path.to_str().unwrap()]), port)
}

/// A POP3 session in the transaction state.
fn maildrop(port: u16) -> Client {
    let mut client = Client::tcp(port);
    client.line();
    for command in ["USER theirs@example.org", "PASS secret"] {
        client.send(command);
        let answer = client.line();
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
    }
    client
}

/// Number and UIDL of every message.
fn uidls(client: &mut Client) -> Vec<String> {
    client.send("UIDL");
    assert!(client.line().starts_with("+OK"));
    let mut lines = Vec::new();
    loop {
        match client.line() {
            line if line == "." => return lines,
            line => lines.push(line),
        }
    }
}

#[test]
fn dovecot_and_ours_have_one_mailbox_open() {
    let Some(both) = Both::start("") else { return };
    let (_pop3d, pop3) = pop3d(&both);
    let mut first_uidls = Vec::new();
    let mut theirs = logged_in(both.dovecot.imap);
    let mut ours = logged_in(both.port);
    let mut lmtp = Client::unix(&both.dovecot.lmtp);
    lmtp.reply();
    lmtp.expect("LHLO client.example", "250");
    for number in 1..=MESSAGES {
        deliver(&mut lmtp, "theirs", number);
        if number % 10 == 0 {
            ours.imap("n", "NOOP");
            theirs.imap("n", "NOOP");
            let server = if number % 20 == 0 { &mut ours } else { &mut theirs };
            server.imap("s", &format!("UID STORE {number} +FLAGS.SILENT (\\Flagged kw{number})"));
            let (mut dovecots, mut ours) = (maildrop(both.dovecot.pop3), maildrop(pop3));
            let listed = uidls(&mut ours);
            assert_eq!(listed, uidls(&mut dovecots));
            assert_eq!(listed.len(), number);
            assert!(
                listed.starts_with(&first_uidls),
                "a UIDL changed: {first_uidls:?}, {listed:?}"
            );
            first_uidls = listed;
            ours.send("RETR 10");
            while ours.line() != "." {}
            for client in [&mut dovecots, &mut ours] {
                client.send("QUIT");
                assert!(client.line().starts_with("+OK"));
            }
        }
    }
    ours.imap("s", "UID STORE 1:5 +FLAGS.SILENT (\\Seen)");
    theirs.imap("s", "UID STORE 6:9 +FLAGS.SILENT (\\Answered $Junk)");
    ours.imap("s", "UID STORE 11:12 +FLAGS.SILENT (\\Deleted)");
    ours.imap("x", "EXPUNGE");
    theirs.imap("s", "UID STORE 13:14 +FLAGS.SILENT (\\Deleted)");
    theirs.imap("x", "EXPUNGE");
    let mut ours_by_pop3 = maildrop(pop3);
    for command in ["DELE 1", "QUIT"] {
        ours_by_pop3.send(command);
        assert!(ours_by_pop3.line().starts_with("+OK"));
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    harness::log::eventually("both to know of all changes", || {
        ours.imap("n", "NOOP");
        theirs.imap("n", "NOOP");
        before = shown(&mut theirs);
        after = shown(&mut ours);
        (before == after).then_some(())
    });
    assert_eq!(after.len(), MESSAGES - 5, "{after:#?}");
    // A fresh look, through Dovecot's index and through none.
    let mut again = logged_in(both.dovecot.imap);
    assert_eq!(shown(&mut again), after);
    let text = both.dovecot.doveadm(&["fetch", "-u", "theirs@example.org", "uid flags", "ALL"]);
    assert_eq!(text.matches("uid:").count(), MESSAGES - 5, "{text}");
    assert!(!both.dovecot.log.text().contains("Error: "), "{}", both.dovecot.log.text());
}

#[test]
fn idle_tells_of_what_dovecot_does() {
    let Some(both) = Both::start("") else { return };
    let mut ours = logged_in(both.port);
    ours.send("i IDLE");
    assert_eq!(ours.line(), "+ idling");
    let mut lmtp = Client::unix(&both.dovecot.lmtp);
    lmtp.reply();
    lmtp.expect("LHLO client.example", "250");
    deliver(&mut lmtp, "theirs", 1);
    assert_eq!(ours.line(), "* 1 EXISTS");
    assert_eq!(ours.line(), "* 1 RECENT");
    let mut theirs = logged_in(both.dovecot.imap);
    theirs.imap("s", "STORE 1 +FLAGS (\\Flagged)");
    let line = ours.line();
    assert!(line.starts_with("* 1 FETCH (FLAGS (\\Flagged"), "{line}");
    theirs.imap("s", "STORE 1 +FLAGS (\\Deleted)");
    theirs.imap("x", "EXPUNGE");
    let mut last = ours.line();
    while last.starts_with("* 1 FETCH") {
        last = ours.line();
    }
    assert_eq!(last, "* 1 EXPUNGE");
    ours.send("DONE");
    while !last.starts_with("i OK Idle completed") {
        last = ours.line();
        assert!(!last.is_empty());
    }
}
