//! What a worker cannot do, tried from inside.

use std::net::TcpListener;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::json;

use crate::support::{Echo, eventually};

fn start(mode: &str, extra: serde_json::Value) -> Echo {
    let mut echo = Echo::launch(extra, true, &[("THEORIS__SANDBOX", mode.as_ref())]);
    echo.until("READY=1");
    echo
}

const REFUSED: [&str; 2] =
    ["Operation not permitted (os error 1)", "Permission denied (os error 13)"];

#[test]
fn a_worker_reaches_nothing_that_its_role_does_not_need() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("connect {}", listener.local_addr().unwrap());
    // Without a user it would be root here, which may read everything but for the sandbox.
    let echo = start("on", json!({}));
    let mut client = echo.connect();
    for attempt in [
        "read /etc/shadow",
        "read /etc/passwd",
        "write /tmp/theoris-worker-was-here",
        connect.as_str(),
        "listen",
        "exec /bin/true",
        "setuid",
        "signal",
        "ptrace",
    ] {
        let outcome = client.ask(&format!("try {attempt}"));
        assert!(REFUSED.contains(&outcome.as_str()), "{attempt}: {outcome}");
    }
    assert_eq!(client.ask("try thread"), "done");
    assert_eq!(client.ask("try read /proc/self/status"), "done");
    assert!(!Path::new("/tmp/theoris-worker-was-here").exists());
    let status = client.ask("status");
    assert!(status.contains("NoNewPrivs: 1;Seccomp: 2;"), "{status}");
}

#[test]
fn a_role_reaches_what_it_says_it_needs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let room = tempfile::tempdir().unwrap();
    std::fs::write(room.path().join("table"), "x").unwrap();
    let (readable, writable) = (room.path().join("table"), room.path().join("made"));
    let extra = json!({ "network": true, "read": room.path() });
    let echo = start("kill", extra);
    let mut client = echo.connect();
    let connect = format!("try connect {}", listener.local_addr().unwrap());
    assert_eq!(client.ask(&connect), "done");
    assert_eq!(client.ask(&format!("try read {}", readable.display())), "done");
    let outcome = client.ask(&format!("try write {}", writable.display()));
    assert_eq!(outcome, "Permission denied (os error 13)");
    let echo = start("kill", json!({ "write": room.path() }));
    assert_eq!(echo.connect().ask(&format!("try write {}", writable.display())), "done");
}

#[test]
fn a_table_that_only_root_may_read_is_passed_and_passed_again() {
    use std::os::unix::fs::PermissionsExt;
    if !geteuid().is_root() {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let table = room.path().join("table");
    std::fs::set_permissions(room.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let write = |text: &str, mode: u32| {
        let next = room.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::rename(&next, &table).unwrap();
    };
    write("first", 0o600);
    let echo = start("kill", json!({ "user": "nobody", "table": table }));
    let mut client = echo.connect();
    let ask = format!("table {}", table.display());
    assert_eq!(client.ask(&ask), "first");
    let open = format!("try read {}", table.display());
    assert_eq!(client.ask(&open), "Permission denied (os error 13)");
    write("second", 0o600);
    eventually("the new table", || client.ask(&ask) == "second", || echo.log());
    // What its user may read it opens itself, and nobody passes it.
    write("third", 0o644);
    let echo = start("kill", json!({ "user": "nobody", "table": table }));
    let mut client = echo.connect();
    assert_eq!(client.ask(&ask), "");
    assert_eq!(client.ask(&open), "done");
}

#[test]
fn users_are_looked_up_outside() {
    let echo = start("kill", json!({}));
    let mut client = echo.connect();
    assert!(client.ask("user root").contains("uid: 0"));
    assert_eq!(client.ask("user nobody-of-this-name"), "Ok(None)");
}

#[test]
fn an_unneeded_call_ends_the_worker_where_that_is_asked_for() {
    let echo = start("kill", json!({}));
    echo.connect().send("try listen");
    echo.logged("killed by signal 31");
    assert_eq!(echo.connect().greeting, "hello 1");
}

#[test]
fn the_modes_are_what_theoris_toml_says() {
    for (mode, status) in
        [("off", "NoNewPrivs: 1;Seccomp: 0;"), ("log", "NoNewPrivs: 1;Seccomp: 2;")]
    {
        let echo = start(mode, json!({}));
        let mut client = echo.connect();
        assert!(client.ask("status").contains(status), "{mode}");
        assert_eq!(client.ask("try listen") == "done", mode == "off", "{mode}");
        assert_eq!(client.ask("try read /etc/passwd") == "done", mode == "off", "{mode}");
        assert_eq!(client.ask("try signal") == "done", mode == "off" && geteuid().is_root());
    }
    let mut echo = Echo::launch(json!({}), true, &[("THEORIS__SANDBOX", "maybe".as_ref())]);
    assert_eq!(echo.wait().code(), Some(78));
    echo.logged("unknown variant");
}

#[test]
fn a_supervisor_keeps_few_capabilities() {
    if !geteuid().is_root() {
        return;
    }
    let echo = start("kill", json!({}));
    let status = std::fs::read_to_string(format!("/proc/{}/status", echo.pid())).unwrap();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE, AUDIT_WRITE
    let allowed = [0, 1, 2, 3, 5, 6, 7, 10, 29].iter().fold(0_u64, |set, bit| set | 1 << bit);
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(set(name) & !allowed, 0, "{name} {:x}", set(name));
    }
}
