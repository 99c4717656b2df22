//! The echo service under its supervisor: everything that is promised to the daemons, before any mail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test from its first to its last line

mod support;

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
