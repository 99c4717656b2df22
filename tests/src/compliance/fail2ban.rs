//! Debian's fail2ban finds the same abuse in the lines of our imapd, pop3d and authd as in Dovecot's.

use std::net::Ipv4Addr;
use std::process::Command;

use harness::certificates::Authority;
use harness::client::{Client, trust};
use harness::daemon::Daemon;
use harness::dovecot::Dovecot;
use harness::{Log, PrivateHost, Scratch, ports, skip};

use super::auth::base64;

const HOST: &str = "mail.example.org";

/// How a case meets the server.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Clear,
    StartTls,
    Tls,
}
use Wire::{Clear, StartTls, Tls};

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Imap,
    Pop3,
}
use Protocol::{Imap, Pop3};

/// A client's lines, each sent when the one before is answered. `KNOWN`, `UNKNOWN` and `PLAIN:USER:PASSWORD` stand for
/// what the users of the run are; `RESET` ends the connection without an end, `RAW` sends what no client should.
const CASES: &[(Protocol, Wire, &[&str])] = &[
    (Imap, Tls, &["a1 LOGIN KNOWN wrong", "a2 LOGOUT"]),
    (Imap, Tls, &["a1 LOGIN UNKNOWN wrong"]),
    (
        Imap,
        StartTls,
        &["a1 AUTHENTICATE PLAIN PLAIN:KNOWN:wrong", "a2 AUTHENTICATE PLAIN", "PLAIN:KNOWN:bad"],
    ),
    (Imap, Tls, &["a1 AUTHENTICATE LOGIN", "BASE64:KNOWN", "BASE64:wrong", "a2 LOGOUT"]),
    (Imap, Tls, &["a1 AUTHENTICATE LOGIN", "BASE64:UNKNOWN", "BASE64:wrong"]),
    (
        Imap,
        Tls,
        &["a1 LOGIN KNOWN wrong", "a2 LOGIN UNKNOWN x", "a3 LOGIN KNOWN secret", "a4 LOGOUT"],
    ),
    (Imap, Tls, &[]),
    (Imap, Clear, &[]),
    (Imap, Clear, &["a1 CAPABILITY", "RESET"]),
    (Imap, Tls, &["a1 LOGOUT"]),
    (Imap, Clear, &["GET / HTTP/1.0", "a2 FOO", "a3 BAR"]),
    (Imap, Tls, &["a1 LOGIN KNOWN wrong", "a2 FOO", "a3 BAR", "a4 BAZ"]),
    (Imap, Clear, &["a1 LOGIN KNOWN secret"]),
    (Imap, Clear, &["a1 AUTHENTICATE PLAIN PLAIN:KNOWN:secret", "a2 LOGOUT"]),
    (Imap, Clear, &["a1 LOGIN KNOWN secret", "a2 FOO", "a3 BAR", "a4 BAZ"]),
    (Imap, Tls, &["a1 AUTHENTICATE PLAIN"]),
    (Imap, Tls, &["a1 AUTHENTICATE LOGIN", "BASE64:KNOWN"]),
    (Imap, Tls, &["a1 AUTHENTICATE PLAIN", "*"]),
    (Imap, Tls, &["a1 AUTHENTICATE PLAIN", "%%%"]),
    (Imap, Tls, &["a1 AUTHENTICATE PLAIN %%%", "a2 LOGOUT"]),
    (Imap, Tls, &["a1 AUTHENTICATE PLAIN", "*", "a2 LOGIN KNOWN wrong", "a3 AUTHENTICATE PLAIN"]),
    (Imap, Tls, &["a1 AUTHENTICATE NONSENSE"]),
    (Imap, Tls, &["a1 LOGIN {5+}\r\nx,192 wrong"]),
    (Imap, Tls, &["a1 LOGIN \"x,192.0.2.9): unknown user\" wrong"]),
    (Imap, Tls, &["a1 LOGIN \"x>, method=PLAIN, rip=192.0.2.9, lip\" wrong"]),
    (Imap, Tls, &["a1 LOGIN \"\" \"\""]),
    (Imap, Clear, &["RAW:\u{16}\u{3}\u{1}"]),
    (Imap, Clear, &["RAW:\0\0\0\0\r\n", "RESET"]),
    (Pop3, Tls, &["USER KNOWN", "PASS wrong", "QUIT"]),
    (Pop3, Tls, &["USER UNKNOWN", "PASS wrong"]),
    (Pop3, StartTls, &["AUTH PLAIN PLAIN:KNOWN:wrong", "AUTH PLAIN", "PLAIN:UNKNOWN:wrong"]),
    (Pop3, Tls, &["USER KNOWN", "PASS wrong", "USER KNOWN", "PASS secret", "QUIT"]),
    (Pop3, Tls, &["AUTH LOGIN", "BASE64:KNOWN", "BASE64:wrong", "QUIT"]),
    (Pop3, Clear, &[]),
    (Pop3, Tls, &["QUIT"]),
    (Pop3, Clear, &["FOO", "BAR", "BAZ", "QUX"]),
    (Pop3, Tls, &["USER KNOWN", "PASS wrong", "FOO", "BAR", "BAZ", "QUX"]),
    (Pop3, Clear, &["USER KNOWN", "PASS secret", "QUIT"]),
    (Pop3, Clear, &["AUTH PLAIN PLAIN:KNOWN:secret"]),
    (Pop3, Tls, &["AUTH PLAIN"]),
    (Pop3, Tls, &["AUTH LOGIN", "BASE64:KNOWN", "*"]),
    (Pop3, Tls, &["USER KNOWN"]),
    (Pop3, Tls, &["PASS x", "USER KNOWN", "PASS wrong", "RESET"]),
    (Pop3, Tls, &["AUTH PLAIN %%%", "QUIT"]),
    (Pop3, Tls, &["AUTH PLAIN", "%%%", "QUIT"]),
    (Pop3, Clear, &["PASS secret"]),
];

