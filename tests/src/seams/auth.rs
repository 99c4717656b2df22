//! Our authd in the place of Dovecot's, under Postfix's smtpd and under Dovecot's own login processes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use harness::client::Client;
use harness::daemon::Daemon;
use harness::dovecot::Dovecot;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::{Log, PrivateHost, Scratch, skip};

const ROUNDS: usize = 50;

/// The sockets of `service auth`, off for Dovecot.
const OFF: &str = "\
service auth {
  unix_listener auth-client {
    mode = 0
  }
  unix_listener auth-login {
    mode = 0
  }
  unix_listener auth-master {
    mode = 0
  }
  unix_listener auth-userdb {
    mode = 0
  }
  unix_listener login/login {
    mode = 0
  }
  unix_listener token-login/tokenlogin {
    mode = 0
  }
}
";

/// Without the waits for who guesses passwords.
const QUICK: &str = "\
auth_failure_delay = 0
auth_verbose = yes
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
";

const PLAIN: &str = "AHVzZXJAZXhhbXBsZS5vcmcAc2VjcmV0"; // user@example.org, secret
const WRONG: &str = "AHVzZXJAZXhhbXBsZS5vcmcAd3Jvbmc="; // user@example.org, wrong

fn authd(scratch: &Scratch, config: &str) -> Daemon {
    let path = scratch.write("authd/dovecot.conf", config);
    Daemon::start("authd", &scratch.directory("authd"), &["-c", path.to_str().unwrap()])
}

#[test]
fn postfix_logs_in_through_our_authd() {
    if !skip::can_run(true, &["postfix", "dovecot"]) {
        return;
    }
    let scratch = Scratch::new();
    let boxes = scratch.directory("virtual");
    std::fs::set_permissions(&boxes, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = private/auth\n\
             smtpd_tls_auth_only = no\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
             in_flow_delay = 0\nvirtual_mailbox_domains = virt.example\nvirtual_mailbox_base = {}\n\
             virtual_mailbox_maps = inline:{{{{anna@virt.example = anna/}}}}\n\
             virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_minimum_uid = 1\n",
            boxes.display()
        ),
    );
    let spool = postfix.queue().join("private/auth");
    let listener = format!(
        "{QUICK}service auth {{\n  unix_listener {} {{\n    mode = 0660\n    \
         user = postfix\n    group = postfix\n  }}\n}}\n",
        spool.display()
    );
    let dovecot = Dovecot::lay(&scratch, &[("user@example.org", "secret")], &listener);
    postfix.start(); // makes private/
    let authd = authd(&scratch, &std::fs::read_to_string(dovecot.config()).unwrap());
    for round in 0..ROUNDS {
        let mut client = Client::tcp(postfix.port);
        client.reply();
        let ehlo = client.expect("EHLO client.example", "250");
        assert!(ehlo.contains("AUTH PLAIN LOGIN"), "{ehlo}");
        if round % 10 == 0 {
            client.expect(&format!("AUTH PLAIN {WRONG}"), "535 5.7.8");
        }
        if round % 2 == 0 {
            client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
        } else {
            client.expect("AUTH LOGIN", "334 VXNlcm5hbWU6");
            client.expect("dXNlckBleGFtcGxlLm9yZw==", "334 UGFzc3dvcmQ6");
            client.expect("c2VjcmV0", "235");
        }
        client.expect("MAIL FROM:<user@example.org>", "250");
        client.expect("RCPT TO:<anna@virt.example>", "250");
        client.expect("DATA", "354");
        client.expect(&format!("Subject: {round}\r\n\r\nbody\r\n."), "250");
        client.expect("QUIT", "221");
    }
    let new = boxes.join("anna/new");
    eventually("all of them in the mailbox", || {
        (std::fs::read_dir(&new).map_or(0, Iterator::count) == ROUNDS).then_some(())
    });
    let subjects: BTreeSet<usize> = std::fs::read_dir(&new)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .map(|text| {
            text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(subjects, (0..ROUNDS).collect());
    let used = "sasl_method=PLAIN, sasl_username=user@example.org";
    postfix.log.wait_until("the logins", |lines| {
        let logins = lines.iter().filter(|line| line.text.contains(used)).count();
        (logins == ROUNDS / 2).then_some(())
    });
    authd.log.wait_for("passwd-file(user@example.org,127.0.0.1): Password mismatch");
    postfix.stop();
}

#[test]
fn dovecots_own_programs_work_on_our_authd() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let scratch = Scratch::new();
    let ours = Dovecot::lay(&scratch, &[("user@example.org", "secret")], QUICK);
    let config = std::fs::read_to_string(ours.config()).unwrap();
    let mut dovecot =
        Dovecot::lay(&scratch, &[("user@example.org", "secret")], &format!("{QUICK}{OFF}"));
    // the ports of the second one are the ones that count
    let _ = ours;
    dovecot.start();
    let authd = authd(&scratch, &config);
    for round in 0..ROUNDS / 5 {
        if round % 4 == 3 {
            authd.reload();
        }
        let mut imap = Client::tcp(dovecot.imap);
        imap.line();
        let answer = imap.imap("a", "LOGIN user@example.org wrong");
        assert!(answer.last().unwrap().contains("AUTHENTICATIONFAILED"), "{answer:?}");
        let answer = imap.imap("b", "LOGIN user@example.org secret");
        assert!(answer.last().unwrap().starts_with("b OK"), "{answer:?}");
        let answer = imap.imap("c", "SELECT INBOX");
        assert!(answer.last().unwrap().starts_with("c OK"), "{answer:?}");
        let mut pop3 = Client::tcp(dovecot.pop3);
        pop3.line();
        pop3.send("USER user@example.org");
        assert_eq!(pop3.line(), "+OK");
        pop3.send("PASS secret");
        assert_eq!(pop3.line(), "+OK Logged in.");
        pop3.send("QUIT");
        assert_eq!(pop3.line(), "+OK Logging out.");
        let mut lmtp = Client::unix(&dovecot.lmtp);
        lmtp.reply();
        lmtp.expect("LHLO client.example", "250");
        lmtp.expect("MAIL FROM:<>", "250");
        lmtp.expect("RCPT TO:<user@example.org>", "250");
        lmtp.expect("DATA", "354");
        lmtp.expect("Subject: x\r\n\r\nbody\r\n.", "250");
    }
    let shown = dovecot.doveadm(&["auth", "test", "user@example.org", "secret"]);
    assert!(shown.contains("auth succeeded"), "{shown}");
    assert!(dovecot.doveadm(&["user", "user@example.org"]).contains("uid\t5000"));
    assert_eq!(dovecot.doveadm(&["mailbox", "list", "-u", "user@example.org"]), "INBOX\n");
}

