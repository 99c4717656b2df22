//! Broken files, each refused with its place and what to write instead. The messages are kept in a snapshot.

use std::fmt::Write as _;

use ::config::files::Memory;
use ::config::theoris::Theoris;
use ::config::{Problems, dovecot, opendkim, postfix};

/// main.cf files that Postfix, too, would stumble over.
const MAIN: &[&str] = &[
    "myhostname mail.example.com\n",
    "= x\n",
    "myhostname = a\0b\n",
    "mydomain = $myorigin\nmyorigin = $mydomain\nmydestination = $mydomain\n",
    "mydestination = $a$a\na = $b$b\nb = $c$c\nc = $d$d\nd = $e$e\ne = $f$f\nf = $g$g\ng = $h$h\nh = $i$i\ni = $j$j\nj = $k$k\nk = $l$l\n\
     l = $m$m\nm = $n$n\nn = $o$o\no = $p$p\np = $q$q\nq = xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
    "mydestination = ${myhostname\n",
    "mydestination = $ x\n",
    "mydestination = ${{a} ~ {b} ? {c}}\n",
    "compatibility_level = new\nmyorigin = ${{$compatibility_level} <level {3} ? {a}:{b}}\n",
    "soft_bounce = maybe\n",
    "message_size_limit = 10M\n",
    "queue_run_delay = soon\n",
    "smtpd_tls_security_level = encypt\n",
    "smtpd_recipient_limit = many\n",
    "mynetworks = 127.0.0.0/8, 192.168.1.0/16\n",
    "mynetworks = 127.0.0.0/40\n",
    "alias_maps = /etc/aliases\n",
    "mydestinaton = example.com\nsmtpd_tls_cert_fil = /x\n",
    "  myhostname = indented\n",
    "smtpx_destination_rate_delay = 1s\nsmtp_destination_rate_dleay = 1s\n",
    "myorigin = /etc/none\n",
];

/// master.cf files.
const MASTER: &[&str] = &[
    "smtp inet n - n - smtpd\n",
    "smtp net n - n - - smtpd\n",
    "smtp inet y - n - - smtpd\n",
    "smtp inet n - maybe - - smtpd\n",
    "pickup unix n - n often 1 pickup\n",
    "smtp inet n - n - ten smtpd\n",
    "smtp inet n - n - - smtpd\n  -o smtpd_tls_auth_only = yes\n",
    "smtp inet n - n - - smtpd\n  -o\n",
    "smtp inet n - n - - smtpd\n  -o smtpd_tls_auth_onyl=yes\n  -o smtpd_timeout=x\n",
    "smtp inet n - n - - smtpd\nsmtp inet n - n - 1 postscreen\n",
];

/// dovecot.conf files.
const DOVECOT: &[&str] = &[
    "service auth {\n  unix_listener x {\n    mode = 0660\n  }\n",
    "}\n",
    "mail_location maildir:~/Maildir\n",
    "login_greeting = \"Hello\nssl = yes\n",
    "ssl = perhaps\n",
    "service auth {\n  unix_listener x {\n    mode = 0999\n  }\n}\n",
    "auth_failure_delay = 2\n",
    "imap_max_line_length = long\n",
    "mail_max_userip_connections = -1\n",
    "disable_plaintext_auth = 2\n",
    "ssl_min_protocl = TLSv1.2\nmail_debgu = yes\n",
    "servce auth {\n}\n",
    "service auth {\n  unix_listner x {\n  }\n  user = a\n  usr = b\n}\n",
    "namespace inbox {\n  mailbox Sent {\n    auto = sometimes\n  }\n}\n",
    "mail_plugins = $mail_plugin quota\n",
    "!include none.conf\n",
    "!include dovecot.conf\n",
    "ssl_protocols = !SSLv3 TLSv9\n",
    "remote 10.0.0.0/99 {\n}\n",
    "protocol {\n}\n",
    "dovecot_config_version = 2.4.1\nmail_driver = maildir\n",
    "mail_driver = maildir\n",
    "a {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\na {\n",
    "ssl = yes\0\n",
    "auth_mechanisms = plain \\",
];

