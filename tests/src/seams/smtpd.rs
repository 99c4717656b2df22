//! Our smtpd in the place of Postfix's: Postfix's cleanup, queue manager and rewrite service, Dovecot's auth and LMTP.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use harness::certificates::Authority;
use harness::client::{Client, trust};
use harness::dovecot::Dovecot;
use harness::postfix::Postfix;
use harness::{Daemon, Scratch, ports, skip};

struct Site {
    authority: Authority,
    dovecot: Dovecot,
    postfix: Postfix,
    smtpd: Daemon,
    smtp: u16,
    submission: u16,
    smtps: u16,
    /// Last: it goes when everything that lives in it has ended.
    _scratch: Scratch,
}

/// Mail for users of example.org comes in on three ports and is delivered into their Maildirs.
#[track_caller]
fn site() -> Option<Site> {
    if !skip::can_run(true, &["postfix", "dovecot"]) {
        return None;
    }
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch.directory("ca"));
    let identity = authority.issue("mail", &["mail.example.com"]);
    let mut dovecot = Dovecot::lay(&scratch, &[("alice@example.org", "secret")], "");
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "virtual_mailbox_domains = example.org\nvirtual_transport = lmtp:unix:{}\n\
             smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\nsmtpd_tls_security_level = may\n\
             smtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\nsmtpd_tls_loglevel = 1\n\
             smtpd_tls_received_header = yes\nsmtpd_client_connection_count_limit = 0\n",
            dovecot.lmtp.display(),
            dovecot.socket("auth-client").display(),
            identity.chain.display(),
            identity.key.display(),
        ),
    );
    let [smtp, submission, smtps] = [(); 3].map(|()| ports::free());
    let submit = "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=yes \
                  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject";
    let main = std::fs::read_to_string(postfix.config().join("main.cf")).unwrap();
    scratch.write("ours/main.cf", main);
    scratch.write(
        "ours/master.cf",
        format!(
            "127.0.0.1:{smtp} inet n - n - - smtpd\n\
             127.0.0.1:{submission} inet n - n - - smtpd -o syslog_name=postfix/submission \
             -o smtpd_tls_security_level=encrypt {submit}\n\
             127.0.0.1:{smtps} inet n - n - - smtpd -o syslog_name=postfix/smtps \
             -o smtpd_tls_wrappermode=yes {submit}\n"
        ),
    );
    dovecot.start();
    postfix.start();
    let config = scratch.join("ours");
    let smtpd = Daemon::start("smtpd", &scratch.join("run"), &["-c", path(&config)]);
    Some(Site { authority, dovecot, postfix, smtpd, smtp, submission, smtps, _scratch: scratch })
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const PLAIN: &str = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==";

fn send(client: &mut Client, id: &str) {
    client.expect("MAIL FROM:<bob@example.com>", "250 2.1.0");
    client.expect("RCPT TO:<alice@example.org>", "250 2.1.5");
    client.expect("DATA", "354");
    let text = format!("From: bob@example.com\r\nMessage-ID: <{id}@test>\r\n\r\n..dots\r\n.");
    client.expect(&text, "250 2.0.0 Ok: queued as ");
}

