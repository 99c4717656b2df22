//! The originals alone: proves that the peers which every other seam test stands on do their work.

use harness::client::Client;
use harness::dovecot::Dovecot;
use harness::postfix::Postfix;
use harness::{Scratch, skip};

#[test]
fn postfix_hands_mail_to_dovecot_which_serves_it() {
    if !skip::can_run(true, &["postfix", "dovecot"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut dovecot = Dovecot::lay(&scratch, &[("alice@example.org", "secret")], "");
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "virtual_mailbox_domains = example.org\nvirtual_transport = lmtp:unix:{}",
            dovecot.lmtp.display()
        ),
    );
    dovecot.start();
    postfix.start();
    let mut smtp = Client::tcp(postfix.port);
    assert!(smtp.reply().starts_with("220 "));
    smtp.expect("EHLO client.example", "250");
    smtp.expect("MAIL FROM:<bob@example.com>", "250 2.1.0");
    smtp.expect("RCPT TO:<alice@example.org>", "250 2.1.5");
    smtp.expect("DATA", "354");
    smtp.expect("Subject: one\r\n\r\nbody\r\n.", "250 2.0.0");
    postfix.log.wait_for("status=sent");
    let mut pop3 = Client::tcp(dovecot.pop3);
    assert!(pop3.line().starts_with("+OK"));
    pop3.send("USER alice@example.org\r\nPASS secret\r\nSTAT");
    assert_eq!(pop3.line(), "+OK");
    assert_eq!(pop3.line(), "+OK Logged in.");
    assert!(pop3.line().starts_with("+OK 1 "));
}
