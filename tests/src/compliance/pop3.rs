//! POP3 as Debian's Dovecot speaks it: each script runs against both servers, on Maildirs that start alike.

use harness::certificates::Authority;
use harness::client::{Client, trust};
use harness::daemon::Daemon;
use harness::dovecot::{Dovecot, VMAIL};
use harness::{Scratch, ports, skip};
use std::path::Path;

const OURS: &str = "ours@example.org";
const THEIRS: &str = "theirs@example.org";

const MESSAGES: &[&[u8]] = &[
    b"Subject: one\n\n.dot\n..two\nlast without newline",
    b"Subject: two\r\n\r\nbody\r\nmore\r\n",
    b"Subject: three\nX-UIDL: kept\n\n1\n2\n3\n4\n",
    b"Subject: no body\n",
    b"\nonly a body\n",
];

/// Both servers on one set of users, with Dovecot's auth.
struct Both {
    pop3d: Daemon,
    dovecot: Dovecot,
    port: u16,
    scratch: Scratch,
}

impl Both {
    fn start(extra: &str) -> Option<Self> {
        if !skip::can_run(true, &["dovecot"]) {
            return None;
        }
        Some(Self::start_in(Scratch::new(), extra))
    }

    fn start_in(scratch: Scratch, extra: &str) -> Self {
        let quick = "auth_failure_delay = 0\nservice anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n\
                     service auth {\n  unix_listener auth-master {\n    mode = 0600\n    user = $default_internal_user\n  }\n}\n";
        let users = [(OURS, "secret"), (THEIRS, "secret")];
        let mut dovecot = Dovecot::lay(&scratch, &users, &format!("{quick}{extra}"));
        for user in [OURS, THEIRS] {
            fill(&dovecot.maildir(user), MESSAGES);
        }
        dovecot.start();
        let port = ports::free();
        let config = std::fs::read_to_string(dovecot.config()).unwrap();
        let config =
            config.replacen(&format!("port = {}", dovecot.pop3), &format!("port = {port}"), 1);
        let path = scratch.write("pop3d/dovecot.conf", config);
        let arguments = ["-c", path.to_str().unwrap()];
        let pop3d = Daemon::start("pop3d", &scratch.directory("pop3d"), &arguments);
        Self { pop3d, dovecot, port, scratch }
    }

    fn connect(&self) -> [Client; 2] {
        [Client::tcp(self.dovecot.pop3), Client::tcp(self.port)]
    }

    /// Runs a script against both and compares each answer.
    #[track_caller]
    fn compare(&self, script: &[&str]) -> [Client; 2] {
        let mut clients = self.connect();
        let greetings = clients.each_mut().map(Client::line);
        assert_eq!(greetings[1], greetings[0]);
        self.go_on(&mut clients, script);
        clients
    }

    #[track_caller]
    fn go_on(&self, clients: &mut [Client; 2], script: &[&str]) {
        let mut differences = String::new();
        for line in script {
            let theirs = answer(&mut clients[0], &line.replace("USER_", THEIRS));
            let ours = answer(&mut clients[1], &line.replace("USER_", OURS));
            if theirs != ours {
                differences
                    .push_str(&format!("C: {line}\n  theirs: {theirs:?}\n  ours:   {ours:?}\n"));
            }
        }
        assert!(differences.is_empty(), "{differences}\nour log:\n{}", self.pop3d.log.text());
    }

    fn names(&self, user: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.dovecot.maildir(user).join("cur")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Puts messages into `cur`, so that nobody has to rename them.
fn fill(maildir: &Path, messages: &[&[u8]]) {
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).unwrap();
    }
    for (index, message) in messages.iter().enumerate() {
        let name = format!("{}.M{index}P1.host:2,", 1_700_000_000 + index);
        std::fs::write(maildir.join("cur").join(name), message).unwrap();
    }
    let domain = maildir.parent().unwrap().parent().unwrap();
    let owner = format!("{VMAIL}:{VMAIL}");
    let done = std::process::Command::new("chown").args(["-R", &owner]).arg(domain).status();
    assert!(done.unwrap().success());
}

/// Sends a command and reads its whole answer.
fn answer(client: &mut Client, line: &str) -> Vec<String> {
    client.send(line);
    let mut lines = vec![client.line()];
    let words: Vec<String> = line.to_ascii_uppercase().split(' ').map(str::to_owned).collect();
    let many = match words[0].as_str() {
        "CAPA" | "RETR" | "TOP" => true,
        "LIST" | "UIDL" | "AUTH" => words.len() == 1,
        _ => false,
    };
    while many && lines[0].starts_with("+OK") && lines.last().is_some_and(|last| last != ".") {
        lines.push(client.line());
    }
    lines.iter_mut().for_each(normalise);
    lines
}

