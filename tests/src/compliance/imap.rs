//! IMAP as Debian's Dovecot speaks it: each script runs against both servers, on Maildirs that start alike.
//!
//! Compared are all untagged and tagged answers, without what must differ: times, UIDVALIDITY,
//! HIGHESTMODSEQ, capabilities. The order of LIST is the order of a directory and does not count.

mod scripts;
mod tls;

use harness::certificates::Authority;
use harness::client::{Client, trust};
use harness::daemon::Daemon;
use harness::dovecot::{Dovecot, VMAIL};
use harness::{Scratch, ports, skip};

/// Beside the harness's configuration: what the scripts need, and a master socket for our broker.
const EXTRA: &str = "\
mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=100M
}
namespace inbox {
  separator = .
  mailbox Drafts {
    special_use = \\Drafts
    auto = subscribe
  }
  mailbox Sent {
    special_use = \\Sent
    auto = create
  }
  mailbox Trash {
    special_use = \\Trash
  }
}
service auth {
  unix_listener auth-master {
    mode = 0600
    user = $default_internal_user
  }
}
";

/// Both servers on one set of users.
pub(crate) struct Both {
    pub imapd: Daemon,
    pub dovecot: Dovecot,
    /// Where ours listens.
    pub port: u16,
    /// The last to go.
    _scratch: Scratch,
}

impl Both {
    /// `None` where the machine has no Dovecot or we are not root.
    pub fn start(extra: &str) -> Option<Self> {
        Self::start_with(|_| extra.to_owned())
    }

    /// As [`Both::start`], with a configuration that names files of the scratch directory.
    pub fn start_with(extra: impl FnOnce(&Scratch) -> String) -> Option<Self> {
        if !skip::can_run(true, &["dovecot"]) {
            return None;
        }
        let scratch = Scratch::new();
        let extra = extra(&scratch);
        let users = [("ours@example.org", "secret"), ("theirs@example.org", "secret")];
        let mut dovecot = Dovecot::lay(&scratch, &users, &format!("{EXTRA}{extra}"));
        dovecot.start();
        let port = ports::free();
        let config = std::fs::read_to_string(dovecot.config()).unwrap();
        let config =
            config.replacen(&format!("port = {}", dovecot.imap), &format!("port = {port}"), 1);
        let path = scratch.write("imapd/dovecot.conf", config);
        let arguments = ["-c", path.to_str().unwrap()];
        let imapd = Daemon::start("imapd", &scratch.directory("imapd"), &arguments);
        Some(Self { imapd, dovecot, port, _scratch: scratch })
    }

    /// Puts the same messages into both Maildirs' `new`.
    fn fill(&self, messages: &[&[u8]]) {
        for user in ["ours@example.org", "theirs@example.org"] {
            let maildir = self.dovecot.maildir(user);
            for name in ["cur", "new", "tmp"] {
                std::fs::create_dir_all(maildir.join(name)).unwrap();
            }
            for (index, message) in messages.iter().enumerate() {
                let name = format!("{}.M{index}P1.host", 1_700_000_000 + index);
                std::fs::write(maildir.join("new").join(name), message).unwrap();
            }
            let root = maildir.parent().unwrap();
            let owner = format!("{VMAIL}:{VMAIL}");
            let done = std::process::Command::new("chown").args(["-R", &owner]).arg(root).status();
            assert!(done.unwrap().success());
        }
    }

    /// Runs a script against both and compares each answer.
    #[track_caller]
    fn compare(&self, script: &[&str]) {
        let mut theirs = Client::tcp(self.dovecot.imap);
        let mut ours = Client::tcp(self.port);
        let greetings = [theirs.line(), ours.line()];
        assert_eq!(normal(&greetings[1]), normal(&greetings[0]));
        let mut differences = String::new();
        for line in script {
            let their_answer = answer(&mut theirs, &line.replace("USER", "theirs@example.org"));
            let our_answer = answer(&mut ours, &line.replace("USER", "ours@example.org"));
            if our_answer != their_answer {
                differences.push_str(&format!(
                    "C: {line}\n  theirs: {}\n  ours:   {}\n",
                    their_answer.join("\n          "),
                    our_answer.join("\n          ")
                ));
            }
        }
        assert!(differences.is_empty(), "{differences}\nour log:\n{}", self.imapd.log.text());
    }
}

