//! The planks pop3 and imap: Dovecot's ports change hands, no connection is refused, UIDs and UIDLs stay.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::dovecot::{Dovecot, VMAIL};
use harness::log::{PATIENCE, eventually, settled};
use harness::postfix::Postfix;
use harness::{Scratch, skip};

use super::lines::{self, Allowed, When};
use super::rig::Host;

const USER: &str = "alice@example.org";

/// What a reader says in a session, and how the last line of each answer begins.
pub type Dialogue = &'static [(&'static str, &'static str)];

pub const POP3: Dialogue = &[
    ("", "+OK"),
    ("USER alice@example.org", "+OK"),
    ("PASS secret", "+OK"),
    ("UIDL", "."),
    ("QUIT", "+OK"),
];
pub const IMAP: Dialogue = &[
    ("", "* OK"),
    ("a LOGIN alice@example.org secret", "a OK"),
    ("b STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)", "b OK"),
    ("c EXAMINE INBOX", "c OK"),
    ("d UID FETCH 1:* (UID FLAGS)", "d OK"),
    ("e LOGOUT", "e OK"),
];

/// A swap has two reloads of Dovecot at most: one for `auth-master` or the shared ports, one that closes or opens them.
pub const RELOADS: usize = 2;
/// At a reload each client and each process that starts just then may meet one half-made socket.
const EACH: usize = 2 * READERS * RELOADS;

/// What Dovecot's processes say of one another when it reloads: it ends those of the old configuration and makes all its
/// sockets anew. Without us, 278 reloads under six readers brought these lines, and no other ones.
pub const AT_A_RELOAD: &[Allowed] = &[
    Allowed {
        line: "master: Warning: SIGHUP received - reloading configuration",
        when: When::InASwap(RELOADS),
        why: "the reload itself",
    },
    Allowed {
        line: "*-login: Error: master(*): read() failed: Remote closed connection (destination service { process_limit } reached?) (*)",
        when: When::InASwap(EACH),
        why: "a login process hands its client to a process of the old configuration",
    },
    Allowed {
        line: "*-login: Error: master(*): net_connect_unix(*) failed: No such file or directory (*)",
        when: When::InASwap(EACH),
        why: "or to one whose socket is just being replaced",
    },
    Allowed {
        line: "*-login: Error: auth-client: conn unix:login: connect(login) failed: No such file or directory",
        when: When::InASwap(EACH),
        why: "auth's socket is being replaced",
    },
    Allowed {
        line: "auth: Error: auth client * disconnected with * pending requests: EOF",
        when: When::InASwap(EACH),
        why: "a login process of the old configuration ends",
    },
    Allowed {
        line: "auth: Error: auth-master client: Master requested auth for nonexistent client * (*)",
        when: When::InASwap(EACH),
        why: "it has ended behind its client's login",
    },
    Allowed {
        line: "*: Error: auth-master: login: request *: Login auth request failed: Internal auth failure (*)",
        when: When::InASwap(EACH),
        why: "the answer to that",
    },
    Allowed {
        line: "*: Error: auth-master: login: request *: Login auth request failed: Disconnected from auth server, aborting (*)",
        when: When::InASwap(EACH),
        why: "auth has ended behind a client's login",
    },
    Allowed {
        line: "*: Error: auth-master: login: connect(*/auth-master) failed: No such file or directory",
        when: When::InASwap(EACH),
        why: "auth's socket is being replaced",
    },
    Allowed {
        line: "auth: Error: stat(*/auth-userdb) failed: No such file or directory",
        when: When::InASwap(EACH),
        why: "it looks for its own socket",
    },
    Allowed {
        line: "auth: Error: stats: open(old-stats-user) failed: No such file or directory",
        when: When::InASwap(EACH),
        why: "the socket of stats is being replaced",
    },
    Allowed {
        line: "*: Error: net_connect_unix(*stats-writer) failed: No such file or directory",
        when: When::InASwap(EACH),
        why: "the same",
    },
    Allowed {
        line: "*: Error: net_connect_unix(*stats-writer) failed: Connection refused",
        when: When::InASwap(EACH),
        why: "the same",
    },
    Allowed {
        line: "*: Fatal: Error reading configuration: stat(*/config) failed: No such file or directory (path is from CONFIG_FILE environment)",
        when: When::InASwap(EACH),
        why: "a process starts while the socket of config is being replaced",
    },
    Allowed {
        line: "*: Fatal: Error reading configuration: read(*/config) failed: read(size=*) failed: Connection reset by peer - Also failed to read config by executing doveconf: */config is a UNIX socket (path is from CONFIG_FILE environment)",
        when: When::InASwap(EACH),
        why: "the same",
    },
    Allowed {
        line: "*: Fatal: Error reading configuration: read(*/config) failed: read(size=*) failed: Connection reset by peer - Also failed to read config by executing doveconf: stat(*/config) failed: No such file or directory (path is from CONFIG_FILE environment)",
        when: When::InASwap(EACH),
        why: "the same",
    },
    Allowed {
        line: "*: Error: Error reading configuration: read(*/config) failed: read(size=*) failed: Connection reset by peer - Also failed to read config by executing doveconf: */config is a UNIX socket (path is from CONFIG_FILE environment)",
        when: When::InASwap(EACH),
        why: "the same, behind the login",
    },
    Allowed {
        line: "*: Error: Error reading configuration: read(*/config) failed: read(size=*) failed: Connection reset by peer - Also failed to read config by executing doveconf: stat(*/config) failed: No such file or directory (path is from CONFIG_FILE environment)",
        when: When::InASwap(EACH),
        why: "the same",
    },
    Allowed {
        line: "master: Error: service(*): child * returned error 89 (Fatal failure)",
        when: When::InASwap(EACH),
        why: "such a process has ended",
    },
    Allowed {
        line: "*: Warning: auth-master: login: Auth server restarted (pid * -> *), aborting auth",
        when: When::InASwap(EACH),
        why: "auth has ended behind a client's login",
    },
    Allowed {
        line: "master: Warning: Processes aren't dying after reload, sent SIGTERM to * processes.",
        when: When::Ever,
        why: "some time after a reload Dovecot ends what has not ended by itself",
    },
    Allowed {
        line: "master: Warning: Sent SIGTERM to 1 auth processes",
        when: When::Ever,
        why: "the same",
    },
    Allowed {
        line: "master: Warning: Sent SIGTERM to 1 stats processes",
        when: When::Ever,
        why: "the same",
    },
    Allowed { line: "auth: Warning: Killed with signal 15 (*)", when: When::Ever, why: "the same" },
    Allowed {
        line: "stats: Warning: Killed with signal 15 (*)",
        when: When::Ever,
        why: "the same",
    },
];