/// What clients that want another TLS than the servers give Debian's openssl.
const HANDSHAKES: &[&[&str]] = &[
    &["-tls1", "-cipher", "ALL@SECLEVEL=0"],
    &["-tls1_2", "-verify_return_error", "-verify", "1"],
];

/// Where the passwords of a run are.
#[derive(Clone, Copy, PartialEq)]
enum Database {
    PasswdFile,
    Pam,
}

/// Dovecot and ours on one configuration, each on a host of its own.
struct Both {
    dovecot: Dovecot,
    hosts: [PrivateHost; 2],
    log: Log,
    ports: [[u16; 4]; 2],
    known: &'static str,
    unknown: &'static str,
    trust: std::sync::Arc<harness::client::Trust>,
    _daemons: Vec<Daemon>,
    _scratch: Scratch,
}

impl Both {
    fn start(database: Database) -> Option<Self> {
        if !skip::can_run(true, &["dovecot", "fail2ban-regex", "unshare", "openssl"]) {
            return None;
        }
        let scratch = Scratch::new();
        let authority = Authority::new(&scratch.directory("ca"));
        let identity = authority.issue("mail", &[HOST]);
        let ports = [[(); 4]; 2].map(|side| side.map(|()| ports::free()));
        let mut dovecot = Dovecot::lay(&scratch, &[("alice@example.org", "secret")], "");
        let mut text = std::fs::read_to_string(dovecot.config()).unwrap();
        let (begin, rest) = text.split_once("passdb {").unwrap();
        let (passdb, end) = rest.split_once("\n}").unwrap();
        let (known, unknown, passdb) = match database {
            Database::PasswdFile => ("alice@example.org", "nobody@example.org", passdb),
            Database::Pam => ("info", "nobodyelse", "\n  driver = pam"),
        };
        text = format!("{begin}passdb {{{passdb}\n}}{end}")
            .replace("ssl = no", "ssl = yes")
            .replace("disable_plaintext_auth = no", "disable_plaintext_auth = yes");
        for (service, standard) in [("imaps", ports[0][2]), ("pop3s", ports[0][3])] {
            text = text.replace(
                &format!("inet_listener {service} {{\n    port = 0"),
                &format!("inet_listener {service} {{\n    ssl = yes\n    port = {standard}"),
            );
        }
        text.push_str(&format!(
            "ssl_cert = <{}\nssl_key = <{}\nauth_failure_delay = 0\nauth_verbose = yes\n\
             service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n",
            identity.chain.display(),
            identity.key.display()
        ));
        // One login process for all cases: a new one that fails at a handshake says "disconnected before auth was ready" where
        // it is quicker than Dovecot's auth, and "no auth attempts" where it is not.
        text.push_str("service imap-login {\n  service_count = 0\n}\n");
        for (from, to) in [(dovecot.imap, ports[0][0]), (dovecot.pop3, ports[0][1])] {
            text = text.replace(&format!("port = {from}\n"), &format!("port = {to}\n"));
        }
        scratch.write("dovecot/dovecot.conf", &text);
        let hosts = ["theirs", "ours"].map(|name| PrivateHost::lay(&scratch, name));
        dovecot.start_with(|command| hosts[0].enter(command));
        let mut text = text.replace("/dovecot-run", "/our-run");
        for (theirs, ours) in ports[0].iter().zip(ports[1]) {
            text = text.replace(&format!("port = {theirs}\n"), &format!("port = {ours}\n"));
        }
        let path = scratch.write("ours.conf", text);
        let log = Log::default();
        let daemons = ["authd", "imapd", "pop3d"].map(|name| {
            let arguments = ["-c", path.to_str().unwrap()];
            Daemon::start_with(name, &scratch.join(name), &arguments, log.clone(), |command| {
                hosts[1].enter(command);
            })
        });
        let trust = trust(&authority.ca_file());
        let _daemons = Vec::from(daemons);
        Some(Self {
            dovecot,
            hosts,
            log,
            ports,
            known,
            unknown,
            trust,
            _daemons,
            _scratch: scratch,
        })
    }

