//! Programs that people read and fetch mail with: mutt, getmail, offlineimap; and msmtp, which only sends.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::rig::{PASSWORD, Rig, USER, message};

fn contents(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect()
}

#[test]
fn msmtp_submits_with_starttls() {
    let Some(rig) = Rig::with("msmtp") else { return };
    let config = rig.write(
        "msmtprc",
        &format!(
            "account default\nhost localhost\nport {}\nfrom {USER}\nauth plain\nuser {USER}\n\
             password {PASSWORD}\ntls on\ntls_starttls on\ntls_trust_file {}\n",
            rig.site.port("submission"),
            rig.ca().display()
        ),
    );
    let (text, subject) = message(USER, "user2@example.com");
    let mut msmtp = Command::new("msmtp");
    msmtp.arg("-C").arg(&config).args(["--", "user2@example.com"]);
    rig.run(&mut msmtp, text.replace("\r\n", "\n").as_bytes());
    rig.wait_delivered(1);
    let new = contents(&rig.site.maildir("user2@example.com").join("new"));
    assert!(new.len() == 1 && new[0].contains(&subject), "{new:?}");
}

#[test]
fn mutt_sends_and_reads() {
    let Some(rig) = Rig::with("mutt") else { return };
    let saved = rig.scratch.join("saved");
    let config = rig.write(
        "muttrc",
        &format!(
            "set from={USER}\nset realname=User\nset ssl_ca_certificates_file={ca}\nset ssl_starttls=yes\n\
             set smtp_url=\"smtp://{USER}@localhost:{submission}/\"\nset smtp_pass={PASSWORD}\n\
             set imap_user={USER}\nset imap_pass={PASSWORD}\nset spoolfile=\"imaps://localhost:{imaps}/INBOX\"\n\
             set folder=\"imaps://localhost:{imaps}/\"\nset record=\"=Sent\"\nset copy=yes\n\
             set wait_key=no\nset pipe_decode=no\n",
            ca = rig.ca().display(),
            submission = rig.site.port("submission"),
            imaps = rig.site.port("imaps"),
        ),
    );
    let mutt = |arguments: &str| {
        let mut script = Command::new("script");
        let line = format!("mutt -n -F {} {arguments}", config.display());
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.env("HOME", rig.scratch.path()).env("TERM", "vt100").env("SHELL", "/bin/sh");
        script
    };
    let body = rig.write("body", "Written in mutt.\n");
    rig.run(&mut mutt(&format!("-s 'by mutt' -- {USER} < {}", body.display())), b"");
    rig.wait_delivered(1);
    let read = format!("push \"<pipe-message>cat > {}<enter><exit>\"", saved.display());
    rig.run(&mut mutt(&format!("-e '{read}'")), b"");
    let text = fs::read_to_string(&saved).unwrap();
    assert!(text.contains("Subject: by mutt") && text.contains("Written in mutt."), "{text}");
    let sent = contents(&rig.site.maildir(USER).join(".Sent/cur"));
    assert!(sent.len() == 1 && sent[0].contains("Subject: by mutt"), "{sent:?}");
}

#[test]
fn getmail_takes_mail_away_by_pop3() {
    let Some(rig) = Rig::with("getmail") else { return };
    let subjects = [rig.receive(1), rig.receive(2)];
    let local = rig.scratch.directory("local");
    // As root it only delivers for somebody else.
    let root = nix::unistd::geteuid().is_root();
    let nobody = root.then(|| nix::unistd::Uid::from_raw(65_534));
    for part in ["cur", "new", "tmp", ""] {
        fs::create_dir_all(local.join(part)).unwrap();
        nix::unistd::chown(&local.join(part), nobody, None).unwrap();
    }
    let user = if root { "user = nobody\n" } else { "" };
    let config = rig.write(
        "getmailrc",
        &format!(
            "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = localhost\nport = {}\nusername = {USER}\n\
             password = {PASSWORD}\nca_certs = {}\n\n[destination]\ntype = Maildir\npath = {}/\n{user}\n\
             [options]\ndelete = true\nread_all = false\n",
            rig.site.port("pop3s"),
            rig.ca().display(),
            local.display()
        ),
    );
    let mut getmail = Command::new("getmail");
    getmail.arg("--getmaildir").arg(rig.scratch.path()).arg("--rcfile").arg(&config);
    rig.run(getmail.env("HOME", rig.scratch.path()), b"");
    let got = contents(&local.join("new"));
    assert_eq!(got.len(), 2, "{got:?}");
    for subject in &subjects {
        assert!(got.iter().any(|text| text.contains(subject)), "{subject}: {got:?}");
    }
    let left = rig.site.maildir(USER);
    let left = [contents(&left.join("new")), contents(&left.join("cur"))].concat();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn offlineimap_keeps_a_copy() {
    let Some(rig) = Rig::with("offlineimap") else { return };
    let subject = rig.receive(1);
    let local = rig.scratch.directory("local");
    let config = rig.write(
        "offlineimaprc",
        &format!(
            "[general]\naccounts = one\nmetadata = {here}/metadata\nui = quiet\n\n[Account one]\n\
             localrepository = near\nremoterepository = far\n\n[Repository near]\ntype = Maildir\n\
             localfolders = {local}\n\n[Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {port}\n\
             remoteuser = {USER}\nremotepass = {PASSWORD}\nssl = yes\nsslcacertfile = {ca}\n",
            here = rig.scratch.path().display(),
            local = local.display(),
            port = rig.site.port("imaps"),
            ca = rig.ca().display()
        ),
    );
    let sync = || {
        let mut offlineimap = Command::new("offlineimap");
        offlineimap.arg("-o").arg("-c").arg(&config).env("HOME", rig.scratch.path());
        rig.run(&mut offlineimap, b"");
    };
    sync();
    let got = contents(&local.join("INBOX/new"));
    assert!(got.len() == 1 && got[0].contains(&subject), "{got:?}");
    // Read here, seen there.
    let entry = fs::read_dir(local.join("INBOX/new")).unwrap().next().unwrap().unwrap();
    let name = entry.file_name().into_string().unwrap();
    let seen = format!("{}:2,S", name.split(":2,").next().unwrap());
    fs::rename(entry.path(), local.join("INBOX/cur").join(seen)).unwrap();
    sync();
    let there = fs::read_dir(rig.site.maildir(USER).join("cur")).unwrap();
    let there: Vec<_> = there.flatten().map(|entry| entry.file_name()).collect();
    assert!(there.len() == 1 && there[0].to_str().unwrap().ends_with(":2,S"), "{there:?}");
}
