//! `cargo xtask host`: a Debian of its own with systemd, journal, PAM and the originals, on the sample `vps`. The originals serve,
//! then our daemons from their units, then the originals again; nobody's mailbox changes. Then the planks of
//! `docs/migration.md`, one by one, in and out of the running originals.

mod complaints;
mod document;
mod filter;
mod flow;
mod guest;
mod image;
mod looks;
mod own;
mod planks;
mod traps;

use std::path::{Path, PathBuf};
use std::time::Instant;

use self::guest::Guest;
use crate::run::{Done, cargo, command, must, release_directory, root, target_directory};
use crate::{packages, peers};

/// A release of Debian, and the sample in the language of its Dovecot.
const RELEASES: [(&str, &str); 2] = [
    ("bookworm", "etc/vps/dovecot/dovecot.conf"),
    ("trixie", "tests/src/compliance/config/2.4/vps.conf"),
];

/// Names a directory of programs that are built already.
const BUILT: &str = "THEORIS_BIN_DIR";
/// Set inside a mount namespace of our own: what a container needs is mounted in it, and gone with it.
const INSIDE: &str = "THEORIS_HOST_INSIDE";

/// What makes and boots a Debian, each with a file that shows that it is there.
const TOOLS: [(&str, &str); 2] =
    [("debootstrap", "/usr/sbin/debootstrap"), ("systemd-container", "/usr/bin/systemd-nspawn")];

const JOURNEY: &str = include_str!("journey.py");

/// Our units, in the order in which they are started.
const OURS: &str = "theoris-authd theoris-dkim-milter theoris-lmtp-delivery theoris-smtp-delivery theoris-queue-manager \
                    theoris-smtpd theoris-imapd theoris-pop3d";

