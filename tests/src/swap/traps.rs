//! The traps of a live host that concern these planks; each test fails without its remedy.

use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use harness::client::Client;
use harness::log::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use theoris::planks::process;

use super::dkim;
use super::lines::Allowed;
use super::rig::{Host, Traffic, is_empty};
use super::smtp_out::{AT_A_RELOAD, Out, can_run};

/// What Postfix may say when the run that held a socket open is killed: connections that nobody had taken yet are reset.
const AFTER_A_KILL: &[Allowed] = &[];

/// The entry of `relay` stays live, so master takes its socket whenever it starts: the guard takes it back.
#[test]
fn a_restarted_master_loses_the_relay_socket_again_to_the_guard() {
    if !can_run() {
        return;
    }
    let mut out = Out::new();
    out.host.must(&["adopt", "smtp-out"]);
    let socket = out.host.postfix().queue().join("private/relay");
    let number = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap());
    let ours = number();
    let quiet = out.host.theoris(&["guard", "--once"]);
    assert_eq!(quiet.status.code(), Some(0), "{quiet:?}");
    let postfix = out.host.postfix.as_mut().unwrap();
    postfix.stop();
    postfix.start();
    let theirs = number();
    assert_ne!(theirs, ours, "master takes it in silence");
    let told = out.host.theoris(&["guard", "--once"]);
    assert!(harness::services::said(&told).contains("private/relay: taken back"), "{told:?}");
    assert_ne!(number(), theirs);
    let traffic = out.traffic();
    traffic.flows(6);
    let sent = traffic.end();
    out.all_once(&sent);
    assert!(out.by_us() >= sent.len(), "relay's mail is ours again");
    out.host.must(&["release", "smtp-out"]);
    let traffic = out.traffic();
    traffic.flows(6);
    let by_us = out.by_us();
    let sent = traffic.end();
    out.all_once(&sent);
    assert_eq!(out.by_us(), by_us, "and Postfix's after the release");
    out.host.no_complaints(AT_A_RELOAD);
}

/// Debian reloads Postfix on every change of resolv.conf; an adopted plank lives through it.
#[test]
fn stray_reloads_do_no_harm() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let traffic = out.traffic();
    let config = out.host.postfix().config().display().to_string();
    let reload =
        || out.host.swapping(|| out.host.postfix().command(&["postfix", "-c", &config, "reload"]));
    out.host.must(&["adopt", "smtp-out"]);
    for _ in 0..3 {
        reload();
        traffic.flows(5);
    }
    let told = out.host.theoris(&["guard", "--once"]);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    out.host.must(&["release", "smtp-out"]);
    reload();
    traffic.flows(5);
    let sent = traffic.end();
    out.all_once_or_twice(&sent);
    out.host.no_complaints(AT_A_RELOAD);
}

/// `postconf -M` appends a second, live entry: it is told with its line, and mail still goes out once.
#[test]
fn a_second_live_entry_is_told() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    out.host.must(&["adopt", "smtp-out"]);
    let config = out.host.postfix().config().display().to_string();
    out.host.postfix().command(&[
        "postconf",
        "-c",
        &config,
        "-M",
        "smtp/unix=smtp unix - - n - - smtp",
    ]);
    let told = harness::services::said(&out.host.theoris(&["guard", "--once"]));
    let text = String::from_utf8(out.host.master_cf()).unwrap();
    let line = 1 + text
        .lines()
        .position(|line| line.starts_with("smtp ") && line.contains(" unix "))
        .unwrap();
    assert!(told.contains(&format!("master.cf:{line}: smtp/unix is live again")), "{told}");
}

/// Debian's postinst runs `postfix upgrade-configuration`, which appends the entries that it does not find live.
#[test]
fn an_upgrade_of_postfix_adds_no_line() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let config = out.host.postfix().config().display().to_string();
    let upgrade =
        || out.host.postfix().command(&["postfix", "-c", &config, "upgrade-configuration"]);
    upgrade(); // whatever a host of this version lacks
    let before = out.host.master_cf();
    out.host.must(&["adopt", "smtp-out"]);
    let adopted = out.host.master_cf();
    upgrade();
    let after = out.host.master_cf();
    assert_eq!(String::from_utf8_lossy(&after), String::from_utf8_lossy(&adopted));
    out.host.postfix().command(&["postfix", "-c", &config, "reload"]);
    let told = out.host.theoris(&["guard", "--once"]);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let traffic = out.traffic();
    traffic.flows(6);
    let sent = traffic.end();
    out.all_once(&sent);
    assert!(out.by_us() >= sent.len(), "our sockets are ours still");
    out.host.must(&["release", "smtp-out"]);
    assert_eq!(out.host.master_cf(), before);
}

