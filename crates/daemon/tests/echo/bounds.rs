//! Clients that want too much.

use std::io::Write;

use serde_json::json;

use crate::support::Echo;

/// The most memory a process has used, in kB.
fn high_water(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_lines_from_a_client_that_does_not_read_stays_small() {
    let echo = Echo::start(json!({}));
    let mut client = echo.connect();
    let pid = client.ask("pid");
    let before = high_water(&pid);
    let mut sender = client.reader.get_ref().try_clone().unwrap();
    let line = "x".repeat(900);
    let flood = format!("{line}\r\n");
    let sending = std::thread::spawn(move || {
        for _ in 0..10_000 {
            sender.write_all(flood.as_bytes()).unwrap();
        }
    });
    for _ in 0..10_000 {
        assert_eq!(client.line(), line);
    }
    sending.join().unwrap();
    assert!(high_water(&pid) < before + 4000, "{before} kB, then {} kB", high_water(&pid));
}

#[test]
fn connections_beyond_the_bound_wait_for_their_turn() {
    let echo = Echo::start(json!({ "connections": 2 }));
    let (mut one, _two) = (echo.connect(), echo.connect());
    let third = std::net::TcpStream::connect(echo.address).unwrap();
    third.set_nonblocking(true).unwrap();
    assert_eq!(one.ask("ping"), "ping");
    let mut byte = [0];
    let waiting = std::io::Read::read(&mut &third, &mut byte).unwrap_err();
    assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock);
    one.send("quit");
    third.set_nonblocking(false).unwrap();
    assert_eq!(crate::support::Client::new(third).greeting, "hello 1");
}

#[test]
fn a_line_without_an_end_costs_no_memory() {
    let echo = Echo::start(json!({}));
    let mut client = echo.connect();
    let pid = client.ask("pid");
    let before = high_water(&pid);
    let mut sender = client.reader.get_ref().try_clone().unwrap();
    for _ in 0..200 {
        sender.write_all(&[b'y'; 64 * 1024]).unwrap();
    }
    client.send("");
    assert_eq!(client.line(), "y".repeat(1000));
    assert!(high_water(&pid) < before + 2000);
}
