//! Giving up root, files that only root may read, and workers of users. As an ordinary user the same
//! code runs with one uid.

use nix::unistd::geteuid;
use serde_json::json;

use crate::support::{Echo, eventually};

#[test]
fn a_worker_holds_nothing_of_root() {
    let mut echo = Echo::start(json!({ "user": "nobody" }));
    let status = echo.connect().ask("status");
    if !geteuid().is_root() {
        let uid = geteuid();
        assert!(status.contains(&format!("Uid: {uid} {uid} {uid} {uid};")), "{status}");
        assert!(status.contains("NoNewPrivs: 1;"), "{status}");
        return;
    }
    assert!(
        status.contains("Uid: 65534 65534 65534 65534;Gid: 65534 65534 65534 65534;"),
        "{status}"
    );
    assert!(status.contains("Groups: 65534 ;"), "{status}");
    assert!(status.contains("CapPrm: 0000000000000000;CapEff: 0000000000000000;"), "{status}");
    assert!(status.contains("NoNewPrivs: 1;"), "{status}");
    echo.configure(json!({ "user": "games" }));
    echo.reload();
    let status = echo.connect().ask("status");
    assert!(status.starts_with("Uid: 5 5 5 5;Gid: 60 60 60 60;Groups: 60 ;"), "{status}");
}

#[test]
fn the_supervisor_opens_what_the_worker_may_not_and_passes_it_again_when_it_changes() {
    use std::os::unix::fs::PermissionsExt;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "first").unwrap();
    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let echo = Echo::start(json!({ "user": "nobody", "secret": secret.path() }));
    let mut client = echo.connect();
    assert_eq!(client.ask("file"), "first");
    let next = secret.path().with_extension("new");
    std::fs::write(&next, "second").unwrap();
    std::fs::rename(&next, secret.path()).unwrap();
    eventually("the new file", || client.ask("file") == "second", || echo.log());
}

#[test]
fn connections_are_handed_to_one_worker_per_user() {
    let echo = Echo::start(json!({ "user": "nobody" }));
    let become_user = |uid: u32, then: &str| {
        let mut client = echo.connect();
        client.send(&format!("become {uid}\r\n{then}"));
        assert_eq!(client.line(), format!("uid {uid} 1"));
        (client.line(), client)
    };
    let (pid, _first) = become_user(4711, "pid");
    assert_eq!(become_user(4711, "pid").0, pid, "one worker serves all connections of a user");
    let (status, _second) = become_user(4712, "status");
    if geteuid().is_root() {
        let expected = "Uid: 4712 4712 4712 4712;Gid: 4712 4712 4712 4712;Groups:  ;";
        assert!(status.starts_with(expected), "{status}");
        assert!(status.contains("CapEff: 0000000000000000;"), "{status}");
    }
}

#[test]
fn root_and_users_out_of_range_get_no_worker() {
    let echo = Echo::start(json!({ "user": "nobody" }));
    for uid in [0, 999, u32::MAX] {
        let mut client = echo.connect();
        client.send(&format!("become {uid}"));
        assert_eq!(client.line(), "", "uid {uid}");
        echo.logged(&format!("uid {uid}, gid {uid} refused"));
    }
    let held: Vec<_> = (0..3)
        .map(|number| {
            let mut client = echo.connect();
            client.send(&format!("become {}", 2000 + number));
            assert!(client.line().starts_with("uid "));
            client
        })
        .collect();
    let mut client = echo.connect();
    client.send("become 3000");
    assert_eq!(client.line(), "", "more workers than the role allows");
    echo.logged("no more are allowed");
    drop(held);
}

#[test]
fn an_idle_worker_of_a_user_goes_away_and_comes_back() {
    let echo = Echo::start(json!({ "idle_ms": 20 }));
    let user = || {
        let mut client = echo.connect();
        client.send("become 4711\r\npid\r\nquit");
        assert_eq!(client.line(), "uid 4711 1");
        client.line()
    };
    let first = user();
    let pid = nix::unistd::Pid::from_raw(first.parse().unwrap());
    let gone = || nix::sys::signal::kill(pid, None).is_err();
    eventually("the idle worker ends", gone, || echo.log());
    assert_ne!(user(), first);
}

#[test]
fn only_the_role_that_the_plan_names_may_ask_for_a_user() {
    let echo = Echo::start(json!({ "broker": "oracle" }));
    let mut client = echo.connect();
    client.send("become 4711");
    assert_eq!(client.line(), "");
    echo.logged("refused: role line is not in hand_over_from of role user");
}