const READERS: usize = 3;

/// `\Recent` is told to the session that sees a message first, and to no other one.
const SELECT: Dialogue = &[
    ("", "* OK"),
    ("a LOGIN alice@example.org secret", "a OK"),
    ("b SELECT INBOX", "b OK"),
    ("c LOGOUT", "c OK"),
];

pub struct Site {
    pub dovecot: Dovecot,
    pub host: Host,
}

pub fn site(extra: &str) -> Site {
    site_beside(extra, |_, _| None)
}

/// The same, with a Postfix beside Dovecot.
pub fn site_beside(
    extra: &str,
    postfix: impl FnOnce(&Scratch, &Dovecot) -> Option<Postfix>,
) -> Site {
    let scratch = Scratch::new();
    scratch.directory("dovecot/conf.d");
    let mut dovecot = Dovecot::lay(&scratch, &[(USER, "secret")], extra);
    let maildir = dovecot.maildir(USER);
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).unwrap();
    }
    for number in 0..5 {
        let path = maildir.join(format!("cur/17000000{number:02}.M1P1.mail:2,S"));
        std::fs::write(path, format!("Subject: {number}\n\nbody\n")).unwrap();
    }
    let done = std::process::Command::new("chown")
        .args(["-R", &format!("{VMAIL}:{VMAIL}")])
        .arg(scratch.join("vhosts"))
        .status();
    assert!(done.unwrap().success());
    dovecot.start();
    let postfix = postfix(&scratch, &dovecot);
    let mut host = Host::new(scratch, postfix, None);
    let (config, toml) = (dovecot.config().display().to_string(), host.toml());
    for daemon in ["pop3d", "imapd"] {
        host.services.ours(daemon, &["-c", &config, "--theoris", &toml]);
    }
    Site { dovecot, host }
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// What was answered of the mailbox.
    Whole(String),
    /// By the server, before the client was logged in.
    BeforeLogin,
    /// By the server, later.
    Cut,
}

fn session(port: u16, dialogue: Dialogue) -> End {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("no connection is refused");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut said = String::new();
    let mut end = End::BeforeLogin;
    for (line, last) in dialogue {
        if !line.is_empty() && reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).is_err()
        {
            return end;
        }
        loop {
            let mut answer = String::new();
            if !matches!(reader.read_line(&mut answer), Ok(1..)) {
                return end;
            }
            // What names the server, its greeting and its time is its own.
            if answer.contains("UIDVALIDITY")
                || answer.contains("FETCH")
                || answer.starts_with(|c: char| c.is_ascii_digit())
            {
                said.push_str(&answer);
            }
            if answer.starts_with(last) {
                break;
            }
            // Dovecot's login and auth processes go at a reload, with the logins that they were asked for.
            let gone = ["Refer to server log", "Server shutting down"];
            if end == End::BeforeLogin && gone.iter().any(|text| answer.contains(text)) {
                return end;
            }
            assert!(!answer.starts_with("-ERR") && !answer.contains(" NO "), "{answer}");
        }
        if line.starts_with("PASS") || line.contains("LOGIN") {
            end = End::Cut;
        }
    }
    End::Whole(said)
}

