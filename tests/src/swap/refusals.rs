//! What is refused before anything is changed, with file and line.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use harness::services::said;

use super::dkim;
use super::rig::Host;
use super::smtp_out::{Out, can_run};

#[track_caller]
fn unchanged(host: &Host, before: &[u8]) {
    assert_eq!(host.master_cf(), before);
    assert!(host.services.pid("theoris-smtp-delivery.service").is_none());
    assert!(!host.scratch.join("state/run.json").exists());
}

#[test]
fn bad_hosts_are_refused_and_left_alone() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let host = &out.host;
    let before = host.master_cf();
    let main = host.scratch.join("postfix/main.cf");
    let text = std::fs::read_to_string(&main).unwrap();
    let lines = text.lines().count();
    for (setting, said) in [
        ("multi_instance_name = postfix-out", "only the default instance"),
        ("smtp_connect_timeout = soon", "smtp_connect_timeout"),
        ("smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:x", "table type socketmap"),
    ] {
        std::fs::write(&main, format!("{text}{setting}\n")).unwrap();
        let told = host.refused(&["adopt", "smtp-out"]);
        assert!(
            told.contains(&format!("main.cf:{}: ", lines + 1)) && told.contains(said),
            "{told}"
        );
        assert!(told.contains("nothing was changed"), "{told}");
        unchanged(host, &before);
    }
    std::fs::write(&main, &text).unwrap();
    let told = host.refused(&["adopt", "auth"]);
    assert!(told.contains("auth cannot be swapped by command yet"), "{told}");
    let told = host.refused(&["release", "smtp-out"]);
    assert!(told.contains("smtp-out is not adopted"), "{told}");
    // Two at once.
    std::fs::create_dir_all(host.scratch.join("state")).unwrap();
    let lock = std::fs::File::create(host.scratch.join("state/lock")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let told = host.refused(&["adopt", "smtp-out"]);
    assert!(told.contains("another theoris adopt or release is at work"), "{told}");
    drop(lock);
    // All or none: dkim has no configuration here.
    let told = host.refused(&["adopt", "smtp-out", "dkim"]);
    assert!(told.contains("opendkim.conf"), "{told}");
    unchanged(host, &before);
    // What it would do, exactly.
    let told = host.must(&["adopt", "smtp-out", "--dry-run"]);
    unchanged(host, &before);
    let entry = String::from_utf8_lossy(&before).into_owned();
    let (index, line) = entry
        .lines()
        .enumerate()
        .find(|(_, line)| line.starts_with("smtp ") && line.contains(" unix "))
        .unwrap();
    assert!(told.contains(&format!("master.cf:{}: +#theoris: {line}\n", index + 1)), "{told}");
    // Adopted already, by us and by marks that no record knows.
    host.must(&["adopt", "smtp-out"]);
    let told = host.refused(&["adopt", "smtp-out"]);
    assert!(told.contains("smtp-out is adopted already"), "{told}");
    host.must(&["release", "smtp-out"]);
    let marked = entry.replacen(line, &format!("#theoris: {line}"), 1);
    std::fs::write(host.scratch.join("postfix/master.cf"), &marked).unwrap();
    let told = host.refused(&["adopt", "smtp-out"]);
    assert!(told.contains(&format!("master.cf:{}: smtp/unix is marked", index + 1)), "{told}");
}

/// In a mount namespace of its own, the configuration directory cannot be written.
#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let host = &out.host;
    let before = host.master_cf();
    let directory = host.scratch.join("postfix");
    for (mount, why) in [
        (
            "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"",
            "the file system is read-only",
        ),
        (
            "cp -a \"$1\" \"$1.copy\" && mount -t tmpfs -o size=16k none \"$1\" && cp -a \"$1.copy/.\" \"$1\" && \
             { cat /dev/zero > \"$1/filler\" || true; } 2>/dev/null",
            "no space is left",
        ),
    ] {
        let command = host.command(&["adopt", "smtp-out"]);
        let script = format!("{mount} && shift && exec \"$@\"");
        let done = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
            .arg(&directory)
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .output()
            .unwrap();
        let told = said(&done);
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(told.contains("master.cf: ") && told.contains(why), "{told}");
        unchanged(host, &before);
    }
}

#[test]
fn a_socket_of_somebody_else_is_left_alone() {
    if !dkim::can_run() {
        return;
    }
    let host = dkim::host(dkim::on_unix, "tempfail");
    host.services.systemctl(&["stop", dkim::UNIT]);
    let socket = host.scratch.join("spool/milter/socket");
    let told = host.refused(&["adopt", "dkim"]);
    assert!(told.contains("opendkim.conf:8: nobody listens on"), "{told}");
    let _ = std::fs::remove_file(&socket);
    let _somebody = UnixListener::bind(&socket).unwrap();
    let told = host.refused(&["adopt", "dkim"]);
    assert!(told.contains("opendkim.conf:8: ") && told.contains("not to OpenDKIM"), "{told}");
}

/// In a container nobody would start ours at a boot, or keep it: it is refused with what to do instead.
#[test]
fn without_systemd_nothing_is_adopted() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let host = &out.host;
    let before = host.master_cf();
    let nothing = host.scratch.directory("container/nothing");
    let program = host.scratch.write(
        "container/systemctl",
        "#!/bin/sh\necho \"System has not been booted with systemd as init system (PID 1). Can't operate.\" >&2\nexit 1\n",
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in [nothing.as_path(), program.parent().unwrap()] {
        for words in [&["adopt", "smtp-out"][..], &["adopt", "smtp-out", "--gap"]] {
            let done = host.command(words).env("PATH", path).output().unwrap();
            let told = said(&done);
            assert_eq!(done.status.code(), Some(2), "{told}");
            assert!(
                told.contains("systemd does not answer: planks are swapped under systemd only; in a container run")
                    && told.contains("nothing was changed"),
                "{told}"
            );
            unchanged(host, &before);
        }
    }
}
