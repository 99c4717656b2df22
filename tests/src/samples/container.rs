//! `etc/container`: what users send goes to a relay that asks for a password, what comes for them goes to Dovecot's place
//! by LMTP over TCP, and all lines come out on standard output.

use harness::certificates::Authority;
use harness::dns::Server;
use harness::log::eventually;
use harness::remote::{Conversation, Remote, Script};
use harness::{Scratch, ports};

use super::{HOST, PASSWORD, Rig, Whose, can_run, plain, send};

const RELAY: &str = "smtp-relay.example.net";

/// A relay that takes nothing without TLS and a password.
struct Relay {
    remote: Remote,
    names: Server,
    _scratch: Scratch,
}

impl Relay {
    fn start() -> Self {
        let scratch = Scratch::new();
        let identity = Authority::new(&scratch.directory("ca")).issue("relay", &[RELAY]);
        let script = Script::new(RELAY)
            .tls(&identity)
            .on("tls EHLO", &format!("250 {RELAY}|AUTH PLAIN LOGIN|ENHANCEDSTATUSCODES|8BITMIME"))
            .on("tls AUTH PLAIN", "235 2.7.0 Authentication successful")
            .on("tls MAIL", "250 2.1.0 Ok")
            .on("MAIL", "530 5.7.0 Must issue a STARTTLS command first");
        let address = ports::address();
        let remote = Remote::start((address, 587).into(), script);
        let names = Server::start(&format!("{RELAY} A {address}\n"));
        Self { remote, names, _scratch: scratch }
    }

    fn conversation(&self) -> Conversation {
        eventually("a message at the relay", || {
            self.remote.conversations().into_iter().find(|one| !one.contents.is_empty())
        })
    }
}

fn play(whose: Whose) {
    if !can_run() {
        return;
    }
    let relay = Relay::start();
    let rig = Rig::start("container", whose, Some(&relay.names), |_| {});
    users_send_through_the_relay(&rig, &relay);
    strangers_reach_mailboxes(&rig);
    users_read(&rig);
    lines_come_out_as_the_originals_write_them(&rig);
}

fn users_send_through_the_relay(rig: &Rig, relay: &Relay) {
    let mut stranger = rig.submission();
    stranger.expect(&plain("user2@example.com", "wrong"), "535 5.7.8");
    stranger.expect("MAIL FROM:<user2@example.com>", "250");
    stranger.expect("RCPT TO:<friend@example.net>", "554 5.7.1");
    let mut client = rig.logged_in("user2@example.com");
    send(&mut client, "user2@example.com", "friend@example.net", "out through the relay");
    let conversation = relay.conversation();
    assert!(conversation.contents[0].contains("Subject: out through the relay\n"));
    let verbs: Vec<&str> =
        conversation.commands.iter().filter_map(|line| line.split([' ', ':']).next()).collect();
    assert_eq!(verbs[..6], ["EHLO", "STARTTLS", "(TLS)", "EHLO", "AUTH", "MAIL"], "{verbs:?}");
    let login = plain("relay-user", PASSWORD);
    assert!(conversation.commands.contains(&login), "{:?}", conversation.commands);
    rig.site.log.wait_for(&format!("relay={RELAY}["));
}

fn strangers_reach_mailboxes(rig: &Rig) {
    let mut smtp = rig.connect("smtp");
    assert_eq!(smtp.reply(), format!("220 {HOST} ESMTP"));
    smtp.expect("EHLO client.example.com", "250");
    smtp.expect("MAIL FROM:<friend@example.net>", "250");
    smtp.expect("RCPT TO:<nobody@example.com>", "550 5.1.1");
    smtp.expect("RSET", "250");
    send(&mut smtp, "friend@example.net", "info@example.com", "in by LMTP");
    let log = &rig.site.log;
    for user in ["user1", "user2"] {
        let to = format!("to=<{user}@example.com>, orig_to=<info@example.com>, relay=");
        let line = log.wait_until(&format!("a delivery to {user}"), |lines| {
            let found = lines.iter().find(|line| line.text.contains(&to));
            found.map(|line| line.text.clone())
        });
        let port = rig.site.port("lmtp");
        assert!(
            line.contains(&format!("[127.0.0.1]:{port}, "))
                && line.contains("status=sent (250 2.0.0 "),
            "{line}"
        );
    }
}

