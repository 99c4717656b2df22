//! curl as an SMTP, IMAP and POP3 client.

use std::process::Command;

use super::rig::{HOST, PASSWORD, Rig, message};

fn curl(rig: &Rig, port: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]).arg(rig.ca());
    curl.args(["--resolve", &format!("{HOST}:{}:127.0.0.1", rig.site.port(port))]);
    curl.args(["--user", &format!("user1@example.com:{PASSWORD}")]);
    curl
}

fn url(rig: &Rig, scheme: &str, port: &str, path: &str) -> String {
    format!("{scheme}://{HOST}:{}/{path}", rig.site.port(port))
}

#[test]
fn smtp_with_starttls_and_imaps() {
    let Some(rig) = Rig::with("curl") else { return };
    let (text, subject) = message("user1@example.com", "user1@example.com");
    let mut send = curl(&rig, "submission");
    send.args([
        "--ssl-reqd",
        "--mail-from",
        "user1@example.com",
        "--mail-rcpt",
        "user1@example.com",
        "--upload-file",
        "-",
    ]);
    rig.run(send.arg(url(&rig, "smtp", "submission", "client.example.com")), text.as_bytes());
    rig.wait_delivered(1);
    let listed = rig.run(curl(&rig, "imaps").arg(url(&rig, "imaps", "imaps", "")), b"");
    assert!(listed.contains("INBOX"), "{listed}");
    let got =
        rig.run(curl(&rig, "imaps").arg(url(&rig, "imaps", "imaps", "INBOX;MAILINDEX=1")), b"");
    assert!(
        got.contains(&subject)
            && got.ends_with("\r\n.a line that starts with a dot\r\nLast line\r\n"),
        "{got}"
    );
}

#[test]
fn smtps_and_pop3s() {
    let Some(rig) = Rig::with("curl") else { return };
    let (text, subject) = message("user1@example.com", "user1@example.com");
    let mut send = curl(&rig, "smtps");
    send.args([
        "--mail-from",
        "user1@example.com",
        "--mail-rcpt",
        "user1@example.com",
        "--upload-file",
        "-",
    ]);
    rig.run(send.arg(url(&rig, "smtps", "smtps", "client.example.com")), text.as_bytes());
    rig.wait_delivered(1);
    let got = rig.run(curl(&rig, "pop3s").arg(url(&rig, "pop3s", "pop3s", "1")), b"");
    assert!(
        got.contains(&subject) && got.contains("\r\n.a line that starts with a dot\r\n"),
        "{got}"
    );
}

#[test]
fn an_upload_by_imap_is_read_by_pop3_with_stls() {
    let Some(rig) = Rig::with("curl") else { return };
    let (text, subject) = message("user1@example.com", "user1@example.com");
    let path = rig.write("upload.eml", &text);
    let mut append = curl(&rig, "imap");
    append.args(["--ssl-reqd", "--upload-file"]).arg(path);
    rig.run(append.arg(url(&rig, "imap", "imap", "INBOX")), b"");
    let mut read = curl(&rig, "pop3");
    let got = rig.run(read.arg("--ssl-reqd").arg(url(&rig, "pop3", "pop3", "1")), b"");
    assert!(got.contains(&subject), "{got}");
}
