//! Dovecot's auth protocols as Debian's Dovecot speaks them: each transcript runs against both servers.

use harness::client::Client;
use harness::daemon::Daemon;
use harness::dovecot::Dovecot;
use harness::{Scratch, skip};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

const USERS: &str = "\
alice@example.com:{PLAIN}secret:5000:5000::/var/vmail/alice::userdb_quota_rule=*:storage=2M
sha@example.com:{SHA512-CRYPT}$6$RlmCoLV3EnPDquOZ$HshOtrFQq2w.81WQvaktteiPT.XABAjFxWnai38ETiBA0Ws3fxlEOl4oSFPymWkqHsiefYzZoYjVDUfnWXy9H/:5000:5000::/var/vmail/%n::
bcrypt@example.com:{BLF-CRYPT}$2y$05$sSGwptmkMc1jebe1bQqr3.LhL973SqcdnT4B8tS6XdYDLUnV8vWKW:5000:5000::/v::
argon@example.com:{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$arQWJcLMKsxvFQs88sV1nQ$5nYw5K2NX6ogGu433NZCn98SK+NRkW1oVhvt8reXwI0:5000:5000::/v::
carol@example.com:{PLAIN}secret:5000:5000::/v::nologin
frank@example.com:{PLAIN}secret:5000:5000::/v::proxy=y host=192.0.2.9
net@example.com:{PLAIN}secret:5000:5000::/v::allow_nets=10.0.0.0/8
renamed@example.com:{PLAIN}secret:5000:5000::/v::user=alice@example.com
plain@example.com:secret:5000:5000::/v::
broken@example.com:{NONSENSE}x:5000:5000::/v::
none@example.com::5000:5000::/v::
";

/// Both servers on one file of users.
struct Both {
    authd: Daemon,
    dovecot: Dovecot,
    scratch: Scratch,
}

impl Both {
    fn start(extra: &str) -> Option<Self> {
        if !skip::can_run(true, &["dovecot"]) {
            return None;
        }
        let scratch = Scratch::new();
        let extra = format!(
            "auth_failure_delay = 0\nauth_mechanisms = plain login cram-md5\nauth_verbose = yes\n\
             service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n{extra}"
        );
        let mut dovecot = Dovecot::lay(&scratch, &[], &extra);
        scratch.write("dovecot/users", USERS);
        let text = std::fs::read_to_string(dovecot.config()).unwrap();
        let users = scratch.join("dovecot/users");
        let (before, rest) = text.split_once("userdb {").unwrap();
        let (_, after) = rest.split_once('}').unwrap();
        let userdb = format!("userdb {{\n  driver = passwd-file\n  args = {}\n}}", users.display());
        let text = format!("{before}{userdb}{after}");
        scratch.write("dovecot/dovecot.conf", &text);
        dovecot.start();
        let ours = scratch.write("authd/dovecot.conf", text.replace("/dovecot-run", "/authd-run"));
        let directory = scratch.directory("authd");
        let authd = Daemon::start("authd", &directory, &["-c", ours.to_str().unwrap()]);
        Some(Self { authd, dovecot, scratch })
    }

    fn sockets(&self, name: &str) -> [Client; 2] {
        let theirs = Client::unix(&self.dovecot.socket(name));
        [theirs, Client::unix(&self.scratch.join("authd-run").join(name))]
    }

    /// Connections to a client socket, greeted; what the servers said until `DONE`.
    fn greeted(&self, name: &str) -> ([Client; 2], [Vec<String>; 2]) {
        let mut clients = self.sockets(name);
        let greetings = clients.each_mut().map(|client| {
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line| line != "DONE") {
                lines.push(client.line());
            }
            client.raw(b"VERSION\t1\t2\nCPID\t4711\n");
            lines
        });
        (clients, greetings)
    }
}

/// Empty fields say nothing.
fn normal(line: &str) -> String {
    let fields: Vec<&str> = line.split('\t').collect();
    let last = fields.len() - 1;
    let told = fields.iter().enumerate().filter(|(index, field)| {
        // CONT has its third field always
        !field.is_empty() || (fields[0] == "CONT" && *index == last)
    });
    told.map(|(_, field)| *field).collect::<Vec<_>>().join("\t")
}

