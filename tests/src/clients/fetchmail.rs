//! fetchmail: takes mail away by POP3 and by IMAP.

use std::process::Command;

use super::rig::{HOST, PASSWORD, Rig, USER};

/// Sends a message from outside with curl, fetches it with fetchmail, returns what fetchmail handed to its delivery program.
#[track_caller]
fn round(protocol: &str, port: &str, options: &str) {
    let Some(rig) = Rig::with("fetchmail") else { return };
    let subject = rig.receive(1);
    let fetched = rig.scratch.join("fetched");
    let control = rig.write(
        "fetchmailrc",
        &format!(
            "poll 127.0.0.1 protocol {protocol} service {} user \"{USER}\" password \"{PASSWORD}\" {options} \
             sslcertck sslcertfile {} sslcommonname {HOST} mda \"cat >{}\"\n",
            rig.site.port(port),
            rig.ca().display(),
            fetched.display()
        ),
    );
    let mut fetch = Command::new("fetchmail");
    fetch
        .args(["--nodetach", "--nosyslog", "-f"])
        .arg(control)
        .env("HOME", rig.scratch.path())
        .env("FETCHMAILHOME", rig.scratch.path());
    rig.run(&mut fetch, b"");
    let got = std::fs::read_to_string(fetched).unwrap();
    assert!(got.contains(&subject) && got.contains("\n.a line that starts with a dot\n"), "{got}");
    // Taken away: nothing is left on the server, which fetchmail says with status 1.
    let status = fetch.output().unwrap().status;
    assert_eq!(status.code(), Some(1));
}

#[test]
fn pop3_with_wrapped_tls() {
    round("pop3", "pop3s", "ssl");
}

#[test]
fn imap_with_starttls() {
    round("imap", "imap", "sslproto TLS1.2+");
}
