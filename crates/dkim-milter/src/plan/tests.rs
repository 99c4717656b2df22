use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const KEY: &[u8] = include_bytes!("../../../crypto/tests/data/rsa-2048.pem");

/// A plan from these lines; `DIR` is a directory with a key.
fn planned(lines: &str) -> Result<Plan, Problems> {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().display().to_string();
    for (name, mode) in [("key", 0o600), ("open", 0o644)] {
        let path = root.path().join(name);
        fs::write(&path, KEY).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(root.path().join("keys")).unwrap();
    fs::write(root.path().join("keys/example.com"), KEY).unwrap();
    fs::write(root.path().join("table"), "k %:s:DIR/keys/%\n".replace("DIR", &directory)).unwrap();
    let file = root.path().join("opendkim.conf");
    fs::write(&file, lines.replace("DIR", &directory)).unwrap();
    let args = Args { opendkim: Some(file), ..Args::default() };
    plan(&args)
}

const BASE: &str = "Socket inet:8891@127.0.0.1\nUserID nobody\n";

fn shown(plan: Result<Plan, Problems>) -> String {
    let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
    format!("{:?} {:?} {:?}", plan.listeners, plan.roles, plan.log)
}

#[test]
fn what_the_supervisor_does_follows_the_file() {
    let plain = shown(planned(BASE));
    for line in [
        "Socket local:/run/x.sock",
        "Nameservers 127.9.9.9",
        "DNSTimeout 20",
        "SyslogFacility local3",
        "SyslogName other",
        "UserID daemon",
    ] {
        if line.starts_with("UserID") && !privileges::is_root() {
            continue;
        }
        assert_ne!(shown(planned(&format!("{BASE}{line}\n"))), plain, "{line}");
    }
    for (lines, mode) in [
        ("Socket /x", 0o755),
        ("Socket unix:/x\nUMask 007", 0o770),
        ("Socket local:/x\nUMask 002", 0o775),
    ] {
        let plan = planned(&format!("{lines}\nUserID nobody\n")).unwrap();
        let At::Unix { mode: found, path, .. } = &plan.listeners[0].at else { panic!() };
        assert_eq!((*found, path.as_path()), (mode, std::path::Path::new("/x")), "{lines}");
    }
    for (text, address) in [
        ("inet:8891", "0.0.0.0:8891"),
        ("inet:8891@localhost", "127.0.0.1:8891"),
        ("inet:8891@[127.0.0.1]", "127.0.0.1:8891"),
        ("inet6:8891@[::1]", "[::1]:8891"),
    ] {
        let plan = planned(&format!("Socket {text}\nUserID nobody\n")).unwrap();
        assert_eq!(plan.listeners[0].at, At::Tcp(address.parse().unwrap()), "{text}");
    }
    // the temporary directory is everybody's to write, so no key in it is safe
    let key = format!("{BASE}Domain example.com\nSelector s\nKeyFile DIR/key\n");
    let refused = planned(&key).unwrap_err().to_string();
    assert!(
        refused.contains("key data is not secure: /tmp can be read or written by other users"),
        "{refused}"
    );
    let plan = planned(&format!("{key}RequireSafeKeys no\n")).unwrap();
    assert!(plan.problems.to_string().contains("key data is not secure"));
    assert_eq!(plan.roles[0].files.len(), 1);
}

#[test]
fn keys_of_all_domains_with_a_file_are_passed() {
    let plan =
        planned(&format!("{BASE}KeyTable DIR/table\nSigningTable *=%\nRequireSafeKeys no\n"))
            .unwrap();
    assert!(plan.roles[0].files[0].0.ends_with("/keys/example.com"), "{:?}", plan.roles[0].files);
}

#[test]
fn what_cannot_be_obeyed_is_told_with_its_line() {
    for (lines, what) in [
        ("", "Socket is missing"),
        ("Socket tcp:1@x", ":1: Socket: unknown socket type tcp"),
        ("Socket inet:x@localhost", "Socket: \"x\" is no port"),
        ("Socket inet:1@there", "Socket: \"there\" is no IP address"),
        ("Socket inet:1\nMode x", ":2: Mode: unknown mode"),
        ("Socket inet:1\nCanonicalization foo", ":2: unknown canonicalization algorithm \"foo\""),
        ("Socket inet:1\nKeyTable DIR/table", ":2: KeyTable requires SigningTable"),
        ("Socket inet:1\nSigningTable x=y", ":2: SigningTable requires KeyTable"),
        ("Socket inet:1\nSignatureAlgorithm rsa-sha1", ":2: SignatureAlgorithm"),
        ("Socket inet:1\nOn-Default maybe", ":2: On-Default: \"maybe\" is no action"),
        ("Socket inet:1\nSyslogFacility x", ":2: SyslogFacility"),
        ("Socket inet:1\nUserID root", ":2: UserID: the filter does not work as root"),
        ("Socket inet:1\nKeyFile /none\nDomain x", ":2: /none: No such file"),
        ("Socket inet:1\nInternalHosts refile:/none", ":2: /none: No such file"),
        (
            "Socket inet:1\nLuaOnlySigning yes",
            ":2: LuaOnlySigning: not in the OpenDKIM that Debian ships",
        ),
        ("Socket inet:1\nSendReports yes", ":2: SendReports: no failure reports are sent"),
    ] {
        if lines.contains("UserID") && !privileges::is_root() {
            continue;
        }
        let problems = planned(&format!("{lines}\n"))
            .map_or_else(|told| told.to_string(), |_| "no problem".to_owned());
        assert!(problems.contains(what), "{lines}: {problems}");
    }
}

/// `systemctl reload opendkim` reaches nobody while the unit is stopped.
#[test]
fn a_changed_file_is_noticed() {
    let plan = planned(BASE).unwrap();
    assert!(plan.watch.iter().any(|file| file.ends_with("opendkim.conf")), "{:?}", plan.watch);
}