/// master ends the agents of a marked entry at once: one that delivers would do so again. The swap waits for it.
#[test]
fn a_delivery_under_way_is_waited_for() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let traffic = out.traffic_to(1, &["anna@slow.test"]);
    let held = out.slow.accept(); // an agent has given its content, and waits for the answer
    let sent = traffic.end();
    let mut child =
        out.host.command(&["adopt", "smtp-out"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("agents at")));
    assert!(!String::from_utf8_lossy(&out.host.master_cf()).contains("#theoris"), "not yet");
    assert!(child.try_wait().unwrap().is_none());
    held.answer();
    out.slow.serve();
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{said:#?}");
    out.host.queue_empties();
    let received = out.slow.received();
    for id in &sent {
        assert_eq!(received.iter().filter(|known| *known == id).count(), 1, "{id}: {received:?}");
    }
}

/// A plank that does not start is gone within ten seconds, and nothing has changed.
#[test]
fn a_daemon_that_does_not_start_is_rolled_back() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    out.host.services.break_unit("smtp-delivery");
    let before = out.host.master_cf();
    let traffic = out.traffic();
    traffic.flows(5);
    out.host.rolled_back(&["adopt", "smtp-out"]);
    assert_eq!(out.host.master_cf(), before);
    traffic.flows(5);
    let sent = traffic.end();
    out.all_once(&sent);
    assert_eq!(out.by_us(), 0);
    out.host.no_complaints(AT_A_RELOAD);
    assert!(no_second_names(&out.host));
}

fn no_second_names(host: &Host) -> bool {
    let entries = std::fs::read_dir(host.postfix().queue().join("private")).unwrap().flatten();
    !entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with('.'))
}

/// Killed at any step of an adoption, the next call undoes it; killed at any step of a release, it completes it. A stray
/// reload of Postfix in between, as Debian does it at each change of resolv.conf, changes nothing of that.
#[test]
fn an_interrupted_run_is_ended_by_the_next_one() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let before = out.host.master_cf();
    let config = out.host.postfix().config().display().to_string();
    let reload =
        || out.host.swapping(|| out.host.postfix().command(&["postfix", "-c", &config, "reload"]));
    let traffic = out.traffic();
    for step in
        ["keep a second name", "start smtp-delivery", "mark smtp", "reload Postfix", "see that"]
    {
        kill_at(&out.host, &["adopt", "smtp-out"], step);
        reload();
        // The next call, whatever it is asked, ends the interrupted run first.
        let text =
            harness::services::said(&out.host.swapping(|| out.host.theoris(&["release", "dkim"])));
        assert!(text.contains("dkim is not adopted"), "{text}");
        assert_eq!(out.host.master_cf(), before, "killed at {step}: {text}");
        assert!(out.host.services.pid("theoris-smtp-delivery.service").is_none(), "{step}");
        traffic.flows(3);
    }
    for step in ["take the marks", "which opens", "stop smtp-delivery"] {
        out.host.must(&["adopt", "smtp-out"]);
        kill_at(&out.host, &["release", "smtp-out"], step);
        reload();
        let text =
            harness::services::said(&out.host.swapping(|| out.host.theoris(&["release", "dkim"])));
        assert!(text.contains("a release was interrupted"), "{text}");
        assert_eq!(out.host.master_cf(), before, "killed at {step}: {text}");
        assert!(out.host.services.pid("theoris-smtp-delivery.service").is_none(), "{step}");
        traffic.flows(3);
    }
    let sent = traffic.end();
    out.all_once_or_twice(&sent);
    out.host.no_complaints(&[AT_A_RELOAD, AFTER_A_KILL].concat());
    assert!(no_second_names(&out.host));
}

/// Runs it and kills it as soon as it says that it is at this step.
#[track_caller]
fn kill_at(host: &Host, words: &[&str], step: &str) {
    let found = host.swapping(|| {
        let mut child =
            host.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = lines.by_ref().any(|line| line.unwrap().contains(step));
        child.kill().unwrap();
        child.wait().unwrap();
        found
    });
    assert!(found, "{words:?} never came to {step:?}");
}

/// An entry of somebody whose port another program has: it is told with its line, and master is not told to reload.
#[test]
fn an_entry_whose_port_is_taken_is_told_before_a_reload() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = taken.local_addr().unwrap().to_string();
    let add = || add_entry(&out, &name);
    let take_out = || {
        let entry = format!("{name}/inet");
        out.host.postfix().command(&["postconf", "-c", &config_of(&out), "-MX", &entry]);
    };
    let master = out.host.postfix().master_pid();
    let refused = |verb: &str| {
        let before = out.host.master_cf();
        let output = out.host.theoris(&[verb, "smtp-out"]);
        let text = harness::services::said(&output);
        let line =
            format!("master.cf:{}: {name} belongs to ", out.host.master_cf().lines().count());
        assert!(!output.status.success() && text.contains(&line), "{line}: {text}");
        assert_eq!(out.host.postfix().master_pid(), master);
        assert!(process::is_alive(master), "{text}");
        assert_eq!(out.host.master_cf(), before);
    };
    add();
    refused("adopt");
    take_out();
    out.host.must(&["adopt", "smtp-out"]);
    add();
    refused("release");
    take_out();
    out.host.must(&["release", "smtp-out"]);
    assert_eq!(out.host.postfix().master_pid(), master);
}

