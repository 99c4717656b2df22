//! The echo service under its supervisor: everything that is promised to the daemons, before any mail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test from its first to its last line

mod bounds;
mod configuration;
mod control;
mod death;
mod privileges;
mod reload;
mod sandbox;
mod support;
mod tls;

use serde_json::json;
use support::Echo;

#[test]
fn a_line_comes_back_and_the_daemon_stops_when_told() {
    let mut echo = Echo::start(json!({}));
    let mut client = echo.connect();
    assert_eq!(client.greeting, "hello 1");
    assert_eq!(client.ask("a line"), "a line");
    assert_eq!(client.ask("ask how long"), "1 says: how long");
    client.send("quit");
    assert_eq!(client.line(), "");
    echo.signal(nix::sys::signal::Signal::SIGTERM);
    echo.until("STOPPING=1");
    assert_eq!(echo.wait().code(), Some(0));
}

#[test]
fn it_binds_its_own_sockets_and_keeps_them_over_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let unix = directory.path().join("echo.sock");
    std::os::unix::net::UnixListener::bind(&unix).unwrap(); // a stale one
    let extra = json!({ "listen": "127.0.0.1:0", "unix": unix, "control": directory.path().join("control") });
    let mut echo = Echo::launch(extra, false, &[]);
    echo.until("READY=1");
    let addresses = |echo: &Echo| -> Vec<String> {
        let state = echo.state_at(&directory.path().join("control"));
        let all = state["listeners"].as_array().unwrap().iter();
        all.map(|listener| listener["address"].as_str().unwrap().to_owned()).collect()
    };
    let before = addresses(&echo);
    echo.address = before[0].parse().unwrap();
    echo.reload();
    assert_eq!(addresses(&echo), before);
    assert_eq!(echo.connect().greeting, "hello 2");
    let client = std::os::unix::net::UnixStream::connect(&unix).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(client), &mut line).unwrap();
    assert_eq!(line, "hello 2\r\n");
}

#[test]
fn the_watchdog_is_fed() {
    let mut echo = Echo::launch(json!({}), true, &[("WATCHDOG_USEC", "20000".as_ref())]);
    for _ in 0..3 {
        echo.until("WATCHDOG=1");
    }
}