/// opendkim.conf files.
const OPENDKIM: &[&str] = &[
    "Domian example.com\n",
    "Selector\n",
    "Syslog perhaps\nMaximumHeaders lots\n",
    "Include /none\n",
];

/// theoris.toml files.
const THEORIS: &[&str] = &[
    "[smtpd]\nmetric = \"127.0.0.1:1\"\n",
    "[smtpd]\nstop-grace = \"5 s\"\n",
    "[smtpd\ndebug = true\n",
    "smtpd = 3\n",
];

fn read(product: &str, text: &str) -> Problems {
    let mut problems = Problems::default();
    let main = if product == "main.cf" { text } else { "" };
    let master = if product == "master.cf" { text } else { "smtp unix - - n - - smtp\n" };
    let files = Memory::with([
        ("main.cf", main),
        ("master.cf", master),
        ("dovecot.conf", text),
        ("opendkim.conf", text),
        ("theoris.toml", text),
    ]);
    match product {
        "main.cf" | "master.cf" => drop(postfix::Host::read(&files, "".as_ref(), &mut problems)),
        "dovecot.conf" => drop(dovecot::Config::read(&files, product.as_ref(), &mut problems)),
        "opendkim.conf" => drop(opendkim::Config::read(&files, product.as_ref(), &mut problems)),
        _ => drop(Theoris::read(&files, (product.as_ref(), true), [], &[], &mut problems)),
    }
    problems
}

#[test]
fn every_broken_file_is_told_with_its_line_and_what_to_write() {
    let mut messages = String::new();
    let mut count = 0;
    let sets: [(&str, &[&str]); 5] = [
        ("main.cf", MAIN),
        ("master.cf", MASTER),
        ("dovecot.conf", DOVECOT),
        ("opendkim.conf", OPENDKIM),
        ("theoris.toml", THEORIS),
    ];
    for (product, texts) in sets {
        for text in texts {
            let problems = read(product, text);
            assert!(!problems.is_empty(), "{product}: nothing said of {text:?}");
            assert!(
                problems.iter().all(|problem| problem.place.is_some()),
                "{product}: {text:?}: {problems}"
            );
            let first = text.lines().next().unwrap_or_default().escape_debug();
            let _ = writeln!(messages, "{product}: {first}\n{problems}");
            count += 1;
        }
    }
    assert!(count >= 40, "only {count}");
    insta::assert_snapshot!(messages);
}

/// Bounded: huge lines, many lines, deep nesting and loops end quickly and say what is wrong.
#[test]
fn huge_and_hostile_files_end_with_a_clear_word() {
    let line = |text: &str, count: usize| text.repeat(count);
    for (product, text, word) in [
        (
            "main.cf",
            format!("mynetworks = {}\n", line("x", 3 << 20)),
            "a line of more than 1024 KiB",
        ),
        ("main.cf", line("x\n", 500_000), "more than 200 problems"),
        ("main.cf", format!("myorigin = {}\n", line("${a?{", 50_000)), "without its end"),
        (
            "main.cf",
            format!("myorigin = {}x{}\n", line("${mydomain?{", 5000), line("}}", 5000)),
            "more than 100 deep",
        ),
        ("dovecot.conf", line("a {\n", 300_000), "blocks nest more than 16 deep"),
        (
            "dovecot.conf",
            format!("ssl_cert = {}\n", line("x", 2 << 20)),
            "a line of more than 1024 KiB",
        ),
        (
            "dovecot.conf",
            format!(
                "mail_plugins = x\n{}",
                line("mail_plugins = $mail_plugins $mail_plugins\n", 40)
            ),
            "a value of more than",
        ),
        ("master.cf", line("{", 900_000), "1 fields"),
        ("opendkim.conf", line("x\n", 500_000), "more than 200 problems"),
    ] {
        let problems = read(product, &text);
        assert!(
            problems.to_string().contains(word),
            "{product}: {word}: {:.300}",
            problems.to_string()
        );
    }
}