    /// A line of a case, as it is sent.
    fn filled(&self, line: &str) -> String {
        let mut words = Vec::new();
        for word in line.replace("UNKNOWN", self.unknown).replace("KNOWN", self.known).split(' ') {
            words.push(if let Some(text) = word.strip_prefix("BASE64:") {
                base64(text.as_bytes())
            } else if let Some((user, password)) =
                word.strip_prefix("PLAIN:").and_then(|word| word.split_once(':'))
            {
                base64(format!("\0{user}\0{password}").as_bytes())
            } else {
                word.to_owned()
            });
        }
        words.join(" ")
    }

    fn play(&self, side: usize, number: usize, source: Ipv4Addr) {
        let (protocol, wire, lines) = CASES[number];
        let place = usize::from(protocol == Pop3) + if wire == Tls { 2 } else { 0 };
        let mut client = Client::from(source, self.ports[side][place]);
        if wire == Tls {
            client = client.start_tls(HOST, &self.trust);
        }
        client.line();
        if wire == StartTls {
            answer(&mut client, if protocol == Imap { "a0 STARTTLS" } else { "STLS" });
            client = client.start_tls(HOST, &self.trust);
        }
        for line in lines {
            if *line == "RESET" {
                client.reset();
                return;
            } else if let Some(bytes) = line.strip_prefix("RAW:") {
                client.raw(bytes.as_bytes());
            } else {
                answer(&mut client, &self.filled(line));
            }
        }
    }

    /// What the host's system log would hold, without what differs from run to run.
    fn lines(&self, side: usize) -> Vec<String> {
        let [host, own] = [&self.hosts[side].syslog, [&self.dovecot.log, &self.log][side]];
        let mut lines: Vec<String> = host.lines().into_iter().map(|line| line.text).collect();
        for line in own.lines() {
            lines.push(if side == 0 {
                // Nov 22 04:00:00 imap-login: Info: text
                let text = line.text.get(16..).unwrap_or_default();
                format!("dovecot: {}", text.replacen("Info: ", "", 1))
            } else {
                let (ident, text) = line.text.split_once("]: ").unwrap_or(("", &line.text));
                format!("{}: {text}", ident.split('[').next().unwrap_or_default())
            });
        }
        lines.iter().map(|line| plain(line)).collect()
    }
}

/// Sends a line and reads its answer.
fn answer(client: &mut Client, line: &str) {
    client.send(line);
    let tag = line.split_once(' ').map_or("-", |(tag, _)| tag).to_owned() + " ";
    while let Some(line) = client.next_line() {
        let first = line.get(..1).unwrap_or_default();
        let other = line.starts_with("* ") && !line.starts_with("* B");
        if line.starts_with(&tag) || !other && ["+", "-", "a", "*"].contains(&first) {
            return;
        }
    }
}