/// What a session was answered; a login in the moment of a reload of Dovecot is cut, and tried again.
#[track_caller]
pub fn whole(port: u16, dialogue: Dialogue) -> String {
    eventually("a session", || match session(port, dialogue) {
        End::Whole(said) => Some(said),
        End::BeforeLogin => None,
        End::Cut => panic!("a session was cut behind its login"),
    })
}

/// Readers at work; each notes when a session of its was cut before its login.
struct Readers {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<Instant>>>,
}

impl Readers {
    fn start(port: u16, dialogue: Dialogue, wanted: &str) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let (stop, served, wanted) = (stop.clone(), served.clone(), wanted.to_owned());
            std::thread::spawn(move || {
                let mut cut = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match session(port, dialogue) {
                        End::Whole(said) => {
                            assert_eq!(said, wanted);
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        End::BeforeLogin => cut.push(Instant::now()),
                        End::Cut => panic!("a session was cut behind its login"),
                    }
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                cut
            })
        };
        let threads = (0..READERS).map(start).collect();
        Self { stop, served, threads }
    }

    #[track_caller]
    fn flow(&self) {
        let now = self.served.load(Ordering::SeqCst);
        eventually("sessions", || (self.served.load(Ordering::SeqCst) >= now + 6).then_some(()));
    }

    /// No session was cut but, for each of these swaps, one of each reader at each reload.
    #[track_caller]
    fn end(self, swaps: &[Instant]) {
        self.stop.store(true, Ordering::SeqCst);
        let cut: Vec<_> =
            self.threads.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        let mut count = vec![0; swaps.len()];
        for at in &cut {
            let swap = swaps.iter().rposition(|begin| begin <= at);
            count[swap.expect("a session was cut before any swap")] += 1;
        }
        assert!(count.iter().all(|cut| *cut <= READERS * RELOADS), "cut in each swap: {count:?}");
    }
}

fn swapped_three_times(
    plank: &str,
    daemon: &str,
    port: impl Fn(&Dovecot) -> u16,
    dialogue: Dialogue,
) {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let site = site("!include_try conf.d/*.conf");
    let port = port(&site.dovecot);
    whole(site.dovecot.imap, SELECT);
    let before = whole(port, dialogue);
    assert!(before.lines().count() >= 5, "{before}");
    let readers = Readers::start(port, dialogue, &before);
    let mut swaps = Vec::new();
    let mut swap = |verb: &str| {
        swaps.push(Instant::now());
        site.host.must(&[verb, plank])
    };
    let unit = format!("theoris-{daemon}.service");
    let file = site.host.scratch.join(format!("dovecot/conf.d/99-theoris-{plank}.conf"));
    for _ in 0..3 {
        readers.flow();
        swap("adopt");
        assert!(site.host.services.pid(&unit).is_some() && file.exists());
        readers.flow();
        let said = swap("release");
        assert!(!said.contains("nobody listened"), "{said}");
        assert!(site.host.services.pid(&unit).is_none() && !file.exists());
    }
    readers.flow();
    readers.end(&swaps);
    let log = std::fs::read_to_string(site.host.scratch.join("dovecot.log")).unwrap();
    let bad = lines::complaints(&log, AT_A_RELOAD);
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn dovecot_pop3_is_swapped_under_readers() {
    swapped_three_times("pop3", "pop3d", |dovecot| dovecot.pop3, POP3);
}

#[test]
fn dovecot_imap_is_swapped_under_readers() {
    swapped_three_times("imap", "imapd", |dovecot| dovecot.imap, IMAP);
}

/// Where nothing includes conf.d, or a later line has its own say, the swap is refused and Dovecot stays as it was.
#[test]
fn a_file_without_effect_is_refused() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    for extra in [
        "",
        "!include_try conf.d/*.conf\nservice pop3-login {\n  inet_listener pop3 {\n    port = 65000\n  }\n}\n",
    ] {
        let site = site(extra);
        if extra.contains("65000") {
            let path = site.dovecot.config();
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("65000", &site.dovecot.pop3.to_string())).unwrap();
            site.dovecot.doveadm(&["reload"]);
            eventually("Dovecot's own port again", || {
                TcpStream::connect(("127.0.0.1", site.dovecot.pop3)).ok().map(drop)
            });
        }
        let told = site.host.refused(&["adopt", "pop3"]);
        assert!(
            told.contains("99-theoris-pop3.conf: not in effect") && told.contains("!include"),
            "{told}"
        );
        assert!(told.contains("everything is as it was before"), "{told}");
        assert!(!site.host.scratch.join("dovecot/conf.d/99-theoris-pop3.conf").exists());
        assert!(site.host.services.pid("theoris-pop3d.service").is_none());
        whole(site.dovecot.pop3, POP3);
    }
}