/// UIDVALIDITY is a time, and names of sessions differ.
fn normalise(line: &mut String) {
    let uidl = line.split(' ').next_back().unwrap_or_default();
    if uidl.len() == 16 && uidl.starts_with("0000") && uidl.bytes().all(|b| b.is_ascii_hexdigit()) {
        let uid = uidl[..8].to_owned();
        let start = line.len() - 8;
        line.replace_range(start.., "VALIDITY");
        assert!(line.contains(&uid));
    }
}

const LOGIN: &[&str] = &["USER USER_", "PASS secret"];

#[test]
fn before_the_login() {
    let Some(both) = Both::start("") else { return };
    both.compare(&[
        "CAPA",
        "AUTH",
        "STLS",
        "APOP x 00",
        "PASS x",
        "user nobody@example.org",
        "PASS wrong",
        "AUTH PLAIN %%%",
        "AUTH PLAIN",
        "*",
        "AUTH PLAIN",
        "%%%",
        "AUTH NONSENSE",
        "USER USER_",
        "PASS secret",
    ]);
    both.compare(&["NOOP", "STAT", "XTND", "x"]);
    both.compare(&["AUTH LOGIN", "eA==", "eA==", "QUIT"]);
    let theirs = "AHRoZWlyc0BleGFtcGxlLm9yZwBzZWNyZXQ=";
    both.compare(&[&format!("AUTH PLAIN {theirs}"), "STAT", "QUIT"]);
}

#[test]
fn every_command_after_the_login() {
    let Some(both) = Both::start("") else { return };
    let mut clients = both.compare(LOGIN);
    both.go_on(
        &mut clients,
        &[
            "CAPA",
            "STAT",
            "LIST",
            "LIST 1",
            "LIST 99",
            "LIST 0",
            "LIST x",
            "LIST 1 2",
            "UIDL",
            "UIDL 2",
            "UIDL 9",
            "RETR 1",
            "RETR 2",
            "RETR 3",
            "RETR 4",
            "RETR 5",
            "RETR",
            "RETR 99999999999",
            "TOP 1 0",
            "TOP 1 1",
            "TOP 3 2",
            "TOP 3 99",
            "TOP 4 1",
            "TOP 1",
            "TOP 1 x",
            "TOP 1 2 3",
            "TOP 1 99999999999999999999999",
            "TOP 1 99999999999999999999999",
            "DELE 2",
            "DELE 2",
            "RETR 2",
            "LIST 2",
            "UIDL 2",
            "LIST",
            "UIDL",
            "STAT",
            "RSET",
            "STAT",
            "NOOP",
            "LAST",
            "XTND",
            "stat",
            "  STAT",
            "USER x",
            "STLS",
            "",
            "DELE 1",
            "DELE 3",
            "QUIT",
        ],
    );
    assert_eq!(both.names(OURS), both.names(THEIRS));
    let mut clients = both.compare(LOGIN);
    both.go_on(&mut clients, &["STAT", "UIDL", "RETR 1", "QUIT"]);
    assert_eq!(both.names(OURS), both.names(THEIRS));
    assert!(both.names(OURS)[0].ends_with(":2,S"), "{:?}", both.names(OURS));
}

