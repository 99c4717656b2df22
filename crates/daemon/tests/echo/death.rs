//! Workers and supervisors that die.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{Echo, eventually};

#[test]
fn a_killed_worker_is_replaced() {
    let mut echo = Echo::start(json!({}));
    for _ in 0..3 {
        let mut client = echo.connect();
        let pid: i32 = client.ask("pid").parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert_eq!(client.line(), "");
        let mut next = echo.connect(); // waits in the listen queue until a worker is there
        assert_ne!(next.ask("pid"), pid.to_string());
    }
    echo.logged("killed by signal 9");
    echo.signal(Signal::SIGTERM);
    assert_eq!(echo.wait().code(), Some(0));
}

#[test]
fn a_request_whose_server_dies_ends_and_the_next_is_answered() {
    let echo = Echo::start(json!({}));
    let mut client = echo.connect();
    assert_eq!(client.ask("ask die"), "");
    assert_eq!(client.ask("ask again"), "1 says: again");
}

#[test]
fn a_panic_ends_one_connection_and_is_counted() {
    let echo = Echo::start(json!({ "control": "CONTROL" }));
    let (mut one, mut other) = (echo.connect(), echo.connect());
    let pid = other.ask("pid");
    assert_eq!(one.ask("panic"), "");
    assert_eq!(other.ask("pid"), pid, "the same worker goes on");
    echo.logged("told to panic");
    assert!(echo.control("metrics\n").contains("theoris_echo_panics_total 1\n"));
}

#[test]
fn workers_end_with_their_supervisor() {
    let mut echo = Echo::start(json!({}));
    let mut client = echo.connect();
    let pid: i32 = client.ask("pid").parse().unwrap();
    echo.signal(Signal::SIGKILL);
    echo.wait();
    assert_eq!(client.ask("goodbye"), "goodbye", "what is open may finish");
    client.send("quit");
    let gone = || kill(Pid::from_raw(pid), None).is_err();
    eventually("the orphan ends", gone, || echo.log());
}

#[test]
fn a_connection_that_does_not_end_is_cut_at_the_stop() {
    let mut echo = Echo::start(json!({}));
    let mut client = echo.connect();
    echo.signal(Signal::SIGTERM);
    echo.until("STOPPING=1");
    echo.signal(Signal::SIGTERM); // twice: at once
    assert_eq!(echo.wait().code(), Some(0));
    assert_eq!(client.line(), "");
}

#[test]
fn who_is_asked_ends_after_those_who_ask() {
    let mut echo = Echo::start(json!({ "stop_grace_ms": 60_000 }));
    let mut client = echo.connect();
    echo.signal(Signal::SIGTERM);
    echo.until("STOPPING=1");
    // Far longer than a process needs to end that was told to.
    for number in 0..500 {
        assert_eq!(client.ask(&format!("ask {number}")), format!("1 says: {number}"));
    }
    client.send("quit");
    assert_eq!(echo.wait().code(), Some(0));
}

#[test]
fn nobody_is_refused_while_a_killed_supervisor_is_replaced() {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let mut echo = Echo::launch(json!({ "listen": address, "control": "CONTROL" }), false, &[]);
    echo.until("READY=1");
    echo.address = address;
    echo.kept.retain(|(name, _)| name.starts_with("kept-echo"));
    assert_eq!(echo.kept.len(), 1);
    let worker: i32 = echo.connect().ask("pid").parse().unwrap();
    echo.signal(Signal::SIGKILL);
    echo.wait();
    let gone = || kill(Pid::from_raw(worker), None).is_err();
    eventually("the old worker ends", gone, || echo.log());
    let waiting = std::net::TcpStream::connect(address).expect("the manager holds the socket");
    echo.start_again();
    assert_eq!(crate::support::Client::new(waiting).greeting, "hello 1");
}

#[test]
fn who_waits_at_a_kept_unix_socket_is_served_by_the_next_supervisor() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    let directory = tempfile::tempdir().unwrap();
    let unix = directory.path().join("echo.sock");
    let extra = json!({ "listen": "127.0.0.1:0", "unix": unix });
    let mut echo = Echo::launch(extra, false, &[]);
    echo.until("READY=1");
    echo.kept.retain(|(name, _)| name.ends_with("echo.sock"));
    assert_eq!(echo.kept.len(), 1, "{:?}", echo.kept);
    let connect = || {
        let stream = UnixStream::connect(&unix).expect("the manager holds the socket");
        stream.set_read_timeout(Some(crate::support::LIMIT)).unwrap();
        stream
    };
    let greeting = |stream: UnixStream| {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    let mut first = connect();
    first.write_all(b"pid\r\n").unwrap();
    let lines: Vec<String> = BufReader::new(first).lines().take(2).map(Result::unwrap).collect();
    let worker: i32 = lines[1].parse().unwrap();
    echo.signal(Signal::SIGKILL);
    echo.wait();
    let gone = || kill(Pid::from_raw(worker), None).is_err();
    eventually("the old worker ends", gone, || echo.log());
    let waiting = connect();
    echo.start_again();
    assert_eq!(greeting(waiting), "hello 1\r\n");
    assert_eq!(greeting(connect()), "hello 1\r\n", "the path leads to the next supervisor");
}
