//! The control socket, the journal, and garbage on every socket that is ours.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Echo, LIMIT, binary, eventually};

#[test]
fn status_and_metrics_are_answered() {
    let mut echo = Echo::start(json!({ "control": "CONTROL", "user": "nobody", "processes": 2 }));
    for _ in 0..5 {
        echo.connect().ask("one");
    }
    let state = echo.state();
    assert_eq!((&state["daemon"], &state["generation"]), (&json!("echo"), &json!(1)));
    let ready = state["workers"].as_array().unwrap().iter();
    assert_eq!(
        ready.filter(|worker| worker["role"] == "line" && worker["state"] == "ready").count(),
        2
    );
    let counted = "theoris_echo_connections_total{role=\"line\"} 5\n";
    assert!(echo.control("metrics\n").contains(counted));
    echo.reload();
    eventually("the new state", || echo.state()["generation"] == 2, || echo.log());
    assert!(echo.control("metrics\n").contains(counted), "counters outlive a reload");
}

#[test]
fn garbage_on_the_control_socket_changes_nothing() {
    let echo = Echo::start(json!({ "control": "CONTROL" }));
    assert!(echo.control("frobnicate\n").starts_with("unknown command"));
    for garbage in [&b"\0\xff\xfe"[..], &[b'x'; 100_000], b"status"] {
        let mut socket = UnixStream::connect(echo.path("control")).unwrap();
        let _ = socket.write_all(garbage);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert_eq!(echo.state()["generation"], 1);
}

#[test]
fn garbage_from_a_worker_ends_that_worker() {
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let echo = Echo::start(json!({ "control": "CONTROL" }));
    let mut client = echo.connect();
    let pid: i32 = client.ask("pid").parse().unwrap();
    let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    // Whatever sockets the worker holds, the supervisor's among them, get garbage.
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let number = descriptor.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Ok(copy) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
        let kind = rustix::net::sockopt::socket_type(&copy);
        if kind.is_ok_and(|kind| kind == rustix::net::SocketType::SEQPACKET) {
            let _ = daemon::descriptors::send(&copy, b"\xff\xff\xff\xffgarbage", &[]);
        }
    }
    echo.logged("head longer than its datagram: killed");
    let worker = nix::unistd::Pid::from_raw(pid);
    eventually("it ends", || nix::sys::signal::kill(worker, None).is_err(), || echo.log());
    assert_eq!(echo.connect().ask("next"), "next");
    assert_eq!(echo.state()["generation"], 1);
}

#[test]
fn a_worker_takes_no_garbage_for_a_start() {
    for garbage in [&b"x"[..], b"\x02\0\0\0{}", b"\x07\0\0\0\"Start\"", b"\x07\0\0\0\"Alone\""] {
        let (here, there) = daemon::descriptors::pair().unwrap();
        let mut worker = Command::new(binary())
            .arg("--theoris-worker")
            .stdin(Stdio::from(there))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        daemon::descriptors::send(&here, garbage, &[]).unwrap();
        assert_eq!(worker.wait().unwrap().code(), Some(75));
    }
    let by_hand =
        Command::new(binary()).arg("--theoris-worker").stdin(Stdio::null()).output().unwrap();
    assert_eq!(by_hand.status.code(), Some(64));
}

#[test]
fn lines_go_to_the_journal_and_a_deaf_one_blocks_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(LIMIT)).unwrap();
    let extra = json!({ "control": "CONTROL" });
    let mut echo = Echo::launch(extra, true, &[("THEORIS_JOURNAL", path.as_path())]);
    echo.until("READY=1");
    let mut client = echo.connect();
    assert_eq!(client.ask("log 1"), "logged");
    let mut buffer = vec![0; 100_000];
    let entry = loop {
        let count = journal.recv(&mut buffer).unwrap();
        let entry = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if entry.contains("SYSLOG_IDENTIFIER=echo/line\n") {
            break entry;
        }
    };
    assert!(entry.starts_with("MESSAGE=line 0\nPRIORITY=6\nSYSLOG_FACILITY=2\n"), "{entry}");
    assert!(entry.contains(&format!("SYSLOG_PID={}\n", client.ask("pid"))), "{entry}");
    assert!(entry.ends_with("THEORIS_NUMBER=0\n"), "{entry}");
    assert_eq!(client.ask("log 10000"), "logged", "though nobody reads the journal");
    assert_eq!(client.ask("next"), "next");
    let dropped = || {
        let metrics = echo.control("metrics\n");
        let dropped =
            metrics.lines().find_map(|line| line.strip_prefix("theoris_echo_log_lines_dropped "));
        dropped.is_some_and(|count| count.parse::<u64>().unwrap() > 5000)
    };
    eventually("dropped lines are counted", dropped, || echo.control("metrics\n"));
    drop(OwnedFd::from(journal));
}
