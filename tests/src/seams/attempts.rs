//! What a worker that a peer has taken over could try: each kind of worker of each daemon tries it, in its own process
//! and behind its own walls.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::path::Path;

use harness::client::{Client, trust};
use harness::inside::Inside;
use harness::site::Site;
use harness::{Daemon, Scratch, log, skip};
use nix::errno::Errno;
use nix::libc;

use super::sandbox::{OUTSIDE, role};

/// May open sockets to other hosts; everybody else has what the supervisor gave him, and sockets of this host.
const MEET_THE_NETWORK: [&str; 4] =
    ["smtpd: smtpd", "smtp-delivery: delivery", "dkim-milter: filter", "queue-manager: cleanup"];

/// Reads what the users' database needs, loads its modules, and is told nothing but names.
fn looks_users_up(role: &str) -> bool {
    role.ends_with(": users")
}

/// What a process tries, and with what result; only what was done counts as a fault.
fn faults(role: &str, pid: i32) -> Vec<String> {
    let inside = log::eventually("a worker that waits", || Inside::of(pid));
    let mut faults = Vec::new();
    let mut check = |what: &str, result: Result<u64, Errno>, wanted: &[Errno]| {
        if !result.is_err_and(|errno| wanted.contains(&errno)) {
            faults.push(format!("{role}: {what}: {result:?}"));
        }
    };
    let here = libc::AT_FDCWD as u64;
    let open = |path: &str, flags: i32| {
        let path = inside.text(path);
        inside.call(libc::SYS_openat, &[here, path, flags as u64, 0o600])
    };
    check("read /etc/shadow", open("/etc/shadow", libc::O_RDONLY), &[Errno::EACCES]);
    if !looks_users_up(role) {
        check("read what everybody may", open("/etc/passwd", libc::O_RDONLY), &[Errno::EACCES]);
    }
    let made = open("/dev/shm/theoris-was-here", libc::O_WRONLY | libc::O_CREAT);
    check("write where everybody may", made, &[Errno::EACCES]);
    let stream = libc::SOCK_STREAM as u64;
    if !MEET_THE_NETWORK.contains(&role) && !looks_users_up(role) {
        let socket = inside.call(libc::SYS_socket, &[libc::AF_INET as u64, stream]);
        check("connect elsewhere", socket, &[Errno::EPERM]);
    }
    let raw = inside.call(libc::SYS_socket, &[libc::AF_PACKET as u64, libc::SOCK_RAW as u64]);
    check("listen to the network", raw, &[Errno::EPERM]);
    let program = inside.text("/bin/true");
    check("exec", inside.call(libc::SYS_execve, &[program, 0, 0]), &[Errno::EPERM]);
    let at = inside.call(libc::SYS_execveat, &[here, program, 0, 0, 0]);
    check("exec at", at, &[Errno::EPERM]);
    let root = inside.text("/");
    check("chroot", inside.call(libc::SYS_chroot, &[root]), &[Errno::EPERM]);
    let own = inside.call(libc::SYS_getuid, &[]).unwrap();
    let parent = inside.call(libc::SYS_getppid, &[]).unwrap();
    let child = libc::SIGCHLD as u64;
    // Each of these would be done, or fail in another way, without the filter of system calls.
    for (what, number, arguments) in [
        ("setuid", libc::SYS_setuid, &[own][..]),
        ("setresuid", libc::SYS_setresuid, &[own, own, own]),
        ("setgroups", libc::SYS_setgroups, &[0, 0]),
        ("fork", libc::SYS_fork, &[]),
        ("vfork", libc::SYS_vfork, &[]),
        ("clone", libc::SYS_clone, &[child, 0, 0, 0, 0]),
        ("kill", libc::SYS_kill, &[parent, libc::SIGTERM as u64]),
        ("ptrace", libc::SYS_ptrace, &[u64::from(libc::PTRACE_SEIZE), parent, 0, 0]),
        ("listen", libc::SYS_listen, &[0, 1]),
        ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, &[libc::CLONE_NEWUSER as u64]),
        ("bpf", libc::SYS_bpf, &[0, 0, 0]),
        ("io_uring", libc::SYS_io_uring_setup, &[1, 0]),
        ("perf", libc::SYS_perf_event_open, &[0, 0, 0, 0, 0]),
        ("keys", libc::SYS_keyctl, &[0, 0, 0, 0, 0]),
        ("another's memory", libc::SYS_process_vm_readv, &[parent, 0, 0, 0, 0, 0]),
    ] {
        check(what, inside.call(number, arguments), &[Errno::EPERM]);
    }
    if !looks_users_up(role) {
        let (all, private) =
            (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE);
        let flags = (private | libc::MAP_ANONYMOUS) as u64;
        let code = inside.call(libc::SYS_mmap, &[0, 4096, all as u64, flags, u64::MAX, 0]);
        check("run what it writes", code, &[Errno::EPERM]);
    }
    faults
}

