//! The planks pop3 and imap: Dovecot's ports change hands, no connection is refused, UIDs and UIDLs stay.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::dovecot::{Dovecot, VMAIL};
use harness::log::{PATIENCE, eventually};
use harness::{Scratch, skip};

use super::rig::Host;

const USER: &str = "alice@example.org";

/// What a reader does in a session; the last line is that of the last answer.
pub const POP3: &[(&str, &str)] = &[
    ("", "+OK"),
    ("USER alice@example.org", "+OK"),
    ("PASS secret", "+OK"),
    ("UIDL", "."),
    ("QUIT", "+OK"),
];
pub const IMAP: &[(&str, &str)] = &[
    ("", "* OK"),
    ("a LOGIN alice@example.org secret", "a OK"),
    ("b STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)", "b OK"),
    ("c EXAMINE INBOX", "c OK"),
    ("d UID FETCH 1:* (UID FLAGS)", "d OK"),
    ("e LOGOUT", "e OK"),
];

/// What Dovecot must not say. Its reload replaces its own sockets, so that processes which start just then complain of
/// one another; that is as it was without us.
const BAD: &[&str] = &[
    "Panic:",
    "throttl",
    "Failed to start listeners",
    "Address already in use",
    "Socket already exists",
];

pub struct Site {
    pub dovecot: Dovecot,
    pub host: Host,
}

pub fn site(extra: &str) -> Site {
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
    let mut host = Host::new(scratch, None, None);
    let (config, toml) = (dovecot.config().display().to_string(), host.toml());
    for daemon in ["pop3d", "imapd"] {
        host.services.ours(daemon, &["-c", &config, "--theoris", &toml]);
    }
    Site { dovecot, host }
}

/// One session; what was answered, or nothing when the server ended it before its end.
pub fn session(port: u16, dialogue: &[(&str, &str)]) -> Option<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("no connection is refused");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut said = String::new();
    for (line, last) in dialogue {
        if !line.is_empty() {
            reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).ok()?;
        }
        loop {
            let mut answer = String::new();
            if !matches!(reader.read_line(&mut answer), Ok(1..)) {
                return None;
            }
            // What names the server, its greeting and its time is its own.
            if answer.contains("UIDVALIDITY")
                || answer.contains("FETCH")
                || answer.starts_with(|c: char| c.is_ascii_digit())
            {
                said.push_str(&answer.replace(" \\Recent", ""));
            }
            if answer.starts_with(last) {
                break;
            }
            if answer.contains("Refer to server log") {
                return None; // Dovecot's auth process goes at a reload, with the logins that it was asked for
            }
            assert!(!answer.starts_with("-ERR") && !answer.contains(" NO "), "{answer}");
        }
    }
    Some(said)
}

fn swapped_three_times(
    plank: &str,
    daemon: &str,
    port: impl Fn(&Dovecot) -> u16,
    dialogue: &'static [(&'static str, &'static str)],
) {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let site = site("!include_try conf.d/*.conf");
    let port = port(&site.dovecot);
    let before = session(port, dialogue).unwrap();
    assert!(before.lines().count() >= 5, "{before}");
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (stop, served, before) = (stop.clone(), served.clone(), before.clone());
            std::thread::spawn(move || {
                let mut cut = 0;
                while !stop.load(Ordering::SeqCst) {
                    match session(port, dialogue) {
                        Some(said) => {
                            assert_eq!(said, before);
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        None => cut += 1,
                    }
                    std::thread::park_timeout(std::time::Duration::from_millis(5));
                }
                cut
            })
        })
        .collect();
    let flows = || {
        let now = served.load(Ordering::SeqCst);
        eventually("sessions", || (served.load(Ordering::SeqCst) >= now + 6).then_some(()));
    };
    let unit = format!("theoris-{daemon}.service");
    let file = site.host.scratch.join(format!("dovecot/conf.d/99-theoris-{plank}.conf"));
    for _ in 0..3 {
        flows();
        site.host.must(&["adopt", plank]);
        assert!(site.host.services.pid(&unit).is_some() && file.exists());
        flows();
        let said = site.host.must(&["release", plank]);
        assert!(!said.contains("nobody listened"), "{said}");
        assert!(site.host.services.pid(&unit).is_none() && !file.exists());
    }
    flows();
    stop.store(true, Ordering::SeqCst);
    let cut: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    // Those who were connected at one of the six swaps, as at a stop of Dovecot.
    assert!(cut <= 3 * 4 * 6, "{cut} sessions were cut");
    let log = site.dovecot.log.text();
    let bad: Vec<&str> =
        log.lines().filter(|line| BAD.iter().any(|said| line.contains(said))).collect();
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
        assert!(session(site.dovecot.pop3, POP3).is_some());
    }
}

/// A kernel before 5.6 hands no sockets over: the port is free for a moment each way.
#[test]
fn without_handed_sockets_the_gap_is_short() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let site = site("!include_try conf.d/*.conf");
    site.host.must(&["adopt", "pop3", "--gap"]);
    assert!(session(site.dovecot.pop3, POP3).is_some());
    let told = site.host.must(&["release", "pop3", "--gap"]);
    let gap: u64 = told
        .split("nobody listened for ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(gap < 3000, "{told}");
    assert!(session(site.dovecot.pop3, POP3).is_some());
}