/// Sends a command and gives everything up to its tagged answer, made comparable.
fn answer(client: &mut Client, line: &str) -> Vec<String> {
    client.send(line);
    let mut lines = Vec::new();
    loop {
        let mut text = client.line();
        while let Some(size) = literal(&text) {
            let octets = client.bytes(size);
            text.push_str(&String::from_utf8_lossy(&octets));
            text.push_str(&client.line());
        }
        let last =
            !text.starts_with("* ") || ["* BYE", "* BAD"].contains(&&text[..5.min(text.len())]);
        let text = normal(&text);
        if !text.is_empty() {
            lines.push(text);
        }
        if last {
            break;
        }
    }
    // Only the order of mailboxes is nobody's promise.
    if lines.iter().any(|text| text.starts_with("* LIST") || text.starts_with("* LSUB")) {
        lines.sort();
    }
    lines
}

/// The size of a literal that a line announces at its end.
fn literal(line: &str) -> Option<usize> {
    let inner = line.strip_suffix('}')?;
    inner.get(inner.rfind('{')? + 1..)?.parse().ok()
}

/// A line without what differs from run to run.
fn normal(line: &str) -> String {
    if line.starts_with("* OK [HIGHESTMODSEQ") {
        return String::new();
    }
    let mut text = line.to_owned();
    if let Some(at) = text.rfind(" (")
        && text.ends_with("secs).")
    {
        text.truncate(at);
    }
    for (before, until) in
        [("UIDVALIDITY ", "] )"), ("APPENDUID ", " "), ("COPYUID ", " "), ("[CAPABILITY ", "]")]
    {
        if let Some(start) = text.find(before).map(|at| at + before.len()) {
            let rest = &text[start..];
            let end = rest.find(|c| until.contains(c)).unwrap_or(rest.len());
            text.replace_range(start..start + end, "N");
        }
    }
    if let Some(rest) = text.strip_prefix("* CAPABILITY ") {
        text.truncate(text.len() - rest.len());
    }
    text
}

#[test]
fn mistakes_and_their_answers() {
    let Some(both) = Both::start("") else { return };
    both.compare(scripts::MISTAKES);
}

#[test]
fn messages_are_saved_changed_searched_moved() {
    let Some(both) = Both::start("") else { return };
    both.compare(scripts::MESSAGES);
}

#[test]
fn mailboxes_are_made_named_listed() {
    let Some(both) = Both::start("") else { return };
    both.compare(scripts::MAILBOXES);
}

#[test]
fn the_parts_of_messages() {
    let Some(both) = Both::start("") else { return };
    both.fill(scripts::MAIL);
    let script = scripts::parts();
    let lines: Vec<&str> = script.iter().map(String::as_str).collect();
    both.compare(&lines);
}

/// Before the login, a conversation each: three mistakes end it.
#[test]
fn strangers_are_answered_alike() {
    let Some(both) = Both::start("") else { return };
    for script in scripts::BEFORE_LOGIN {
        both.compare(script);
    }
}

/// What nobody may send: bounded, answered, and the next client is served.
#[test]
fn hostile_input_before_and_after_the_login() {
    let Some(both) = Both::start("") else { return };
    let deep = format!("a SEARCH {}ALL{}", "(".repeat(10_000), ")".repeat(10_000));
    for (line, wanted) in [
        ("a LOGIN x {4294967296}", "* BYE Literal size too large"),
        ("a LOGIN x {4294967296+}", "* BYE Literal size too large"),
        (&*deep, "* BYE Input buffer full, aborting"),
    ] {
        let mut client = Client::tcp(both.port);
        client.line();
        client.send(line);
        assert_eq!(client.line(), wanted);
        assert_eq!(client.line(), "", "the connection is closed");
    }
    let mut client = Client::tcp(both.port);
    client.line();
    assert!(client.imap("a", "LOGIN ours@example.org secret")[0].starts_with("a OK"));
    client.imap("b", "SELECT INBOX");
    let answer = client.imap("a", &deep[2..]);
    assert!(answer[0].starts_with("a BAD Error in IMAP command SEARCH: Too many levels"));
    let long = format!("NOOP {}", "x".repeat(200_000));
    assert!(client.imap("c", &long)[0].starts_with("c BAD Error in IMAP command NOOP"));
    assert!(client.imap("d", "NOOP")[0].starts_with("d OK"));
    client.send("e LOGOUT");
    both.imapd.log.wait_for("Disconnected: Logged out in=");
}

