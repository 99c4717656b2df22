//! The `sendmail` command: mail from programs of the host itself.

use std::process::Command;

use super::rig::{PASSWORD, Rig, message};
use harness::{binaries, client};

#[test]
fn mail_of_a_local_program_arrives() {
    let Some(rig) = Rig::with("true") else { return };
    let (text, subject) = message("root@example.com", "user1@example.com");
    let mut sendmail = Command::new(binaries::path("sendmail"));
    sendmail.arg("-C").arg(rig.site.postfix()).args(["-i", "-t", "-f", "admin@example.com"]);
    rig.run(&mut sendmail, text.replace("\r\n", "\n").as_bytes());
    rig.wait_delivered(1);
    let trust = client::trust(rig.ca());
    let mut imap = client::Client::tls(rig.site.port("imaps"), "localhost", &trust);
    imap.line();
    imap.imap("a", &format!("LOGIN user1@example.com {PASSWORD}"));
    imap.imap("b", "SELECT INBOX");
    let got = imap.imap("c", "FETCH 1 BODY.PEEK[]").join("\n");
    assert!(got.contains(&subject) && got.contains("Return-Path: <admin@example.com>"), "{got}");
}