#[test]
fn fifty_messages_are_accounted_for() {
    let Some(mut site) = site() else { return };
    let trust = trust(&site.authority.ca_file());
    let (smtp, submission, smtps) = (site.smtp, site.submission, site.smtps);
    let senders: Vec<_> = (0..5)
        .map(|sender| {
            let trust = Arc::clone(&trust);
            std::thread::spawn(move || {
                for number in 0..10 {
                    let id = format!("m{sender}.{number}");
                    let mut client = match number % 3 {
                        0 => {
                            let mut client = Client::tcp(smtp);
                            client.reply();
                            client.expect("EHLO client.example", "250");
                            client
                        }
                        1 => {
                            let mut client = Client::tcp(submission);
                            client.reply();
                            client.expect("EHLO client.example", "250");
                            client.expect("MAIL FROM:<bob@example.com>", "530 5.7.0");
                            client.expect("STARTTLS", "220 2.0.0");
                            let mut client = client.start_tls("mail.example.com", &trust);
                            client.expect("EHLO client.example", "250");
                            client.expect(PLAIN, "235 2.7.0");
                            client
                        }
                        _ => {
                            let mut client = Client::tls(smtps, "mail.example.com", &trust);
                            client.reply();
                            client.expect("EHLO client.example", "250");
                            client.expect(PLAIN, "235 2.7.0");
                            client
                        }
                    };
                    send(&mut client, &id);
                    client.expect("QUIT", "221");
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    site.postfix.log.wait_until("50 deliveries", |lines| {
        let sent = lines.iter().filter(|line| line.text.contains("status=sent")).count();
        (sent >= 50).then_some(())
    });
    let maildir = site.dovecot.maildir("alice@example.org").join("new");
    let mut found = BTreeSet::new();
    let mut received = String::new();
    for file in std::fs::read_dir(maildir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
        assert!(found.insert(id.to_owned()), "{id} twice");
        assert!(text.contains("\n.dots\n"), "{text}");
        received.push_str(&text);
    }
    assert_eq!(found.len(), 50);
    assert!(received.contains("with ESMTPSA id "), "{received}");
    assert!(received.contains("\t(using TLSv1.3 with cipher TLS_"), "{received}");
    let log = &site.smtpd.log;
    log.wait_for("client=unknown[127.0.0.1], sasl_method=PLAIN, sasl_username=alice@example.org");
    log.wait_for(
        "Anonymous TLS connection established from unknown[127.0.0.1]: TLSv1.3 with cipher",
    );
    assert!(site.smtpd.stop().success());
}

#[test]
fn what_is_pipelined_before_tls_does_not_count_inside() {
    let Some(site) = site() else { return };
    let trust = trust(&site.authority.ca_file());
    let mut client = Client::tcp(site.smtp);
    client.reply();
    client.expect("EHLO client.example", "250");
    client.raw(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n");
    assert!(client.reply().starts_with("220 2.0.0"));
    let mut client = client.start_tls("mail.example.com", &trust);
    client.expect("RCPT TO:<alice@example.org>", "503 5.5.1 Error: need MAIL command");
    site.smtpd
        .log
        .wait_for("improper command pipelining after STARTTLS from unknown[127.0.0.1]: MAIL");
}

#[test]
fn without_cleanup_nothing_is_accepted() {
    let Some(mut site) = site() else { return };
    let mut client = Client::tcp(site.smtp);
    client.reply();
    client.expect("EHLO client.example", "250");
    client.expect("MAIL FROM:<bob@example.com>", "250");
    client.expect("RCPT TO:<alice@example.org>", "250");
    client.expect("DATA", "354");
    site.postfix.stop();
    let reply = client.ask("Subject: lost\r\n\r\nbody\r\n.");
    assert!(reply.starts_with("451 4.3.0 "), "{reply}");
    let reply = client.ask("MAIL FROM:<bob@example.com>");
    let accepted = reply.starts_with("250");
    if accepted {
        let reply = client.ask("RCPT TO:<alice@example.org>");
        assert!(reply.starts_with('4'), "{reply}");
    }
}

#[test]
fn a_reload_lets_connections_go_on() {
    let Some(site) = site() else { return };
    let mut client = Client::tcp(site.smtp);
    client.reply();
    client.expect("EHLO client.example", "250");
    site.smtpd.reload();
    send(&mut client, "after-reload");
    let mut fresh = Client::tcp(site.smtp);
    assert!(fresh.reply().starts_with("220"));
    client.expect("QUIT", "221");
}

/// The default of `local_recipient_maps`: accounts of the machine, and aliases with their own syntax.
#[test]
fn accounts_and_aliases_exist() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let aliases = scratch.write("aliases", "postmaster: root\nsales: alice@example.org\n");
    let mut postfix = Postfix::lay(&scratch, "");
    let main = std::fs::read_to_string(postfix.config().join("main.cf")).unwrap();
    let port = ports::free();
    let main = main.replace("alias_maps =", &format!("alias_maps = hash:{}", aliases.display()));
    scratch.write("ours/main.cf", main);
    scratch.write("ours/master.cf", format!("127.0.0.1:{port} inet n - n - - smtpd\n"));
    postfix.start();
    let config = scratch.join("ours");
    let mut smtpd = Daemon::start("smtpd", &scratch.join("run"), &["-c", path(&config)]);
    let mut client = Client::tcp(port);
    client.reply();
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<root@example.com>", "250 2.1.5");
    client.expect("RCPT TO:<Sales@example.com>", "250 2.1.5");
    client.expect("RCPT TO:<no.such.user@example.com>", "550 5.1.1");
    client.expect("QUIT", "221");
    smtpd.stop();
}

/// Ignoring a restriction would let more mail in than the administrator wants.
#[test]
fn what_cannot_be_obeyed_is_refused_with_its_line() {
    for (setting, text) in [
        (
            "smtpd_recipient_restrictions = permit_mynetworks,\n  permit_tls_clientcerts",
            "main.cf:3: smtpd_recipient_restrictions: permit_tls_clientcerts needs client certificates",
        ),
        (
            "smtpd_sender_restrictions = reject_rbl_client zen.example=127",
            "main.cf:2: smtpd_sender_restrictions: reject_rbl_client needs the domain of a DNS list",
        ),
        (
            "smtpd_data_restrictions = check_policy_service nowhere",
            "main.cf:2: smtpd_data_restrictions: check_policy_service needs a server",
        ),
        ("smtpd_recipient_restrictions = perimt_mynetworks", "did you mean permit_mynetworks?"),
        ("smtpd_proxy_filter = 127.0.0.1:10025", "main.cf:2: smtpd_proxy_filter"),
        ("smtpd_relay_restrictions = permit", "nothing forbids relaying"),
        ("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = cyrus", "Cyrus SASL is not supported"),
        ("reject_code = 250", "reject_code: 250 is no reply code of a rejection"),
    ] {
        let scratch = Scratch::new();
        scratch.write("ours/main.cf", format!("compatibility_level = 3.6\n{setting}\n"));
        scratch
            .write("ours/master.cf", format!("127.0.0.1:{} inet n - n - - smtpd\n", ports::free()));
        let config = scratch.join("ours");
        let (status, said) =
            Daemon::refused("smtpd", &scratch.join("run"), &["-c", path(&config), "--check"]);
        assert_eq!(status.code(), Some(78), "{setting}: {said}");
        assert!(said.contains(text), "{setting}: {said}");
    }
}
