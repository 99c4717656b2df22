//! From one generation to the next, under traffic.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::support::{Echo, eventually};

struct StopWhenDropped<'flag>(&'flag AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_reload_under_traffic_loses_no_connection() {
    let mut echo = Echo::start(json!({ "processes": 2 }));
    let mut old = echo.connect();
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen_generations = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (echo, stop, served) = (echo.address, &stop, &served);
                scope.spawn(move || {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let stream = std::net::TcpStream::connect(echo).unwrap();
                        let mut client = crate::support::Client::new(stream);
                        let generation = client.greeting.rsplit(' ').next().unwrap().parse::<u64>();
                        last = last.max(generation.expect("a greeting"));
                        for line in 0..3 {
                            let text = format!("client {number} line {line}");
                            assert_eq!(client.ask(&text), text);
                        }
                        client.send("quit");
                        assert_eq!(client.line(), "");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    last
                })
            })
            .collect();
        // Whatever happens here, they end.
        let stop = StopWhenDropped(&stop);
        for reload in 0..5 {
            echo.configure(json!({ "greeting": format!("hello{reload}") }));
            echo.reload();
            // Each of the eight may be in a conversation with the old generation; what comes after is the new one's.
            let before = served.load(Ordering::Relaxed);
            let goes_on = || served.load(Ordering::Relaxed) > before + 8;
            eventually("traffic", goes_on, String::new);
        }
        drop(stop);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(seen_generations.contains(&6), "{seen_generations:?}");
    assert_eq!(echo.connect().greeting, "hello4 6");
    assert_eq!(old.ask("still here"), "still here", "an old connection goes on");
    assert_eq!(old.ask("ask who"), "6 says: who", "a link outlives the generations");
}

#[test]
fn a_configuration_with_an_error_never_replaces_a_good_one() {
    let mut echo = Echo::start(json!({}));
    let good = std::fs::read(echo.path("echo.conf")).unwrap();
    std::fs::write(echo.path("echo.conf"), "{\n\n  \"listen\": 7\n}").unwrap();
    echo.reload();
    echo.logged("echo.conf:3: invalid type: integer `7`");
    echo.logged("reload refused: generation 1 goes on");
    assert_eq!(echo.connect().greeting, "hello 1");
    std::fs::write(echo.path("echo.conf"), good).unwrap();
    for (change, why) in [
        (json!({ "fail": "error" }), "line: told to fail"),
        (json!({ "fail": "exit" }), "line did not start"),
        (json!({ "fail": null, "secret": "/nowhere" }), "/nowhere: No such file"),
        (json!({ "secret": null, "unix": "/nowhere/socket" }), "cannot listen on /nowhere/socket"),
    ] {
        echo.configure(change);
        echo.reload();
        echo.logged(why);
        assert_eq!(echo.connect().greeting, "hello 1", "{why}");
    }
    echo.configure(json!({ "unix": null, "greeting": "again" }));
    echo.reload();
    assert!(echo.connect().greeting.starts_with("again "));
}

#[test]
fn an_old_generation_ends_when_its_time_is_over() {
    let mut echo = Echo::start(json!({ "reload_grace_ms": 50 }));
    let mut old = echo.connect();
    let pid: i32 = old.ask("pid").parse().unwrap();
    echo.reload();
    assert_eq!(old.line(), "", "cut off");
    let gone = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err();
    eventually("the old worker ends", gone, || echo.log());
    assert_eq!(echo.connect().greeting, "hello 2");
}

#[test]
fn a_change_of_a_watched_file_is_a_reload() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut echo = Echo::start(json!({ "watch": file.path() }));
    echo.configure(json!({ "greeting": "changed" }));
    std::fs::write(file.path(), "touched").unwrap();
    echo.until("RELOADING=1");
    echo.until("READY=1");
    assert_eq!(echo.connect().greeting, "changed 2");
}

#[test]
fn a_port_that_a_reload_drops_is_closed_while_its_connections_go_on() {
    let mut echo = Echo::launch(json!({}), false, &[]);
    echo.until("READY=1");
    let mut old = echo.connect();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    echo.configure(json!({ "listen": other }));
    echo.reload();
    echo.kept.clear(); // as the manager does that was told
    let refused = || std::net::TcpStream::connect(echo.address).is_err();
    eventually("the port to be closed", refused, || echo.log());
    assert!(!old.ask("pid").is_empty(), "goes on");
}

/// Its port is bound already, and goes to the next one.
#[test]
fn a_candidate_that_serves_when_it_is_given_up_serves_to_the_end() {
    let mut echo = Echo::launch(json!({}), false, &[]);
    echo.until("READY=1");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    echo.address = port.local_addr().unwrap();
    drop(port);
    echo.configure(json!({ "listen": echo.address, "slow": true }));
    echo.signal(nix::sys::signal::Signal::SIGHUP);
    echo.until("RELOADING=1");
    let accepts = || std::net::TcpStream::connect(echo.address).is_ok();
    eventually("the port of the candidate", accepts, || echo.log());
    let mut served = echo.connect();
    assert_eq!(served.greeting, "hello 2");
    echo.configure(json!({ "slow": false }));
    echo.reload();
    assert_eq!(served.ask("still here"), "still here", "{}", echo.log());
    assert_eq!(echo.connect().greeting, "hello 3");
    served.send("quit");
    assert_eq!(served.line(), "");
}