#[test]
fn a_lost_connection_deletes_nothing() {
    let Some(both) = Both::start("") else { return };
    let mut clients = both.compare(LOGIN);
    both.go_on(&mut clients, &["RETR 2", "DELE 1"]);
    drop(clients);
    both.pop3d.log.wait_for("Disconnected: Connection closed");
    both.dovecot.log.wait_for("Disconnected: Connection closed");
    // Dovecot keeps the flag in its index first
    let [theirs, ours] = [THEIRS, OURS].map(|user| {
        both.dovecot.doveadm(&["fetch", "-u", user, "uid flags", "all"]).replace("\\Recent", "")
    });
    assert_eq!(ours, theirs);
    assert_eq!(both.names(OURS).len(), MESSAGES.len());
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let Some(both) = Both::start("") else { return };
    let clients = both.connect();
    let said = clients.into_iter().zip([THEIRS, OURS]).map(|(mut client, user)| {
        client.raw(
            format!("USER {user}\r\nPASS secret\r\nSTAT\r\nRETR 2\r\nNOOP\r\nQUIT\r\n").as_bytes(),
        );
        let mut lines: Vec<String> = Vec::new();
        while lines.last().is_none_or(|line| !line.is_empty() || lines.len() < 12)
            && lines.len() < 40
        {
            lines.push(client.line());
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    });
    let said: Vec<_> = said.collect();
    assert_eq!(said[1], said[0]);
    assert_eq!(said[0].last().unwrap(), "+OK Logging out.");
}

#[test]
fn settings_change_what_they_change_at_dovecot() {
    let Some(both) = Both::start(
        "pop3_uidl_format = %f\npop3_enable_last = yes\npop3_no_flag_updates = yes\npop3_reuse_xuidl = yes\n\
         pop3_delete_type = flag\npop3_deleted_flag = \"$POP3Deleted\"\n\
         pop3_client_workarounds = outlook-no-nuls oe-ns-eoh\npop3_logout_format = bytes=%i/%o size=%s\n",
    ) else {
        return;
    };
    let mut clients = both.compare(LOGIN);
    both.go_on(
        &mut clients,
        &["UIDL", "LAST", "RETR 2", "LAST", "RETR 4", "TOP 4 1", "DELE 3", "QUIT"],
    );
    assert_eq!(both.names(OURS), both.names(THEIRS));
    let mut clients = both.compare(LOGIN);
    both.go_on(&mut clients, &["STAT", "UIDL", "QUIT"]);
}

#[test]
fn log_lines_are_dovecots() {
    let Some(both) = Both::start("") else { return };
    let mut clients = both.compare(LOGIN);
    both.go_on(&mut clients, &["TOP 1 0", "RETR 2", "DELE 1", "QUIT"]);
    both.compare(&["USER USER_", "PASS wrong", "QUIT"]);
    for wanted in [
        "pop3-login: Login: user=<USER_>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, mpid=N, secured, session=<S>",
        "pop3(USER_)<N><S>: Disconnected: Logged out top=1/21, retr=1/43, del=1/5, size=154",
        "pop3-login: Disconnected: Aborted login by logging out (auth failed, 1 attempts in N secs): user=<USER_>, \
         method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, secured, session=<S>",
    ] {
        for (log, user) in [(&both.dovecot.log, THEIRS), (&both.pop3d.log, OURS)] {
            let start = wanted.split(['<', '(']).next().unwrap();
            let shape = |line: &str| {
                let line = line.replacen("Info: ", "", 1);
                line.find(start).is_some_and(|at| same(&line[at..], &wanted.replace("USER_", user)))
            };
            log.wait_until(wanted, |lines| {
                lines.iter().any(|line| shape(&line.text)).then_some(())
            });
        }
    }
}

/// Whether a line has this shape: `N` is a number, `S` a session.
fn same(line: &str, shape: &str) -> bool {
    let (mut line, mut shape) = (line.trim_end(), shape);
    while let Some(at) = shape.find(['N', 'S']).filter(|_| true) {
        let (before, rest) = shape.split_at(at);
        let alone = |text: &str| text.chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        let next = rest[1..].chars().next();
        if !alone(before) || next.is_some_and(char::is_alphanumeric) {
            let keep = at + 1;
            let Some(after) = line.strip_prefix(&shape[..keep]) else { return false };
            (line, shape) = (after, &shape[keep..]);
            continue;
        }
        let Some(after) = line.strip_prefix(before) else { return false };
        let end = after.find([',', '>', ' ']).unwrap_or(after.len());
        (line, shape) = (&after[end..], &rest[1..]);
    }
    line == shape
}

#[test]
fn tls_begins_with_stls_and_forgets_what_was_pipelined() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch.directory("tls"));
    let identity = authority.issue("mail", &["mail.example.com"]);
    let extra = format!(
        "ssl = yes\nssl_cert = <{}\nssl_key = <{}\n",
        identity.chain.display(),
        identity.key.display()
    );
    let both = Both::start_in(scratch, &extra);
    let config = trust(&authority.ca_file());
    let secured = both.compare(&["CAPA"]).map(|mut client| {
        client.raw(b"STLS\r\n");
        assert_eq!(client.line(), "+OK Begin TLS negotiation now.");
        client.start_tls("mail.example.com", &config)
    });
    let mut secured = secured;
    both.go_on(
        &mut secured,
        &["CAPA", "STLS", "PASS secret", "USER USER_", "PASS secret", "STAT", "RETR 1", "QUIT"],
    );
    both.pop3d.log.wait_for(", TLS, session=<");
    // Dovecot takes what came with STLS for a part of the handshake
    let mut client = Client::tcp(both.port);
    client.line();
    client.raw(b"STLS\r\nUSER injected@example.org\r\nPASS injected\r\n");
    assert_eq!(client.line(), "+OK Begin TLS negotiation now.");
    let mut client = client.start_tls("mail.example.com", &config);
    assert_eq!(answer(&mut client, "NOOP"), ["-ERR Unknown command."]);
    assert_eq!(answer(&mut client, "PASS secret"), ["-ERR No username given."]);
    let _ = &both.scratch;
}