/// Process ids, sessions and times by their kind.
fn plain(line: &str) -> String {
    let mut line = line.to_owned();
    for (before, after) in [
        ("session=<", ">"),
        ("auth-worker(", ")"),
        ("auth-worker<", ">"),
        ("pid=", ","),
        (",<", ">"),
    ] {
        let Some(at) = line.find(before) else { continue };
        let at = at + before.len();
        if let Some(length) = line[at..].find(after) {
            line.replace_range(at..at + length, "X");
        }
    }
    if let Some((before, rest)) = line.split_once("read(size=")
        && let Some((_, after)) = rest.split_once(") failed: ")
    {
        line = format!("{before}{after}"); // whether it was read or polled is chance
    }
    // Dovecot has the cause from OpenSSL's queue of errors, or, where that is empty, from errno; which it is differs with
    // the time between a client's packets
    line = line.replace("SSL_accept() syscall failed: ", "SSL_accept() failed: ");
    // OpenSSL and rustls word it each in its own way
    while let Some((before, rest)) = line.split_once("SSL_accept() failed: ") {
        let cause = rest.find([',', '(']).unwrap_or(rest.len());
        let space = if rest[cause..].starts_with('(') { " " } else { "" };
        line = format!("{before}SSL_accept() failed{space}{}", &rest[cause..]);
    }
    // ours does not tell one end from another
    line = line.replace(": Connection reset by peer", "");
    let words: Vec<&str> = line.split(' ').collect();
    let timed = |at: usize| words.get(at + 1).is_some_and(|next| next.starts_with("secs"));
    let words = words.iter().enumerate().map(|(at, word)| if timed(at) { "0" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Host and users of each line that the filter matches, and the line.
fn matched(lines: &[String], mode: &str) -> Vec<String> {
    let scratch = Scratch::new();
    let log: String = lines.iter().map(|line| format!("Nov 22 04:00:00 mail {line}\n")).collect();
    let output = Command::new("fail2ban-regex")
        .args(["-l", "CRITICAL", "-o", "<ip> <F-USER> <F-ALT_USER> <F-ALT_USER1> <msg>"])
        .arg(scratch.write("log", log))
        .arg(format!("/etc/fail2ban/filter.d/dovecot.conf[mode={mode}]"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    found.sort();
    found
}

/// The lines that hold this address, in an order that is the same for all.
fn about(lines: &[String], source: Ipv4Addr) -> Vec<String> {
    let shown = source.to_string();
    let of = |line: &&String| line.split([',', '=', ')', ' ']).any(|word| word == shown);
    let mut lines: Vec<String> = lines.iter().filter(of).cloned().collect();
    lines.sort();
    lines
}

fn compare(database: Database, least: [usize; 2]) {
    let Some(both) = Both::start(database) else { return };
    let address = |number: usize| Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).unwrap());
    for side in [0, 1] {
        for number in 0..CASES.len() {
            both.play(side, number, address(number));
        }
        for (number, words) in HANDSHAKES.iter().enumerate() {
            let source = address(CASES.len() + number);
            let mut client = Command::new("openssl");
            client.args(["s_client", "-bind", &format!("{source}:0"), "-connect"]);
            client.arg(format!("127.0.0.1:{}", both.ports[side][2])).args(*words);
            assert!(!client.output().unwrap().status.success());
        }
    }
    let sent = CASES.iter().map(|(_, _, lines)| *lines).chain(HANDSHAKES.iter().copied());
    let sent: Vec<&[&str]> = sent.collect();
    let [theirs, ours] = harness::log::settled(|| {
        // Each process has its own way to the log: cases are told apart by the client's address.
        let sides = [0, 1].map(|side| {
            let lines = both.lines(side);
            (0..sent.len()).map(|number| about(&lines, address(number))).collect::<Vec<_>>()
        });
        let mut pairs = sides[0].iter().zip(&sides[1]);
        (pairs.all(|(one, other)| !one.is_empty() && one.len() == other.len()), sides)
    });
    let mut differences = String::new();
    for (number, case) in sent.iter().enumerate() {
        if theirs[number] != ours[number] {
            let (theirs, ours) = (&theirs[number], &ours[number]);
            differences.push_str(&format!("{case:?}\ntheirs: {theirs:#?}\nours: {ours:#?}\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
    let [theirs, ours] = [theirs.concat(), ours.concat()];
    for (mode, least) in ["normal", "aggressive"].into_iter().zip(least) {
        let (wanted, found) = (matched(&theirs, mode), matched(&ours, mode));
        assert!(wanted.len() >= least, "{mode} finds {wanted:#?} in\n{theirs:#?}");
        assert_eq!(found, wanted, "{mode}");
    }
}

#[test]
fn the_same_guesses_of_passwords_in_files() {
    compare(Database::PasswdFile, [30, 45]);
}

#[test]
fn the_same_guesses_of_passwords_behind_pam() {
    compare(Database::Pam, [30, 45]);
}
