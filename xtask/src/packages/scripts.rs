//! The maintainer scripts, run on a host that is a directory (`DPKG_ROOT`), with a systemctl that only notes what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use harness::Scratch;

use super::contents::{DAEMONS, Package, packages};
use super::deb;

struct Host {
    root: Scratch,
    package: Package,
}

/// Says that `active` units run.
const SYSTEMCTL: &str = "#!/bin/sh
echo \"$@\" >> $DPKG_ROOT/told
case \"$*\" in *is-active*) grep -qs \"${3:-$2}\" $DPKG_ROOT/active;; esac
";

const NOTES: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> $DPKG_ROOT/told\n";

impl Host {
    fn of(name: &str) -> Self {
        let root = Scratch::new();
        let all = packages("/nowhere".as_ref());
        let package = all.into_iter().find(|package| package.name == name).unwrap();
        let host = Self { root, package };
        host.root.directory("run/systemd/system");
        host.program("stub/systemctl", SYSTEMCTL);
        for name in ["systemd-sysusers", "systemd-tmpfiles"] {
            host.program(&format!("stub/{name}"), NOTES);
        }
        for daemon in &DAEMONS {
            host.program(&format!("usr/libexec/theoris/{}", daemon.name), "#!/bin/sh\n");
        }
        // As the real one: what it has released is no longer in the record.
        host.program(
            "usr/bin/theoris",
            "#!/bin/sh\necho \"theoris $*\" >> $DPKG_ROOT/told\n[ -e $DPKG_ROOT/fails ] || rm -f $DPKG_ROOT/var/lib/theoris/*.json\n",
        );
        host.root
            .write("usr/share/theoris/fail2ban.conf", "# Written by the package theoris: new\n");
        host
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.root.write(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, script: &str, words: &[&str]) -> Output {
        let _ = fs::remove_file(self.root.join("told"));
        let text = deb::script(&self.package, script).unwrap();
        let path = format!(
            "{}:{}",
            self.root.join("stub").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut sh = Command::new("sh");
        sh.args(["-c", &text, script]).args(words).env("PATH", path);
        sh.env("DPKG_ROOT", self.root.path()).output().unwrap()
    }

    /// What the script told systemctl and others, a line each, when it succeeds.
    #[track_caller]
    fn told(&self, script: &str, words: &[&str]) -> Vec<String> {
        let output = self.run(script, words);
        assert!(output.status.success(), "{output:?}");
        let told = fs::read_to_string(self.root.join("told")).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }

    fn adopted(&self, plank: &str) {
        let text = format!("{{\n  \"{plank}\": {{\n    \"back\": []\n  }}\n}}");
        self.root.write("var/lib/theoris/adopted.json", text);
    }
}

#[test]
fn an_installation_starts_nothing() {
    let host = Host::of("theoris-imapd");
    assert_eq!(host.told("postinst", &["configure", ""]), ["daemon-reload"]);
    let host = Host::of("theoris");
    let told = host.told("postinst", &["configure", ""]).join("\n");
    assert!(
        told.contains("systemd-sysusers --root=") && told.contains("systemd-tmpfiles"),
        "{told}"
    );
    assert!(!told.contains("start") && !told.contains("enable"), "{told}");
}

#[test]
fn an_upgrade_restarts_what_runs_unless_the_new_program_refuses_the_files() {
    let host = Host::of("theoris-imapd");
    let is_active = "--quiet is-active theoris-imapd.service";
    assert!(host.told("prerm", &["upgrade", "0.2.0-1"]).is_empty(), "it goes on serving");
    assert_eq!(host.told("postinst", &["configure", "0.1.0-1"]), ["daemon-reload", is_active]);
    host.root.write("active", "theoris-imapd.service\n");
    let restarted = [
        "daemon-reload",
        is_active,
        "kill --signal=STOP theoris-guard.service",
        "restart theoris-imapd.service",
        "kill --signal=CONT theoris-guard.service",
    ];
    assert_eq!(host.told("postinst", &["configure", "0.1.0-1"]), restarted);
    host.program("usr/libexec/theoris/imapd", "#!/bin/sh\necho dovecot.conf:3: no >&2\nexit 78\n");
    assert_eq!(host.told("postinst", &["configure", "0.1.0-1"]), ["daemon-reload", is_active]);
    let said = String::from_utf8(host.run("postinst", &["configure", "0.1.0-1"]).stderr).unwrap();
    assert!(said.contains("dovecot.conf:3: no") && said.contains("the old one goes on"), "{said}");
}

#[test]
fn a_removal_releases_the_plank_or_does_not_take_place() {
    let stop =
        ["--quiet disable theoris-smtp-delivery.service", "stop theoris-smtp-delivery.service"];
    let host = Host::of("theoris-smtp-delivery");
    assert_eq!(host.told("prerm", &["remove"]), stop);
    host.adopted("dkim");
    assert_eq!(host.told("prerm", &["remove"]), stop, "another one's plank");
    host.adopted("smtp-out");
    let told = host.told("prerm", &["remove"]);
    assert_eq!(told, ["theoris release --patience 60 smtp-out", stop[0], stop[1]]);
    // An interrupted adoption is one, too.
    host.root.write(
        "var/lib/theoris/run.json",
        "{\n  \"planks\": [\n    {\n      \"plank\": \"smtp-out\",\n",
    );
    assert_eq!(host.told("prerm", &["remove"])[0], "theoris release --patience 60 smtp-out");
    host.adopted("smtp-out");
    host.root.write("fails", "");
    let output = host.run("prerm", &["remove"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is not removed") && said.contains("give-back smtp-out"), "{said}");
    let told = fs::read_to_string(host.root.join("told")).unwrap();
    assert!(!told.contains("stop"), "{told}");
}

#[test]
fn the_command_goes_only_when_no_plank_is_adopted() {
    let host = Host::of("theoris");
    host.adopted("imap");
    assert_eq!(host.told("prerm", &["remove"])[0], "theoris release --patience 60 imap");
    host.adopted("imap");
    host.root.write("fails", "");
    let output = host.run("prerm", &["remove"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("could not be released (above): imap")
    );
    assert!(host.told("prerm", &["upgrade", "2"]).is_empty());
}

#[test]
fn a_purge_takes_what_is_ours_and_nothing_else() {
    let host = Host::of("theoris");
    host.adopted("imap");
    host.root.write("var/lib/theoris/lock", "");
    host.root.write("etc/postfix/main.cf", "");
    host.told("postrm", &["purge"]);
    assert!(!host.root.join("var/lib/theoris").exists());
    assert!(host.root.join("etc/postfix/main.cf").exists());
}

#[test]
fn fail2ban_has_our_units_where_it_is_and_keeps_what_somebody_changed() {
    let host = Host::of("theoris");
    let drop_in = host.root.join("etc/fail2ban/jail.d/theoris.conf");
    host.told("postinst", &["configure", ""]);
    assert!(!drop_in.exists(), "no fail2ban here");
    host.root.directory("etc/fail2ban/jail.d");
    host.root.write("active", "fail2ban.service\n");
    let told = host.told("postinst", &["triggered", "/usr/bin/fail2ban-client"]);
    assert_eq!(told.last().unwrap(), "reload fail2ban.service");
    let ours = fs::read(host.root.join("usr/share/theoris/fail2ban.conf")).unwrap();
    assert_eq!(fs::read(&drop_in).unwrap(), ours);
    assert!(host.told("postinst", &["triggered", "/usr/bin/fail2ban-client"]).is_empty());
    host.root.write("etc/fail2ban/jail.d/theoris.conf", "[postfix]\nmine = yes\n");
    for (script, word) in [("postinst", "configure"), ("postrm", "remove"), ("postrm", "purge")] {
        host.told(script, &[word, ""]);
        assert_eq!(
            fs::read_to_string(&drop_in).unwrap(),
            "[postfix]\nmine = yes\n",
            "{script} {word}"
        );
    }
    fs::write(&drop_in, ours).unwrap();
    host.told("postrm", &["remove"]);
    assert!(!drop_in.exists());
}

/// What fail2ban makes of the drop-in: the originals' units, and ours beside them, for every jail that we name.
#[test]
fn fail2bans_jails_read_the_originals_and_ours() {
    if !std::path::Path::new("/usr/bin/fail2ban-client").exists() {
        return println!("fail2ban is not on this machine");
    }
    let scratch = Scratch::new();
    let copied = Command::new("cp").args(["-r", "/etc/fail2ban/."]).arg(scratch.path()).status();
    assert!(copied.unwrap().success());
    let drop_in = crate::run::root().join("packages/fail2ban.conf");
    let text = fs::read_to_string(drop_in).unwrap();
    scratch.write("jail.d/theoris.conf", &text);
    let jails = ["postfix", "postfix-rbl", "postfix-sasl", "dovecot"];
    let mut enabled = "[sshd]\nenabled = false\n".to_owned();
    for jail in jails {
        enabled.push_str(&format!("[{jail}]\nenabled = true\nbackend = systemd\n"));
    }
    scratch.write("jail.local", enabled);
    let mut client = Command::new("fail2ban-client");
    let output = client.arg("-c").arg(scratch.path()).arg("-d").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for jail in jails {
        let add = format!("['set', '{jail}', 'addjournalmatch', ");
        let matches = |unit: &str| {
            let unit = format!("'_SYSTEMD_UNIT={unit}'");
            said.lines().any(|line| line.contains(&add) && line.contains(&unit))
        };
        let original = if jail == "dovecot" { "dovecot.service" } else { "postfix.service" };
        assert!(matches(original), "{jail}: {said}");
        let section = text.split(&format!("[{jail}]")).nth(1).unwrap();
        let section = section.split("\n[").next().unwrap();
        let units: Vec<&str> =
            section.lines().filter_map(|line| line.trim().strip_prefix("_SYSTEMD_UNIT=")).collect();
        assert!(!units.is_empty() && units.iter().all(|unit| matches(unit)), "{jail}: {said}");
    }
}