#[test]
fn log_lines_are_dovecots() {
    let Some(both) = Both::start("mail_max_userip_connections = 1\n") else { return };
    let mut client = Client::tcp(both.port);
    client.line();
    assert!(client.imap("a", "LOGIN ours@example.org secret")[0].starts_with("a OK"));
    let line = both.imapd.log.wait_for("imap-login: Login: user=<ours@example.org>, method=PLAIN");
    assert!(line.contains("rip=127.0.0.1, lip=127.0.0.1, mpid="), "{line}");
    assert!(line.contains(", secured, session=<"), "{line}");
    let mut second = Client::tcp(both.port);
    second.line();
    assert_eq!(
        second.imap("a", "LOGIN ours@example.org secret")[0],
        "a NO [LIMIT] Maximum number of connections from user+IP exceeded \
         (mail_max_userip_connections=1)"
    );
    both.imapd.log.wait_for(
        "imap-login: Disconnected: Maximum number of connections from user+IP exceeded \
         (mail_max_userip_connections=1): user=<ours@example.org>, method=PLAIN, rip=",
    );
    client.imap("b", "LOGOUT");
    let line = both.imapd.log.wait_for("Disconnected: Logged out in=");
    assert!(line.contains("imap(ours@example.org)<"), "{line}");
    let zeros = "deleted=0 expunged=0 trashed=0 hdr_count=0 hdr_bytes=0 body_count=0 body_bytes=0";
    assert!(line.ends_with(zeros), "{line}");
    let mut third = Client::tcp(both.port);
    third.line();
    third.imap("a", "LOGIN ours@example.org wrong");
    third.imap("b", "LOGOUT");
    let line = both.imapd.log.wait_for("Aborted login by logging out (auth failed, 1 attempts in ");
    assert!(
        line.contains(" secs): user=<ours@example.org>, method=PLAIN, rip=127.0.0.1"),
        "{line}"
    );
}

/// STARTTLS throws away what came before it; a relayed session is the same session.
#[test]
fn tls_before_and_after_the_login() {
    let mut ca = None;
    let both = Both::start_with(|scratch| {
        let authority = Authority::new(&scratch.directory("tls"));
        let identity = authority.issue("imap", &["localhost"]);
        ca = Some(authority.ca_file());
        format!(
            "ssl = yes\nssl_cert = <{}\nssl_key = <{}\nssl_min_protocol = TLSv1.3\n",
            identity.chain.display(),
            identity.key.display()
        )
    });
    let Some(both) = both else { return };
    let trust = trust(&ca.unwrap());
    let mut client = Client::tcp(both.port);
    assert!(client.line().contains(" STARTTLS "));
    client.raw(b"a STARTTLS\r\nb LOGIN ours@example.org secret\r\n");
    assert_eq!(client.line(), "a OK Begin TLS negotiation now.");
    let mut client = client.start_tls("localhost", &trust);
    // The first answer inside is to the first command inside.
    assert_eq!(client.imap("c", "STARTTLS"), ["c BAD TLS is already active."]);
    assert!(client.imap("d", "LOGIN ours@example.org secret")[0].starts_with("d OK [CAPABILITY "));
    let large = "0123456789abcde\r\n".repeat(60_000);
    let mail = format!("Subject: large\r\n\r\n{large}");
    let length = mail.len();
    client.send(&format!("e APPEND INBOX {{{length}+}}\r\n{mail}"));
    assert!(client.line().starts_with("e OK [APPENDUID "));
    client.imap("f", "SELECT INBOX");
    client.send("g UID FETCH 1 BODY.PEEK[]");
    assert_eq!(client.line(), format!("* 1 FETCH (UID 1 BODY[] {{{length}}}"));
    assert!(client.bytes(length) == mail.as_bytes());
    assert_eq!(client.line(), ")");
    client.imap("h", "LOGOUT");
    let line = both.imapd.log.wait_for("imap-login: Login: user=<ours@example.org>");
    assert!(line.contains(", TLS, session=<"), "{line}");
}

/// A session goes on while the daemon reads its configuration anew; new clients get the new one.
#[test]
fn a_reload_leaves_sessions_alone() {
    let Some(both) = Both::start("") else { return };
    let mut client = Client::tcp(both.port);
    client.line();
    client.imap("a", "LOGIN ours@example.org secret");
    client.imap("b", "SELECT INBOX");
    let path = both._scratch.join("imapd/dovecot.conf");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}login_greeting = Anew.\n")).unwrap();
    both.imapd.reload();
    assert!(client.imap("c", "NOOP")[0].starts_with("c OK"));
    let mut next = Client::tcp(both.port);
    assert!(next.line().ends_with(" Anew."));
    assert!(next.imap("a", "LOGIN ours@example.org secret")[0].starts_with("a OK"));
    assert!(client.imap("d", "LOGOUT")[0].starts_with("* BYE"));
}