/// Every daemon with a worker of every kind at work, and each kind tries what it must not do.
#[test]
fn every_kind_of_worker_is_refused_what_it_must_not_do() {
    if !skip::can_run(true, &[]) {
        return;
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let scratch = Scratch::new();
    let site = Site::render(&samples.join("guide"), scratch.path());
    let run = site.root().join("run");
    let start = |daemon: &str| {
        let mut arguments = site.arguments(daemon);
        arguments
            .extend(["--set".to_owned(), format!("run-directory={:?}", run.display().to_string())]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // As a host has it: what is refused fails, and does not end the worker.
        Daemon::start_with(daemon, &run, &arguments, site.log.clone(), |command| {
            command.env("THEORIS__SANDBOX", "on");
        })
    };
    let daemons: Vec<Daemon> = site.daemons().map(start).collect();
    send(&site);
    deliver(&site);
    let readers = [read(&site, "imaps"), read(&site, "pop3s")];
    let (mut kinds, mut problems) = (BTreeSet::new(), Vec::new());
    for daemon in &daemons {
        for pid in daemon.workers() {
            let role = role(pid);
            if OUTSIDE.contains(&role.as_str()) || !kinds.insert(role.clone()) {
                continue;
            }
            problems.extend(faults(&role, pid));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    assert_eq!(kinds, KINDS);
    // They are as they were.
    drop(readers);
    send(&site);
    read(&site, "imaps");
    read(&site, "pop3s");
}

/// A message through all of them.
fn send(site: &Site) {
    let mut client = Client::tcp(site.port("smtp"));
    client.reply();
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<user1@example.com>", "250");
    client.expect("RCPT TO:<user1@example.com>", "250");
    client.expect("DATA", "354");
    let reply = client.expect("Subject: x\r\n\r\nbody\r\n.", "250");
    let id = reply.rsplit(' ').next().unwrap().to_owned();
    site.log.wait_until("a delivery", |lines| {
        let done = |line: &harness::log::Line| {
            line.text.contains(&id) && line.text.contains("status=sent")
        };
        lines.iter().any(done).then_some(())
    });
}

/// A message over LMTP.
fn deliver(site: &Site) {
    let mut client = Client::unix(&site.queue().join("private/dovecot-lmtp"));
    client.reply();
    client.expect("LHLO client.example", "250");
    client.expect("MAIL FROM:<user1@example.com>", "250");
    client.expect("RCPT TO:<user1@example.com>", "250");
    client.expect("DATA", "354");
    client.expect("Subject: x\r\n\r\nbody\r\n.", "250");
}

/// A reader with an open mailbox.
fn read(site: &Site, port: &str) -> Client {
    let mut client = Client::tls(site.port(port), site.host(), &trust(&site.ca));
    client.line();
    if port == "imaps" {
        let answer = client.imap("a", "LOGIN user1@example.com secret");
        assert!(answer.last().is_some_and(|line| line.starts_with("a OK")), "{answer:?}");
        client.imap("b", "SELECT INBOX");
    } else {
        client.send("USER user1@example.com\r\nPASS secret\r\nSTAT");
        let answer = [client.line(), client.line(), client.line()];
        assert!(answer[2].starts_with("+OK "), "{answer:?}");
    }
    client
}

/// All of them on this sample, but for those that are outside on purpose.
const KINDS: [&str; 34] = [
    "authd: auth",
    "authd: control",
    "dkim-milter: control",
    "dkim-milter: filter",
    "imapd: broker",
    "imapd: control",
    "imapd: login",
    "imapd: mailbox",
    "lmtp-delivery: agent",
    "lmtp-delivery: agent-delivery",
    "lmtp-delivery: control",
    "lmtp-delivery: delivery",
    "lmtp-delivery: lmtp",
    "lmtp-delivery: users",
    "pop3d: broker",
    "pop3d: control",
    "pop3d: login",
    "pop3d: mailbox",
    "queue-manager: agents",
    "queue-manager: bounce",
    "queue-manager: cleanup",
    "queue-manager: control",
    "queue-manager: flush",
    "queue-manager: pickup",
    "queue-manager: qmgr",
    "queue-manager: rewrite",
    "queue-manager: showq",
    "queue-manager: users",
    "smtp-delivery: control",
    "smtp-delivery: delivery",
    "smtp-delivery: users",
    "smtpd: control",
    "smtpd: smtpd",
    "smtpd: users",
];