#[track_caller]
fn compare(both: &Both, clients: &mut [Client; 2], script: &[&str]) {
    let mut differences = String::new();
    for line in script {
        let [theirs, ours] = clients.each_mut().map(|client| {
            client.raw(format!("{line}\n").as_bytes());
            normal(&client.line())
        });
        if theirs != ours {
            differences.push_str(&format!("C: {line}\n  theirs: {theirs}\n  ours:   {ours}\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}\nour log:\n{}", both.authd.log.text());
}

/// `AUTH` with PLAIN for this user and password, each from an address of its own.
fn plain(id: u32, user: &str, password: &str) -> String {
    let response = base64(format!("\0{user}\0{password}").as_bytes());
    format!("AUTH\t{id}\tPLAIN\tservice=smtp\tlip=127.0.0.1\trip=192.0.2.{id}\tresp={response}")
}

pub(crate) fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, octet| group << 8 | u32::from(*octet))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[test]
fn the_handshake_is_theirs() {
    let Some(both) = Both::start("") else { return };
    let (_, [theirs, ours]) = both.greeted("auth-client");
    let shape = |lines: &[String]| -> Vec<String> {
        let one = |line: &String| match line.split_once('\t') {
            Some((word @ ("SPID" | "CUID"), number)) => {
                format!("{word} {}", number.parse::<u32>().is_ok())
            }
            Some(("COOKIE", cookie)) => format!("COOKIE of {}", cookie.len()),
            _ => line.clone(),
        };
        lines.iter().map(one).collect()
    };
    assert_eq!(shape(&ours), shape(&theirs));
    for mut client in both.sockets("auth-userdb") {
        assert_eq!(client.line(), "VERSION\t1\t1");
        assert!(client.line().starts_with("SPID\t"));
    }
}

#[test]
fn logins_have_their_answers() {
    let Some(both) = Both::start("") else { return };
    let (mut clients, _) = both.greeted("auth-client");
    let mut script = Vec::new();
    for (index, (user, password)) in [
        ("alice@example.com", "secret"),
        ("Alice@Example.com", "secret"),
        ("alice@example.com", "wrong"),
        ("alice@example.com", ""),
        ("nobody@example.com", "secret"),
        ("sha@example.com", "secret"),
        ("sha@example.com", "Secret"),
        ("bcrypt@example.com", "secret"),
        ("argon@example.com", "secret"),
        ("carol@example.com", "secret"),
        ("frank@example.com", "secret"),
        ("net@example.com", "secret"),
        ("renamed@example.com", "secret"),
        ("plain@example.com", "secret"),
        ("al ice@example.com", "secret"),
        ("a/b", "secret"),
        ("", "secret"),
    ]
    .into_iter()
    .enumerate()
    {
        script.push(plain(u32::try_from(index).unwrap() + 1, user, password));
    }
    let lines: Vec<&str> = script.iter().map(String::as_str).collect();
    compare(&both, &mut clients, &lines);
    let user = base64(b"alice@example.com");
    let (right, wrong) = (base64(b"secret"), base64(b"x"));
    let response = base64(b"\0alice@example.com\0secret");
    let as_herself = base64(b"alice@example.com\0alice@example.com\0secret");
    let as_another = base64(b"sha@example.com\0alice@example.com\0secret");
    compare(
        &both,
        &mut clients,
        &[
            "AUTH\t101\tPLAIN\tservice=smtp",
            &format!("CONT\t101\t{response}"),
            "AUTH\t102\tplain\tservice=imap\tsecured=tls\tunknown=1\tsession=abc",
            "CONT\t102\tAAA=",
            "AUTH\t103\tLOGIN\tservice=smtp",
            &format!("CONT\t103\t{user}"),
            &format!("CONT\t103\t{right}"),
            &format!("AUTH\t104\tLOGIN\tservice=smtp\tresp={user}"),
            &format!("CONT\t104\t{wrong}"),
            "AUTH\t105\tPLAIN\tservice=smtp\tresp==",
            "AUTH\t106\tPLAIN\tservice=smtp\tresp=",
            "AUTH\t107\tPLAIN\tservice=smtp\tresp=%%%",
            "AUTH\t108\tPLAIN\tservice=smtp\tresp=AA",
            "CONT\t999\tAAAA",
            &format!("AUTH\t109\tPLAIN\tservice=smtp\tresp={as_herself}"),
            &format!("AUTH\t110\tPLAIN\tservice=smtp\tresp={as_another}"),
            "AUTH\t111\tPLAIN\tservice=smtp",
            "CONT\t111\t%%%",
        ],
    );
}

#[test]
fn a_client_that_breaks_the_protocol_is_cut_off_without_an_answer() {
    let Some(both) = Both::start("") else { return };
    for line in [
        "AUTH\t1\tGSSAPI\tservice=smtp",
        "AUTH\t1\tPLAIN",
        "AUTH\t0\tPLAIN\tservice=smtp",
        "AUTH\tx\tPLAIN\tservice=smtp",
        "AUTH\t1\tPLAIN\tservice=smtp\tresp=AAAA\tsecured",
        "HELLO",
        "VERSION\t2\t0",
    ] {
        let (mut clients, _) = both.greeted("auth-client");
        for client in &mut clients {
            client.raw(format!("{line}\n").as_bytes());
            assert_eq!(client.line(), "", "{line}");
        }
    }
    for path in [both.dovecot.socket("auth-client"), both.scratch.join("authd-run/auth-client")] {
        let mut stream = UnixStream::connect(path).unwrap();
        let _ = stream.write_all(&[b'x'; 20_000]);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said); // ends, with or without an error
        assert!(String::from_utf8(said).unwrap().ends_with("DONE\n"));
    }
    // and the others are still served
    let (mut clients, _) = both.greeted("auth-client");
    compare(&both, &mut clients, &[&plain(1, "alice@example.com", "secret")]);
}

#[test]
fn users_are_looked_up_alike() {
    let Some(both) = Both::start("protocol lmtp {\n  auth_username_format = %Lu\n}\n") else {
        return;
    };
    let mut clients = both.sockets("auth-userdb");
    for client in &mut clients {
        client.line();
        client.line();
        client.raw(b"VERSION\t1\t1\n");
    }
    compare(
        &both,
        &mut clients,
        &[
            "USER\t1\talice@example.com\tservice=lmtp",
            "USER\t2\tALICE@example.com\tservice=lmtp",
            "USER\t3\tsha@example.com\tservice=imap\trip=192.0.2.1",
            "USER\t4\tnobody@example.com\tservice=lmtp",
            "USER\t5\ta/b\tservice=lmtp",
            "PASS\t6\talice@example.com\tservice=lmtp",
            "PASS\t7\tfrank@example.com\tservice=lmtp",
            "PASS\t8\tnobody@example.com\tservice=lmtp",
        ],
    );
    let lists = clients.each_mut().map(|client| {
        client.raw(b"LIST\t9\tservice=doveadm\n");
        let mut lines: Vec<String> = Vec::new();
        while lines.last().is_none_or(|line| !line.starts_with("DONE")) {
            lines.push(client.line());
        }
        lines
    });
    assert_eq!(lists[1], lists[0]);
}

#[test]
fn a_login_is_confirmed_once() {
    let Some(both) = Both::start("") else { return };
    let (mut logins, greetings) = both.greeted("login/login");
    for client in &mut logins {
        let response = base64(b"\0Alice@example.com\0secret");
        client.raw(format!("AUTH\t1\tPLAIN\tservice=imap\tresp={response}\n").as_bytes());
        assert!(client.line().starts_with("OK\t1\tuser=alice@example.com"));
    }
    let masters = both.sockets("auth-master");
    let mut answers = Vec::new();
    for (mut master, greeting) in masters.into_iter().zip(greetings) {
        master.line();
        master.line();
        let cookie = greeting.iter().find_map(|line| line.strip_prefix("COOKIE\t")).unwrap();
        let pid = std::process::id();
        let request = |cookie: &str, pid: u32| {
            format!("REQUEST\t7\t4711\t1\t{cookie}\tsession_pid={pid}\trequest_auth_token\n")
        };
        master.raw(b"VERSION\t1\t1\n");
        let mut lines = Vec::new();
        for request in [
            request("00000000000000000000000000000000", pid),
            request(cookie, pid),
            request(cookie, pid),
        ] {
            master.raw(request.as_bytes());
            let line = master.line();
            let shown = line.split('\t').map(|field| match field.split_once('=') {
                Some(("auth_token", token)) => format!("auth_token of {}", token.len()),
                _ => field.to_owned(),
            });
            lines.push(shown.collect::<Vec<_>>().join("\t"));
        }
        answers.push(lines);
    }
    assert_eq!(answers[1], answers[0]);
    assert!(answers[0][1].starts_with("USER\t7\talice@example.com\t"), "{answers:?}");
}

#[test]
fn failures_are_logged_in_dovecots_words() {
    let Some(both) = Both::start("") else { return };
    let (mut clients, _) = both.greeted("auth-client");
    compare(
        &both,
        &mut clients,
        &[
            &plain(1, "alice@example.com", "wrong"),
            &plain(2, "nobody@example.com", "wrong"),
            &plain(3, "net@example.com", "secret"),
            &plain(4, "a/b", "secret"),
        ],
    );
    for wanted in [
        "auth: passwd-file(alice@example.com,192.0.2.1): Password mismatch",
        "auth: passwd-file(nobody@example.com,192.0.2.2): unknown user",
        "auth: passwd-file(net@example.com,192.0.2.3): allow_nets check failed: IP 192.0.2.3 not in allowed networks",
        "auth: plain(?,192.0.2.4): Username character disallowed by auth_username_chars: 0x2f (username: a/b)",
    ] {
        let (word, text) = wanted.split_once(' ').unwrap();
        both.authd.log.wait_for(wanted);
        // the file of Dovecot has the level between
        both.dovecot.log.wait_for(&format!("{word} Info: {text}"));
    }
}

/// On purpose another answer than Dovecot's, which lets the empty password in where a line has none.
#[test]
fn an_empty_stored_password_lets_nobody_in() {
    let Some(both) = Both::start("") else { return };
    let (mut clients, _) = both.greeted("auth-client");
    let answers = clients.each_mut().map(|client| {
        client.raw(format!("{}\n", plain(1, "none@example.com", "")).as_bytes());
        normal(&client.line())
    });
    assert_eq!(answers, ["OK\t1\tuser=none@example.com", "FAIL\t1\tuser=none@example.com"]);
}