/// PAM and shadow as on a real host, with users and services that only this test sees: authd runs in a
/// mount namespace of its own.
#[test]
fn pam_is_asked_by_root_and_answers_through_us() {
    if !skip::can_run(true, &["unshare"]) {
        return;
    }
    let scratch = Scratch::new();
    let host = PrivateHost::lay(&scratch, "host");
    let run = scratch.join("run");
    let config = format!(
        "base_dir = {}\nauth_username_format = %Ln\nauth_verbose = yes\nauth_failure_delay = 0\n\
         auth_mechanisms = plain login\npassdb {{\n  driver = pam\n}}\nuserdb {{\n  driver = passwd\n}}\n\
         service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n",
        run.display()
    );
    let path = scratch.write("authd/dovecot.conf", config);
    let directory = scratch.directory("authd");
    let arguments = ["-c", path.to_str().unwrap()];
    let authd = Daemon::start_with("authd", &directory, &arguments, Log::default(), |command| {
        host.enter(command);
    });
    let mut client = Client::unix(&run.join("auth-client"));
    while client.line() != "DONE" {}
    client.raw(b"VERSION\t1\t2\nCPID\t1\n");
    let mut id = 0;
    let mut ask = |user: &str, password: &str| {
        id += 1;
        let response = crate::compliance::auth::base64(format!("\0{user}\0{password}").as_bytes());
        client.raw(
            format!("AUTH\t{id}\tPLAIN\tservice=imap\trip=192.0.2.9\tresp={response}\n").as_bytes(),
        );
        client.line().split('\t').skip(2).collect::<Vec<_>>().join(" ")
    };
    for (user, password, prefix, answer) in [
        ("info", "secret", "OK", "user=info"),
        ("Info@example.com", "secret", "OK", "user=info original_user=Info@example.com"),
        ("info", "wrong", "FAIL", "user=info"),
        ("nobody-here", "secret", "FAIL", "user=nobody-here"),
        ("locked", "secret", "FAIL", "user=locked"),
        ("old", "secret", "FAIL", "user=old code=pass_expired reason=Password expired"),
        ("must", "secret", "FAIL", "user=must code=pass_expired reason=Password expired"),
    ] {
        assert_eq!(ask(user, password), answer, "{prefix} {user}\n{}", authd.log.text());
    }
    for wanted in [
        "pam(info,192.0.2.9): pam_authenticate() failed: Authentication failure (Password mismatch?)",
        "pam(must,192.0.2.9): pam_acct_mgmt() failed: Authentication token is no longer valid; new one required",
    ] {
        let line = authd.log.wait_for(wanted);
        assert!(line.contains("auth-worker("), "{line}");
    }
    let mut userdb = Client::unix(&run.join("auth-userdb"));
    userdb.line();
    userdb.line();
    userdb.raw(b"VERSION\t1\t1\nUSER\t1\tinfo@example.com\tservice=lmtp\n");
    assert_eq!(
        userdb.line(),
        "USER\t1\tinfo\tsystem_groups_user=info\tuid=4003\tgid=4003\thome=/home/info"
    );
}
