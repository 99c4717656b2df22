//! mbsync keeps a local copy of all mailboxes, in both directions.

use std::fs;
use std::process::Command;

use super::rig::{PASSWORD, Rig};

#[test]
fn a_local_copy_follows_and_is_followed() {
    let Some(rig) = Rig::with("mbsync") else { return };
    (1..=3).for_each(|number| drop(rig.receive(number)));
    let local = rig.scratch.directory("local");
    // isync insists on a host name in the certificate: localhost is one of ours.
    let config = rig.write(
        "mbsyncrc",
        &format!(
            "IMAPStore far\nHost localhost\nPort {}\nUser user1@example.com\nPass {PASSWORD}\nSSLType IMAPS\nCertificateFile {}\n\n\
             MaildirStore near\nPath {local}/\nInbox {local}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
            rig.site.port("imaps"),
            rig.ca().display(),
            local = local.display()
        ),
    );
    let sync = || {
        let mut mbsync = Command::new("mbsync");
        mbsync.arg("-c").arg(&config).arg("-a").env("HOME", rig.scratch.path());
        rig.run(&mut mbsync, b"")
    };
    sync();
    let files = |directory: &str| -> Vec<_> {
        fs::read_dir(local.join(directory))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    };
    assert_eq!(files("INBOX/new").len(), 3, "three messages came");
    for name in ["Drafts", "Sent", "Trash", "Junk", "Archive"] {
        assert!(local.join(name).join("cur").is_dir(), "{name} was made");
    }
    // Locally: one is read and flagged, one deleted, one written to Sent.
    let messages = files("INBOX/new");
    let seen =
        messages[0].file_name().unwrap().to_str().unwrap().split(':').next().unwrap().to_owned();
    fs::rename(&messages[0], local.join("INBOX/cur").join(format!("{seen}:2,FS"))).unwrap();
    fs::remove_file(&messages[1]).unwrap();
    fs::write(local.join("Sent/cur/1.local:2,S"), "Subject: written locally\n\nbody\n").unwrap();
    sync();
    let maildir = rig.site.maildir("user1@example.com");
    let cur: Vec<String> = fs::read_dir(maildir.join("cur"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(cur.iter().any(|name| name.ends_with(":2,FS")), "{cur:?}");
    let left = cur.len() + fs::read_dir(maildir.join("new")).unwrap().count();
    assert_eq!(left, 2, "{cur:?}");
    let sent = fs::read_dir(maildir.join(".Sent/cur")).unwrap().count();
    assert_eq!(sent, 1);
    // Nothing changes any more.
    sync();
    assert_eq!(files("Sent/cur").len(), 1);
}
