//! The planks that no command swaps yet, under every kind of mail: smtpd, queue-manager, lmtp-delivery and authd, in and
//! out by the harness as `docs/swapping.md` says, all else being the originals.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::Log;
use harness::client::Client;
use harness::daemon::Daemon;
use harness::log::{eventually, settled};
use harness::postfix::Postfix;
use harness::swap::{QUEUE, Service, children, keep, listening, put_back, sockets};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use theoris::planks::hand::Offer;
use theoris::planks::process::{self, Address};

use super::lines::{Allowed, BEGINS, When, complaints};
use super::mix::{Expected, Milter, Mix, SENDERS, Way, can_run};
use super::rig::Host;
use super::smtp_out::{AT_A_RELOAD, Out};

/// The sockets of Dovecot's `service auth`.
const AUTH: [&str; 6] = [
    "auth-client",
    "auth-login",
    "auth-master",
    "auth-userdb",
    "login/login",
    "token-login/tokenlogin",
];
/// What delivers into mailboxes for Postfix, beside Dovecot's lmtp.
const AGENTS: &[Service<'static>] = &[("local", "unix"), ("virtual", "unix")];
const QMGR: &[Service<'static>] = &[("qmgr", "unix")];
/// Clients keep their connections to it, and ask again when it ends.
const REWRITE: Service<'static> = ("rewrite", "unix");

/// One daemon of ours, and what all its runs have said.
#[derive(Default)]
struct Plank {
    running: Option<Daemon>,
    log: Log,
}

impl Plank {
    #[track_caller]
    fn start(&mut self, host: &Host, name: &str, words: &[&str]) {
        let toml = host.toml();
        let words = [words, &["--theoris", &toml]].concat();
        let run = host.scratch.directory("run");
        self.log.push(BEGINS.to_owned());
        self.running = Some(Daemon::start_with(name, &run, &words, self.log.clone(), |_| {}));
    }

    fn daemon(&self) -> &Daemon {
        self.running.as_ref().unwrap()
    }

    /// Nobody has reached its sockets whom it has not accepted.
    #[track_caller]
    fn nobody_waits(&self) {
        let pid = self.daemon().pid();
        eventually("nobody to wait", || (process::waiting(pid) == 0).then_some(()));
    }

    /// Nor does it serve anybody: a delivery that is cut is done twice.
    #[track_caller]
    fn is_idle(&self) {
        let pid = self.daemon().pid();
        let idle = || process::waiting(pid) == 0 && process::served(&process::tree(pid), &[]) == 0;
        eventually("nobody to be served", || idle().then_some(()));
    }

    #[track_caller]
    fn stop(&mut self) {
        self.log.push(BEGINS.to_owned());
        assert!(self.running.take().unwrap().stop().success(), "{}", self.log.text());
    }

    /// Ours complains of nothing else.
    #[track_caller]
    fn is_quiet(&self, allowed: &[Allowed]) {
        let bad = complaints(&self.log.text(), allowed);
        assert!(bad.is_empty(), "{bad:#?}\n{}", self.log.text());
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal); // it may have ended
}

/// Stopped processes; they go on when this is dropped, however a test ends.
struct Stopped(Vec<i32>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
    }
}

/// Waits until none of master's processes serves a client at these sockets, and none waits there. Ours have their places.
#[track_caller]
fn idle(postfix: &Postfix, services: &[Service<'_>]) {
    let at: Vec<Address> =
        sockets(services).iter().map(|name| Address::Unix(name.into())).collect();
    let master = postfix.master_pid();
    eventually("Postfix's own processes to be idle", || {
        (process::served(&process::tree(master), &at) == 0).then_some(())
    });
}

/// Stops Postfix's queue manager at an instant at which no agent delivers: the one that a reload starts asks again for what
/// the old one has asked for and no agent has begun.
#[track_caller]
fn hold_queue_manager(postfix: &Postfix, master: i32) -> Stopped {
    let active = postfix.queue().join("active");
    // Between a request and the opening of the file there is hardly any time.
    let quiet = || {
        (0..3).all(|_| {
            std::thread::park_timeout(Duration::from_millis(5));
            !process::is_open_below(&active)
        })
    };
    eventually("an instant without a delivery", || {
        let held = Stopped(process::children(master, "qmgr"));
        held.0.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            if quiet() {
                return Some(held);
            }
        }
        None
    })
}

/// Has master read master.cf, and waits until it has done so. What `stop` stops goes on at its end or afterwards: master
/// waits for the end of every process of a service that goes. (Not before the queue manager is held: deliveries may need
/// master for their end.)
#[track_caller]
fn reload(postfix: &Postfix, stop: impl FnOnce() -> Stopped, done: impl Fn(i32) -> bool) {
    let master = postfix.master_pid();
    let managers = hold_queue_manager(postfix, master);
    let stopped = stop();
    signal(master, Signal::SIGHUP);
    signal(master, Signal::SIGCONT);
    let read = settled(|| {
        let held = stopped.0.iter().chain(&managers.0);
        held.filter(|pid| has_to_end(**pid)).for_each(|pid| signal(*pid, Signal::SIGCONT));
        let done = done(master);
        (done, done)
    });
    // It would end by itself, but first it would make the requests that it has half made.
    managers.0.iter().for_each(|pid| signal(*pid, Signal::SIGTERM));
    drop((managers, stopped));
    assert!(read, "master, pid {master}, does not do it:\n{}", postfix.log.text());
}

/// Nothing else has to be stopped for a reload.
fn nothing() -> Stopped {
    Stopped(Vec::new())
}

/// Whether SIGTERM waits for a process.
fn has_to_end(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let set = text.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    set & (1 << (Signal::SIGTERM as i32 - 1)) != 0
}

/// The harness ends Postfix's queue manager itself; and where master ends the services of the queue, cleanup.
const AT_OUR_RELOAD: [Allowed; AT_A_RELOAD.len() + 3] = {
    let manager = Allowed {
        line: "postfix/master: warning: process /usr/lib/postfix/sbin/qmgr pid * killed by signal 15",
        when: When::InASwap(1),
        why: "by the harness, while it is held for the reload at which it would end",
    };
    let cleanup = Allowed {
        line: "postfix/master: warning: process /usr/lib/postfix/sbin/cleanup pid * exit status 15",
        when: When::InASwap(20),
        why: "it had nothing to do when master ended it, and tells the signal as its status",
    };
    let mut all = [cleanup; AT_A_RELOAD.len() + 3];
    all[0] = manager;
    all[1] = Allowed {
        line: "postfix/*: warning: connect #1 to subsystem *: No such file or directory",
        when: When::InASwap(3),
        why: "master takes the name of a socket away before it binds its own; the client asks again",
    };
    let mut index = 0;
    while index < AT_A_RELOAD.len() {
        all[index + 3] = AT_A_RELOAD[index];
        index += 1;
    }
    all
};

/// Whether master has all of these sockets open, or none.
fn has(master: i32, services: &[Service<'_>], open: bool) -> bool {
    let there = listening(master);
    sockets(services).iter().all(|socket| there.contains(socket) == open)
}

/// Dovecot's lmtp keeps its connection to auth, as it does beside Dovecot's own; when that has ended behind it, it says so at
/// the next message, which Postfix brings again.
const AUTH_HAS_ENDED: &[Allowed] = &[
    Allowed {
        line: "lmtp(*: Error: auth-master: userdb lookup(*): write(auth socket) failed: Broken pipe",
        when: When::InASwap(LMTP),
        why: "it writes on the connection to auth that has ended",
    },
    Allowed {
        line: "lmtp(*): Error: lmtp-server: conn *: rcpt *: Failed to lookup user *: Internal error occurred. Refer to server log for more information.",
        when: When::InASwap(LMTP),
        why: "so it puts the message off",
    },
];
/// Processes of Dovecot's lmtp: Postfix delivers so many messages at once to a destination.
const LMTP: usize = 20;

#[test]
fn auth_under_every_kind_of_mail() {
    if !can_run() {
        return;
    }
    let (mix, mut ours) = (Mix::new(Milter::Unix), Plank::default());
    let config = show(&mix.dovecot.config());
    let expected = Expected { dovecot: AUTH_HAS_ENDED, ..Expected::default() };
    mix.swapped_three_times(&expected, |mix, way| match way {
        Way::In => {
            // Dovecot listens on, under a name that nobody uses: there is no instant without a socket.
            AUTH.iter().for_each(|name| keep(&mix.dovecot.socket(name)));
            ours.start(&mix.host, "authd", &["-c", &config]);
        }
        Way::Out => {
            AUTH.iter().for_each(|name| put_back(&mix.dovecot.socket(name)));
            ours.nobody_waits();
            ours.stop();
        }
    });
    ours.is_quiet(&[]);
}

#[test]
fn mda_under_every_kind_of_mail() {
    if !can_run() {
        return;
    }
    let (mix, mut ours) = (Mix::new(Milter::Unix), Plank::default());
    let (main, config) = (show(&mix.host.postfix().config()), show(&mix.dovecot.config()));
    let expected = Expected { postfix: &AT_OUR_RELOAD, ..Expected::default() };
    mix.swapped_three_times(&expected, |mix, way| {
        let postfix = mix.host.postfix();
        match way {
            Way::In => {
                keep(&mix.dovecot.lmtp);
                postfix.without(AGENTS);
                ours.start(&mix.host, "lmtp-delivery", &["-c", &main, "--dovecot", &config]);
                idle(postfix, AGENTS);
                reload(postfix, nothing, |master| has(master, AGENTS, false));
            }
            Way::Out => {
                put_back(&mix.dovecot.lmtp);
                postfix.with(AGENTS);
                reload(postfix, nothing, |master| has(master, AGENTS, true));
                ours.is_idle();
                ours.stop();
            }
        }
    });
    ours.is_quiet(&[]);
}

#[test]
fn queue_under_every_kind_of_mail() {
    if !can_run() {
        return;
    }
    let (mix, mut ours) = (Mix::new(Milter::Unix), Plank::default());
    let main = show(&mix.host.postfix().config());
    let around: Vec<Service<'_>> =
        QUEUE.iter().copied().filter(|service| !QMGR.contains(service)).collect();
    let short: Vec<Service<'_>> =
        around.iter().copied().filter(|service| *service != REWRITE).collect();
    let expected = Expected { postfix: &AT_OUR_RELOAD, ..Expected::default() };
    mix.swapped_three_times(&expected, |mix, way| {
        let postfix = mix.host.postfix();
        match way {
            Way::In => {
                postfix.keep_held();
                // First all but the queue manager: ours take the places of the sockets, and mail comes in without a gap.
                postfix.without(&around);
                ours.start(&mix.host, "queue-manager", &["-c", &main]);
                idle(postfix, &short);
                // Two queue managers would both deliver: theirs has ended before ours begins.
                postfix.without(QMGR);
                reload(postfix, nothing, |master| has(master, QUEUE, false));
                let master = postfix.master_pid();
                eventually("the end of Postfix's queue manager", || {
                    process::children(master, "qmgr").is_empty().then_some(())
                });
                ours.daemon().reload();
            }
            Way::Out => {
                postfix.put_held_back();
                ours.nobody_waits();
                postfix.with(QMGR);
                ours.daemon().reload();
                eventually("the end of our queue manager", || {
                    (!has_role(ours.daemon(), "queue-manager: qmgr")).then_some(())
                });
                postfix.with(&around);
                reload(postfix, nothing, |master| has(master, QUEUE, true));
                ours.nobody_waits();
                ours.stop();
            }
        }
    });
    ours.is_quiet(&[]);
}

/// Whether a worker of this name lives.
fn has_role(daemon: &Daemon, name: &str) -> bool {
    daemon.workers().iter().any(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    })
}

/// On the way out ours has to close the port before master binds it: for this moment nobody listens. Each sender may meet
/// the end of its session, that of one that was never accepted, and the closed port.
const SMTP_IN: Expected =
    Expected { postfix: &AT_OUR_RELOAD, dovecot: &[], repeated: 0, put_off: 3 * SENDERS };

#[test]
fn smtp_in_under_every_kind_of_mail() {
    if !can_run() {
        return;
    }
    let (mix, mut ours) = (Mix::new(Milter::Unix), Plank::default());
    let (main, port) = (show(&mix.host.postfix().config()), mix.host.postfix().port);
    let name = format!("127.0.0.1:{port}");
    let smtp: [Service<'_>; 1] = [(&name, "inet")];
    let at = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    mix.swapped_three_times(&SMTP_IN, |mix, way| {
        let postfix = mix.host.postfix();
        match way {
            Way::In => takes_port(&mix.host, &mut ours, &main, &smtp, &at),
            Way::Out => {
                // A port that is still bound when its line comes alive would be the end of master.
                ours.stop();
                postfix.with(&smtp);
                reload(postfix, nothing, |master| !process::listening(master, &at).is_empty());
            }
        }
        assert_eq!(process::listening(postfix.master_pid(), &at).is_empty(), way == Way::In);
    });
    ours.is_quiet(&[]);
}

#[track_caller]
fn takes_port(host: &Host, ours: &mut Plank, main: &str, smtp: &[Service<'_>], at: &Address) {
    let postfix = host.postfix();
    let held = process::listening(postfix.master_pid(), at);
    let socket = process::take(&held[0]).unwrap();
    let offer = Offer::new(&host.scratch.join("run/smtpd.sockets"), vec![socket]);
    postfix.without(smtp);
    offer.unwrap().during(|| ours.start(host, "smtpd", &["-c", main]));
    let between = || between_dialogues(postfix, at);
    reload(postfix, between, |master| process::listening(master, at).is_empty());
}

/// Somebody has Postfix serve the port again, by taking the mark away or by an entry beside it: with the port taken, the next
/// reload would be the end of master and of all of Postfix. Whoever is served by ours is served to the end.
#[test]
fn a_port_whose_line_is_live_again_is_closed_before_a_reload() {
    if !super::smtp_out::can_run() {
        return;
    }
    let (out, mut ours) = (Out::new(), Plank::default());
    let postfix = out.host.postfix();
    let (main, master) = (show(&postfix.config()), postfix.master_pid());
    let name = format!("127.0.0.1:{}", postfix.port);
    let smtp: [Service<'_>; 1] = [(&name, "inet")];
    let at = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], postfix.port)));
    for appended in [false, true] {
        takes_port(&out.host, &mut ours, &main, &smtp, &at);
        let mut client = Client::tcp(postfix.port);
        assert!(client.reply().starts_with("220"));
        match appended {
            false => postfix.with(&smtp),
            true => {
                let entry = format!("{name}/inet={name} inet n - n - - smtpd");
                postfix.command(&["postconf", "-c", &main, "-M", &entry]);
            }
        }
        let closed = settled(|| {
            let closed = process::listeners(&at).is_empty();
            (closed, closed)
        });
        assert!(closed, "appended: {appended}\n{}", ours.log.text());
        postfix.command(&["postfix", "-c", &main, "reload"]);
        eventually("Postfix to listen", || {
            (!process::listening(master, &at).is_empty()).then_some(())
        });
        assert!(client.ask("NOOP").starts_with("250"), "{}", client.transcript);
        assert!(client.ask("QUIT").starts_with("221"), "{}", client.transcript);
        let ended = ours.running.take().unwrap().wait_end();
        assert_eq!(ended.code(), Some(78), "{}", ours.log.text());
        assert!(Client::tcp(postfix.port).reply().starts_with("220"));
    }
    assert_eq!(postfix.master_pid(), master);
}