/// What `etc/vps` needs on a fresh Debian: its files, a user, a certificate and a key; and our units.
const PREPARE: &str = r#"
cp /mnt/$DOVECOT /etc/dovecot/dovecot.conf
hostname mail.example.com
echo '127.0.0.1 localhost mail.example.com' > /etc/hosts
useradd --create-home --password "$(openssl passwd -6 secret)" info
useradd --create-home clerk
tls=/etc/letsencrypt/live/example.com-0001
mkdir -p $tls
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mail.example.com -keyout $tls/privkey.pem -out $tls/fullchain.pem
cp /mnt/etc/vps/postfix/main.cf /etc/postfix/
# Debian's own master.cf, chroot and all, and the two services of the sample that it lacks.
sed -n '/^submission/,/^pickup/{/^pickup/!p}' /mnt/etc/vps/postfix/master.cf >> /etc/postfix/master.cf
cp /mnt/etc/vps/aliases /etc/aliases
newaliases
# What is for others goes to a host of the test's.
postconf -e 'relayhost = [127.0.0.1]:10025' inet_protocols=all
mkdir -p /etc/opendkim/keys/example.com
cp /mnt/etc/vps/opendkim.conf /etc/opendkim.conf
cp /mnt/etc/vps/opendkim/* /etc/opendkim/
key=$(awk -F: '{print $NF}' /etc/opendkim/KeyTable)
mkdir -p "$(dirname "$key")"
openssl genrsa -traditional -out "$key" 2048
chown opendkim: "$key"
chmod 600 "$key"
"#;

/// Runs each release, or those that `words` name.
pub fn run(words: &[&str]) -> Done {
    if !nix::unistd::geteuid().is_root() {
        return Err("host needs root: it boots containers".into());
    }
    if std::env::var_os(INSIDE).is_none() {
        peers::install_these(&TOOLS)?;
        if std::env::var_os(BUILT).is_none() {
            must(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
        }
        let programs = std::env::var_os(BUILT).map_or_else(release_directory, PathBuf::from);
        packages::run(&["--from", &programs.display().to_string()])?;
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut inside = command("unshare");
        inside.args(["--mount", "--propagation=private"]).arg(own).arg("host").args(words);
        return must(inside.env(INSIDE, "yes"));
    }
    for (release, dovecot) in RELEASES {
        if words.is_empty() || words.contains(&release) {
            on(release, dovecot).map_err(|problem| format!("{release}: {problem}"))?;
        }
    }
    Ok(())
}

fn on(release: &str, dovecot: &str) -> Done {
    let tree = image::tree(release)?;
    let began = Instant::now();
    let (packages, samples) = (target_directory().join("debian"), root());
    let shown: [(&Path, &str); 2] = [(&packages, "/media"), (&samples, "/mnt")];
    let mut guest = Guest::boot(&tree, &shown)?;
    let step = |what: &str| println!("{release} {:>4} s  {what}", began.elapsed().as_secs());
    step("booted");
    all(&mut guest, dovecot, &step).map_err(|problem| {
        let kept = target_directory().join(format!("{release}.journal"));
        let journal = guest.run("journalctl --no-pager").unwrap_or_else(|why| why);
        match std::fs::write(&kept, journal) {
            Ok(()) => format!("{problem}\nthe journal is in {}", kept.display()),
            Err(error) => format!("{problem}\n{}: {error}", kept.display()),
        }
    })
}

fn all(guest: &mut Guest, dovecot: &str, step: &dyn Fn(&str)) -> Done {
    guest.run("dpkg -i /media/theoris*.deb")?;
    step("our packages are installed, and nothing was started");
    shipped(guest)?;
    step("theoris check knows every setting of Debian's files");
    guest.run("systemctl stop postfix dovecot opendkim rsyslog")?;
    guest.run(&format!("DOVECOT={dovecot}\n{PREPARE}"))?;
    let mut theirs = Vec::new();
    let before = originals(guest, "theirs first", |guest| {
        looks::prepare(guest)?;
        theirs = looks::all(guest);
        Ok(())
    })?;
    step("Postfix, Dovecot and OpenDKIM served the sample");
    let ours = ours(guest, &theirs)?;
    unchanged(&before, &ours)?;
    step(
        "ours served it, reloaded, and nothing was restarted; what one types to look at it gives the same",
    );
    let after = originals(guest, "theirs again", |_| Ok(()))?;
    unchanged(&ours, &after)?;
    step("the originals served it again, with every UID, flag and UIDL");
    planks::swapped(guest, step)
}

/// What stands in the way on a fresh Debian: its Dovecot has mbox files.
const IN_THE_WAY: &str = "mail storage \"mbox\" is not supported, only maildir (mda, pop3, imap)";

/// What Debian ships has no setting without a mark, and can be adopted.
fn shipped(guest: &Guest) -> Done {
    let report = guest.run("theoris check --no-dns || [ $? -le 2 ]")?;
    let unexpected = |line: &str| line.contains("critical") && !line.contains(IN_THE_WAY);
    if report.lines().any(unexpected) { Err(report) } else { Ok(()) }
}

fn originals(
    guest: &Guest,
    subject: &str,
    look: impl FnOnce(&Guest) -> Done,
) -> Result<String, String> {
    guest.run("systemctl start opendkim dovecot postfix")?;
    let seen = journey(guest, subject)?;
    look(guest)?;
    guest.run("systemctl stop postfix dovecot opendkim")?;
    Ok(seen)
}

/// Our units serve, reload under systemd's eyes, serve again, and log as the originals do.
fn ours(guest: &Guest, theirs: &[(&str, String)]) -> Result<String, String> {
    guest
        .run(&format!("systemctl start {OURS} || {{ journalctl -b -n 60 --no-pager; exit 1; }}"))?;
    looks::same(theirs, &looks::all(guest))?;
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
    guest.run(&format!("python3 - '{subject}' <<'END'\n{JOURNEY}END"))
}

/// Every line that was seen before is seen again.
fn unchanged(before: &str, now: &str) -> Done {
    let lost: Vec<&str> = before.lines().filter(|line| !now.lines().any(|l| l == *line)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!("no longer there: {lost:#?}\nnow:\n{now}"))
}