fn users_read(rig: &Rig) {
    for user in ["user1@example.com", "user2@example.com"] {
        let mut imap = rig.tls("imaps");
        imap.line();
        imap.imap("a", &format!("LOGIN {user} {PASSWORD}"));
        let selected = imap.imap("b", "SELECT INBOX");
        assert!(selected.contains(&"* 1 EXISTS".to_owned()), "{selected:?}");
        let quota = imap.imap("c", "GETQUOTAROOT INBOX").join("\n");
        assert!(quota.contains("(STORAGE 1 2097152)"), "{quota}");
        imap.imap("d", "LOGOUT");
    }
    let mut pop3 = rig.tls("pop3s");
    pop3.line();
    pop3.send(&format!("USER user1@example.com\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT"));
    let said = [pop3.line(), pop3.line(), pop3.line()];
    assert!(said[2].starts_with("+OK 1 "), "{said:?}");
}

fn lines_come_out_as_the_originals_write_them(rig: &Rig) {
    let log = &rig.site.log;
    // The time as `Nov 22 06:14:12 `, then the rest.
    let timed = |beginning: &str, word: &str| {
        log.wait_until(&format!("{beginning}…{word}"), |lines| {
            let fits = |text: &str| {
                let digits = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
                digits(5)
                    && (digits(7) && digits(13))
                    && text.get(16..).is_some_and(|rest| rest.starts_with(beginning))
                    && text.contains(word)
            };
            lines.iter().any(|line| fits(&line.text)).then_some(())
        });
    };
    timed("mail postfix/submission/smtpd[", "sasl_method=PLAIN, sasl_username=user2@example.com");
    timed("mail postfix/submission/smtpd[", "SASL PLAIN authentication failed");
    timed("mail postfix/cleanup[", "message-id=<in-by-LMTP@client.example.com>");
    timed("mail postfix/qmgr[", "from=<friend@example.net>");
    timed("mail postfix/smtp[", &format!("to=<friend@example.net>, relay={RELAY}["));
    timed("mail postfix/lmtp[", "to=<user1@example.com>");
    timed("imap-login: Info: Login: user=<user1@example.com>", "method=PLAIN");
    timed("imap(user1@example.com)<", "Info: Disconnected: Logged out");
    timed("pop3-login: Info: Login: user=<user1@example.com>", "TLS");
    timed(
        "lmtp(user1@example.com)<",
        "Info: msgid=<in-by-LMTP@client.example.com>: saved mail to INBOX",
    );
}

#[test]
fn mail_goes_out_and_comes_in() {
    play(Whose::Ours);
}

#[test]
fn mail_goes_out_and_comes_in_with_the_originals() {
    play(Whose::Theirs);
}

/// After a log file was moved away, SIGHUP (or SIGUSR1, as `doveadm log reopen` sends) makes a new one, for living
/// sessions too.
#[test]
fn log_files_are_rotated() {
    if !can_run() {
        return;
    }
    let rig = Rig::start("container", Whose::Ours, None, |site| {
        let logs = site.root().join("log");
        std::fs::create_dir(&logs).unwrap();
        let shown = logs.display();
        site.set_main("maillog_file", &format!("{shown}/maillog"));
        site.set_main("maillog_file_prefixes", &shown.to_string());
        let text = std::fs::read_to_string(site.dovecot()).unwrap();
        let text = text.replace("/dev/stdout", &format!("{shown}/dovecot.log"));
        std::fs::write(site.dovecot(), format!("{text}info_log_path = {shown}/info.log\n"))
            .unwrap();
    });
    let logs = rig.site.root().join("log");
    let has = |name: &str, word: &str| {
        eventually(&format!("{word:?} in {name}"), || {
            let text = std::fs::read_to_string(logs.join(name)).unwrap_or_default();
            text.contains(word).then_some(())
        });
    };
    let mut smtp = rig.connect("smtp");
    smtp.reply();
    has("maillog", "postfix/smtpd[");
    let mut imap = rig.tls("imaps");
    imap.line();
    imap.imap("a", &format!("LOGIN user1@example.com {PASSWORD}"));
    has("info.log", "Info: Login: user=<user1@example.com>");
    for name in ["maillog", "info.log"] {
        std::fs::rename(logs.join(name), logs.join(format!("{name}.1"))).unwrap();
    }
    for (name, daemon) in &rig.ours {
        if ["smtpd", "imapd"].contains(name) {
            daemon.reload();
        }
    }
    imap.imap("b", "LOGOUT");
    has("info.log", "imap(user1@example.com)<");
    drop(smtp);
    has("maillog", "lost connection after CONNECT");
}