/// Stops Postfix's servers while they serve nobody, and master, which will end them: no dialogue is cut. Who connects
/// meanwhile meets ours, which has the same socket.
#[track_caller]
fn between_dialogues(postfix: &Postfix, at: &Address) -> Stopped {
    let master = postfix.master_pid();
    let serves = |pid: i32| process::served(&[pid], std::slice::from_ref(at)) > 0;
    let servers = || -> Vec<i32> {
        // One that has just been forked has its parent's name.
        let smtpd = |name: &str| name == "smtpd" || name == "master";
        let all = children(master).into_iter();
        all.filter(|(_, name)| smtpd(name)).map(|(pid, _)| pid).collect()
    };
    eventually("an instant without a dialogue", || {
        for pid in servers() {
            match (process::is_stopped(pid), serves(pid)) {
                (true, true) => signal(pid, Signal::SIGCONT), // it took one just then
                (false, false) => signal(pid, Signal::SIGSTOP),
                _ => {}
            }
        }
        // No new ones from here on.
        signal(master, Signal::SIGSTOP);
        let servers = servers();
        let free = |pid: &i32| process::is_stopped(*pid) && !serves(*pid);
        if process::is_stopped(master) && servers.iter().all(free) {
            return Some(Stopped(servers));
        }
        signal(master, Signal::SIGCONT);
        None
    })
}
