//! Mail through our cleanup: Postfix's smtpd in front of it, Postfix's qmgr and virtual behind it.

use std::collections::BTreeSet;

use harness::client::Client;
use harness::postfix::Postfix;
use harness::{Daemon, Scratch, skip};

const MESSAGES: usize = 50;

#[test]
fn postfix_smtpd_queues_through_our_cleanup() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let mail = scratch.directory("mail");
    let owner = nix::unistd::User::from_name("postfix").unwrap().unwrap();
    nix::unistd::chown(&mail, Some(owner.uid), Some(owner.gid)).unwrap();
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "virtual_mailbox_domains = example.org\n\
             virtual_mailbox_base = {}\n\
             virtual_mailbox_maps = inline:{{alice@example.org=alice/}}\n\
             virtual_minimum_uid = 1\n\
             virtual_uid_maps = static:{}\n\
             virtual_gid_maps = static:{}\n",
            mail.display(),
            owner.uid,
            owner.gid
        ),
    );
    postfix.without(&[("cleanup", "unix"), ("pickup", "unix"), ("showq", "unix")]);
    postfix.start();
    let config = postfix.config();
    let _daemon = Daemon::start(
        "queue-manager",
        &scratch.directory("run"),
        &["-c", config.to_str().unwrap()],
    );
    let port = postfix.port;
    let senders: Vec<_> =
        (0..5).map(|sender| std::thread::spawn(move || send(port, sender, MESSAGES / 5))).collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let wanted: BTreeSet<String> = (0..5)
        .flat_map(|sender| (0..MESSAGES / 5).map(move |number| format!("<{sender}.{number}@test>")))
        .collect();
    let new = mail.join("alice/new");
    harness::log::eventually("all messages in the mailbox", || {
        (std::fs::read_dir(&new).ok()?.count() >= MESSAGES).then_some(())
    });
    let mut found = Vec::new();
    for file in std::fs::read_dir(&new).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("Message-Id: ")).unwrap();
        found.push(id.to_owned());
        assert!(text.ends_with("\n.dot\nbody\n"), "{text}");
    }
    assert_eq!(found.len(), MESSAGES);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
    harness::log::eventually("an empty queue", || {
        ["incoming", "active", "deferred", "corrupt"]
            .iter()
            .all(|queue| {
                std::fs::read_dir(postfix.queue().join(queue))
                    .unwrap()
                    .all(|entry| entry.unwrap().path().is_dir())
            })
            .then_some(())
    });
}

/// A local submission that a check refuses: nobody waits for an answer, so Postfix's bounce service is
/// asked to tell the sender; and its trace service hears of an alias that was expanded.
#[test]
fn our_cleanup_uses_postfix_bounce_and_trace() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut postfix = Postfix::lay(
        &scratch,
        "default_transport = discard\nlocal_transport = discard\n\
         header_checks = regexp:{{/^Subject: rej/ REJECT 5.7.3 not this}}\n\
         virtual_alias_maps = inline:{{list@example.org = a@example.net b@example.net}}\n",
    );
    postfix.without(&[("cleanup", "unix"), ("pickup", "unix"), ("showq", "unix")]);
    postfix.start();
    let config = postfix.config();
    let daemon = Daemon::start(
        "queue-manager",
        &scratch.directory("run"),
        &["-c", config.to_str().unwrap()],
    );
    let submit = |words: &[&str], text: &str| {
        use std::io::Write as _;
        let mut child = std::process::Command::new("/usr/sbin/sendmail")
            .args(words)
            .env("MAIL_CONFIG", &config)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    submit(&["-f", "joe@example.com", "ann@example.net"], "Subject: rej\n\nx\n");
    daemon.log.wait_for("reject: header Subject: rej from local; from=<joe@example.com> to=<ann@example.net>: 5.7.3 not this");
    postfix.log.wait_for("sender non-delivery notification: ");
    submit(&["-f", "joe@example.com", "-N", "success", "list@example.org"], "Subject: ok\n\nx\n");
    postfix.log.wait_for("to=<b@example.net>, orig_to=<list@example.org>");
    postfix.log.wait_for("sender delivery status notification: ");
    harness::log::eventually("an empty maildrop", || {
        std::fs::read_dir(postfix.queue().join("maildrop")).unwrap().next().is_none().then_some(())
    });
}

fn send(port: u16, sender: usize, count: usize) {
    let mut smtp = Client::tcp(port);
    assert!(smtp.reply().starts_with("220 "));
    smtp.expect("EHLO client.example", "250");
    for number in 0..count {
        smtp.expect("MAIL FROM:<bob@example.com>", "250 2.1.0");
        smtp.expect("RCPT TO:<alice@example.org>", "250 2.1.5");
        smtp.expect("DATA", "354");
        let text = format!(
            "Subject: {number}\r\nMessage-Id: <{sender}.{number}@test>\r\n\r\n..dot\r\nbody\r\n."
        );
        smtp.expect(&text, "250 2.0.0 Ok: queued as ");
    }
    smtp.expect("QUIT", "221");
}