/// Dovecot's restart fails where somebody has its port (`Failed to start listeners`): our file has closed it. Reloads and
/// restarts beside ours do no harm.
#[test]
fn dovecot_is_restarted_beside_ours() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let mut site = site("!include_try conf.d/*.conf");
    site.host.must(&["adopt", "pop3"]);
    let unit = "theoris-pop3d.service";
    let ours = site.host.services.pid(unit);
    let first = whole(site.dovecot.pop3, POP3);
    let Site { dovecot, host } = &mut site;
    host.swapping(|| {
        dovecot.doveadm(&["reload"]);
        dovecot.stop();
        dovecot.start();
        eventually("Dovecot's second start", || {
            let log = std::fs::read_to_string(host.scratch.join("dovecot.log")).unwrap();
            (log.matches("starting up for").count() == 2).then_some(())
        });
    });
    assert_eq!(site.host.services.pid(unit), ours);
    assert_eq!(whole(site.dovecot.pop3, POP3), first);
    site.host.must(&["release", "pop3"]);
    assert_eq!(whole(site.dovecot.pop3, POP3), first);
    let log = std::fs::read_to_string(site.host.scratch.join("dovecot.log")).unwrap();
    let stop = Allowed {
        line: "master: Warning: Killed with signal 15 (*)",
        when: When::InASwap(1),
        why: "the stop",
    };
    let bad = lines::complaints(&log, &[AT_A_RELOAD, &[stop]].concat());
    assert!(bad.is_empty(), "{bad:#?}");
}

/// While Dovecot is restarted, who logs in waits: nobody is sent away again and again by an auth that has lost its master.
#[test]
fn a_restart_of_dovecot_is_waited_for() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let mut site = site("!include_try conf.d/*.conf");
    // As PAM, this asks a worker, and auth without its master reaches none.
    let path = site.dovecot.config();
    let text = std::fs::read_to_string(&path).unwrap();
    let asking = "passdb {\n  driver = passwd\n}\npassdb {";
    std::fs::write(&path, text.replacen("passdb {", asking, 1)).unwrap();
    let first = whole(site.dovecot.pop3, POP3);
    site.host.must(&["adopt", "pop3"]);
    let Site { dovecot, .. } = &mut site;
    let (port, stop) = (dovecot.pop3, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let client = || {
            let mut put_off = 0;
            while !stop.load(Ordering::SeqCst) {
                put_off += usize::from(!logs_in(port));
            }
            put_off
        };
        let clients: Vec<_> = (0..READERS).map(|_| scope.spawn(client)).collect();
        dovecot.stop();
        dovecot.start();
        let logged_in = settled(|| {
            let served = logs_in(port);
            (served, served)
        });
        stop.store(true, Ordering::SeqCst);
        assert!(logged_in);
        for client in clients {
            let put_off = client.join().unwrap();
            assert!(put_off <= 3, "a client was put off {put_off} times");
        }
    });
    assert_eq!(whole(port, POP3), first);
}

/// Whether a login succeeds.
fn logs_in(port: u16) -> bool {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("no connection is refused");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    POP3[..3].iter().all(|(line, last)| {
        let mut answer = String::new();
        let asked =
            line.is_empty() || reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).is_ok();
        asked && reader.read_line(&mut answer).is_ok() && answer.starts_with(last)
    })
}

/// A kernel before 5.6 hands no sockets over: the port is free for a moment each way.
#[test]
fn without_handed_sockets_the_gap_is_short() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let site = site("!include_try conf.d/*.conf");
    let told = site.host.must(&["adopt", "pop3", "--gap"]);
    assert!(gap(&told) < 300, "{told}");
    whole(site.dovecot.pop3, POP3);
    let told = site.host.must(&["release", "pop3", "--gap"]);
    assert!(!told.contains("nobody listened"), "Dovecot binds beside ours: {told}");
    whole(site.dovecot.pop3, POP3);
}

/// The milliseconds that it tells.
#[track_caller]
pub fn gap(told: &str) -> u64 {
    let told = told.split_once("nobody listened for ").unwrap().1;
    told.split(' ').next().unwrap().parse().unwrap()
}