fn config_of(out: &Out) -> String {
    out.host.postfix().config().display().to_string()
}

fn add_entry(out: &Out, address: &str) {
    let entry = format!("{address}/inet={address} inet n - n - - smtpd");
    out.host.postfix().command(&["postconf", "-c", &config_of(out), "-M", &entry]);
}

/// Where that cannot be seen before, because nobody listens there yet, master ends at our reload. It runs again afterwards.
#[test]
fn a_master_that_ends_at_our_reload_is_started_again() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let postfix = out.host.postfix();
    let at_a_taken_port = |verb: &str| {
        let taken = bound_only();
        add_entry(&out, &taken.1);
        let master = postfix.master_pid();
        let free = std::thread::spawn(move || {
            while process::is_alive(master) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            drop(taken);
        });
        let output = out.host.theoris(&[verb, "smtp-out"]);
        free.join().unwrap();
        let text = harness::services::said(&output);
        assert!(text.contains("Postfix's master has ended at the reload"), "{text}");
        assert!(
            postfix.master_pid() != master && process::is_alive(postfix.master_pid()),
            "{text}"
        );
        output.status.success()
    };
    let before = out.host.master_cf();
    assert!(!at_a_taken_port("adopt"), "what ends master has to be mended first");
    assert!(out.host.services.pid("theoris-smtp-delivery.service").is_none());
    assert!(out.host.master_cf().starts_with(&before), "nothing of ours stays");
    out.host.must(&["adopt", "smtp-out"]);
    assert!(at_a_taken_port("release"));
    assert!(out.host.services.pid("theoris-smtp-delivery.service").is_none());
    assert!(Client::tcp(postfix.port).reply().starts_with("220 "), "it serves");
}

/// A port that is taken, at which nobody listens.
fn bound_only() -> (OwnedFd, String) {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket,
    };
    let taken =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(taken.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address = getsockname::<SockaddrIn>(taken.as_raw_fd()).unwrap().to_string();
    (taken, address)
}

/// Killed when OpenDKIM has been started with a socket of ours, which nobody finds yet: the next call puts it in its place.
#[test]
fn a_release_that_ends_before_opendkim_has_its_path_is_completed() {
    if !dkim::can_run() {
        return;
    }
    let host = dkim::host(dkim::on_unix, "tempfail");
    dkim::wait_for_filter(&host);
    let given = host.scratch.join("spool/milter/.theoris-given-socket");
    let opendkim = || {
        let pid = host.services.pid(dkim::UNIT)?;
        (process::command(pid) == "opendkim").then_some(Pid::from_raw(pid))
    };
    let hit = (0..10).any(|_| {
        host.must(&["adopt", "dkim"]);
        let mut child = host.command(&["release", "dkim"]).stdout(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && opendkim().is_none() {
            std::thread::yield_now();
        }
        // It has the socket, and while it takes no client the run waits.
        let stopped = opendkim().filter(|pid| kill(*pid, Signal::SIGSTOP).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        let hit = stopped.is_some() && given.exists();
        stopped.map(|pid| kill(pid, Signal::SIGCONT));
        let text = harness::services::said(&host.theoris(&["release", "smtp-out"]));
        assert!(text.contains("smtp-out is not adopted"), "{text}");
        hit
    });
    assert!(hit, "no run was killed between the two");
    assert!(!given.exists());
    assert!(host.services.pid("theoris-dkim-milter.service").is_none());
    let traffic = Traffic::start(host.postfix().port, 1, &["inbox@virt.example"]);
    traffic.flows(3);
    traffic.end();
    host.queue_empties();
    host.no_complaints(&[]);
}

/// OpenDKIM removes the socket's path on its way out, even when it is ours by then; it must not get the chance.
#[test]
fn opendkim_does_not_take_our_socket_with_it() {
    if !dkim::can_run() {
        return;
    }
    let host = dkim::host(dkim::on_unix, "tempfail");
    let socket = host.scratch.join("spool/milter/socket");
    eventually("OpenDKIM's socket", || socket.exists().then_some(()));
    // A stopped unit takes its RuntimeDirectory= with it.
    host.services.runtime_directory(dkim::UNIT, socket.parent().unwrap());
    host.must(&["adopt", "dkim"]);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    // Started by a package's script, it finds somebody there and gives up.
    host.services.systemctl(&["start", dkim::UNIT]);
    eventually("OpenDKIM to give up", || host.services.pid(dkim::UNIT).is_none().then_some(()));
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    // Gone with a runtime directory, or by somebody's hand, it comes back.
    std::fs::remove_file(&socket).unwrap();
    let told = harness::services::said(&host.theoris(&["guard", "--once"]));
    assert!(told.contains("taken back"), "{told}");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert!(is_empty(&host.postfix().queue()));
}
