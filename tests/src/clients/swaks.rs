//! swaks, the tool that administrators test SMTP with.

use std::process::Command;

use super::rig::{HOST, PASSWORD, Rig};

fn swaks(rig: &Rig, port: &str) -> Command {
    let mut swaks = Command::new("swaks");
    swaks.args([
        "--server",
        "127.0.0.1",
        "--port",
        &rig.site.port(port).to_string(),
        "--timeout",
        "30",
    ]);
    swaks.args([
        "--ehlo",
        "client.example.com",
        "--from",
        "user1@example.com",
        "--to",
        "user2@example.com",
    ]);
    swaks
}

/// Reads user2's only message with curl.
#[track_caller]
fn read(rig: &Rig) -> String {
    let mut curl = Command::new("curl");
    let port = rig.site.port("imaps");
    curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]).arg(rig.ca());
    curl.args([
        "--resolve",
        &format!("{HOST}:{port}:127.0.0.1"),
        "--user",
        &format!("user2@example.com:{PASSWORD}"),
    ]);
    rig.run(curl.arg(format!("imaps://{HOST}:{port}/INBOX;MAILINDEX=1")), b"")
}

#[test]
fn starttls_with_auth_plain() {
    let Some(rig) = Rig::with("swaks") else { return };
    let mut send = swaks(&rig, "submission");
    send.args([
        "--tls",
        "--auth",
        "PLAIN",
        "--auth-user",
        "user1@example.com",
        "--auth-password",
        PASSWORD,
    ]);
    let said = rig.run(send.args(["--header", "Subject: by swaks"]), b"");
    assert!(said.contains("250 2.0.0 Ok: queued as"), "{said}");
    rig.wait_delivered(1);
    assert!(read(&rig).contains("Subject: by swaks"));
}

#[test]
fn wrapped_tls_with_auth_login() {
    let Some(rig) = Rig::with("swaks") else { return };
    let mut send = swaks(&rig, "smtps");
    send.args([
        "--tls-on-connect",
        "--auth",
        "LOGIN",
        "--auth-user",
        "user1@example.com",
        "--auth-password",
        PASSWORD,
    ]);
    rig.run(send.args(["--header", "Subject: wrapped"]), b"");
    rig.wait_delivered(1);
    assert!(read(&rig).contains("Subject: wrapped"));
}

#[test]
fn pipelined_from_outside_with_an_attachment() {
    let Some(rig) = Rig::with("swaks") else { return };
    let mut send = swaks(&rig, "smtp");
    let path = rig.write("attachment.txt", "attached text\n");
    send.args(["--pipeline", "--attach"]).arg(format!("@{}", path.display()));
    rig.run(send.args(["--header", "Subject: attached"]), b"");
    rig.wait_delivered(1);
    let got = read(&rig);
    assert!(got.contains("Subject: attached") && got.contains("attachment.txt"), "{got}");
}
