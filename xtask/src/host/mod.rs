//! `cargo xtask host`: a Debian of its own with systemd, journal, PAM and the originals, on the sample `vps`. The originals serve,
//! then our daemons from their units, then the originals again; nobody's mailbox changes.

mod guest;
mod image;

use std::path::Path;
use std::time::Instant;

use self::guest::Guest;
use crate::peers;
use crate::run::{Done, cargo, must, release_directory, root};

/// A release of Debian, and whether its Dovecot reads a configuration of 2.3.
const RELEASES: [(&str, bool); 2] = [("bookworm", true), ("trixie", false)];

/// What makes and boots a Debian, each with a file that shows that it is there.
const TOOLS: [(&str, &str); 2] =
    [("debootstrap", "/usr/sbin/debootstrap"), ("systemd-container", "/usr/bin/systemd-nspawn")];

const JOURNEY: &str = include_str!("journey.py");

/// Our units, in the order in which they are started.
const OURS: &str = "theoris-authd theoris-dkim-milter theoris-lmtp-delivery theoris-smtp-delivery theoris-queue-manager \
                    theoris-smtpd theoris-imapd theoris-pop3d";

/// What `etc/vps` needs on a fresh Debian: its files, a user, a certificate and a key; and our units.
const PREPARE: &str = r#"
hostname mail.example.com
echo '127.0.0.1 localhost mail.example.com' > /etc/hosts
useradd --create-home --password "$(openssl passwd -6 secret)" info
tls=/etc/letsencrypt/live/example.com-0001
mkdir -p $tls
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mail.example.com -keyout $tls/privkey.pem -out $tls/fullchain.pem
cp /mnt/etc/vps/postfix/main.cf /etc/postfix/
# Debian's own master.cf, chroot and all, and the two services of the sample that it lacks.
sed -n '/^submission/,/^pickup/{/^pickup/!p}' /mnt/etc/vps/postfix/master.cf >> /etc/postfix/master.cf
cp /mnt/etc/vps/aliases /etc/aliases
newaliases
mkdir -p /etc/opendkim/keys/example.com
cp /mnt/etc/vps/opendkim.conf /etc/opendkim.conf
cp /mnt/etc/vps/opendkim/* /etc/opendkim/
key=$(awk -F: '{print $NF}' /etc/opendkim/KeyTable)
mkdir -p "$(dirname "$key")"
openssl genrsa -traditional -out "$key" 2048
chown opendkim: "$key"
chmod 600 "$key"
cp /mnt/systemd/*.service /etc/systemd/system/
systemd-sysusers /mnt/systemd/sysusers.conf
systemd-tmpfiles --create /mnt/systemd/tmpfiles.conf
systemctl daemon-reload
"#;

/// Runs each release, or those that `words` name.
pub fn run(words: &[&str]) -> Done {
    if !nix::unistd::geteuid().is_root() {
        return Err("host needs root: it boots containers".into());
    }
    peers::install_these(&TOOLS)?;
    must(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    for (release, reads_23) in RELEASES {
        if words.is_empty() || words.contains(&release) {
            on(release, reads_23).map_err(|problem| format!("{release}: {problem}"))?;
        }
    }
    Ok(())
}

fn on(release: &str, reads_23: bool) -> Done {
    let tree = image::tree(release)?;
    let began = Instant::now();
    let programs = release_directory();
    let samples = root();
    let shown: [(&Path, &str); 2] = [(&programs, "/usr/libexec/theoris"), (&samples, "/mnt")];
    let guest = Guest::boot(&tree, &shown)?;
    let step = |what: &str| println!("{release} {:>4} s  {what}", began.elapsed().as_secs());
    step("booted");
    shipped(&guest)?;
    step("theoris check knows every setting of Debian's files");
    guest.run("systemctl stop postfix dovecot opendkim rsyslog")?;
    guest.run(PREPARE)?;
    let mut before = None;
    if reads_23 {
        before = Some(originals(&guest, "theirs first")?);
        step("Postfix, Dovecot and OpenDKIM served the sample");
        guest.run("systemctl stop postfix dovecot opendkim")?;
    } else {
        let refused = guest.run("! doveconf -c /mnt/etc/vps/dovecot/dovecot.conf")?;
        let why = refused.lines().last().unwrap_or_default();
        step(&format!("its own Dovecot refuses the sample: {why}"));
    }
    guest.run("cp /mnt/etc/vps/dovecot/dovecot.conf /etc/dovecot/dovecot.conf")?;
    let ours = ours(&guest)?;
    unchanged(before.as_deref(), &ours)?;
    step("ours served it, reloaded, and nothing was restarted");
    if reads_23 {
        let after = originals(&guest, "theirs again")?;
        unchanged(Some(&ours), &after)?;
        step("the originals served it again, with every UID, flag and UIDL");
    }
    Ok(())
}

/// What Debian ships has no setting without a mark, and can be adopted.
fn shipped(guest: &Guest) -> Done {
    let report = guest.run(
        "status=0; /usr/libexec/theoris/theoris check --no-dns --daemons /usr/libexec/theoris || status=$?; [ $status -le 1 ]",
    )?;
    if report.contains("blocked") { Err(report) } else { Ok(()) }
}

fn originals(guest: &Guest, subject: &str) -> Result<String, String> {
    guest.run("cp /mnt/etc/vps/dovecot/dovecot.conf /etc/dovecot/dovecot.conf; systemctl start opendkim dovecot postfix")?;
    let seen = journey(guest, subject)?;
    guest.run("systemctl stop postfix dovecot opendkim")?;
    Ok(seen)
}

/// Our units serve, reload under systemd's eyes, serve again, and log as the originals do.
fn ours(guest: &Guest) -> Result<String, String> {
    guest
        .run(&format!("systemctl start {OURS} || {{ journalctl -b -n 60 --no-pager; exit 1; }}"))?;
    journey(guest, "ours")?;
    guest.run(&format!("systemctl reload {OURS}"))?;
    let seen = journey(guest, "ours after a reload")?;
    guest.run(&format!(
        "for unit in {OURS}; do \
           systemctl is-active $unit; \
           [ \"$(systemctl show -p NRestarts --value $unit)\" = 0 ] || {{ echo $unit was restarted; exit 1; }}; \
         done"
    ))?;
    let log = guest.run("journalctl -b -o short --facility=mail --no-pager")?;
    for wanted in
        ["postfix/submission/smtpd[", "postfix/qmgr[", "postfix/local[", "dovecot[", "opendkim["]
    {
        if !log.contains(wanted) {
            return Err(format!("no line of {wanted}…] in the journal:\n{log}"));
        }
    }
    guest.run(&format!("systemctl stop {OURS}; ! systemctl is-failed {OURS}"))?;
    Ok(seen)
}

fn journey(guest: &Guest, subject: &str) -> Result<String, String> {
    guest.run(&format!("python3 - '{subject}' <<'END'\n{JOURNEY}END")).map_err(
        |problem| match guest.run("journalctl -b -n 100 --no-pager") {
            Ok(log) => format!("{problem}\n{log}"),
            Err(_) => problem,
        },
    )
}

/// Every line that was seen before is seen again.
fn unchanged(before: Option<&str>, now: &str) -> Done {
    let lost: Vec<&str> = before
        .unwrap_or_default()
        .lines()
        .filter(|line| !now.lines().any(|l| l == *line))
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!("no longer there: {lost:#?}\nnow:\n{now}"))
}
