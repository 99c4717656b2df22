//! The files that Debian ships are read without an error, and every setting in them has a row in the register.

use std::path::Path;

use ::config::files::{Disk, Memory};
use ::config::{Problems, dovecot, opendkim, postfix, register};

/// Each `name = value` that a shipped file sets or shows in a comment.
fn shown(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let (name, _) = line.split_once('=')?;
        let name = name.trim_end();
        let plain = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        plain.then_some(name)
    })
}

#[test]
fn postfix_files_are_read_and_every_name_is_registered() {
    if !harness::skip::can_run(false, &["postconf"]) {
        return;
    }
    let shipped =
        |name: &str| std::fs::read_to_string(Path::new("/usr/share/postfix").join(name)).unwrap();
    for main in ["main.cf.dist", "main.cf.debian", "main.cf.tls"] {
        let text = shipped(main);
        let files = Memory::with([
            ("/p/main.cf", text.as_str()),
            ("/p/master.cf", shipped("master.cf.dist").as_str()),
            ("/etc/mailname", "example.com\n"),
        ]);
        let mut problems = Problems::default();
        let host = postfix::Host::read(&files, "/p".as_ref(), &mut problems);
        // Debian's template has words that its postinst fills in.
        let template: Vec<String> =
            problems.iter().map(ToString::to_string).filter(|line| !line.contains("__")).collect();
        assert_eq!(template, Vec::<String>::new(), "{main}");
        for name in host.main().names().into_iter().chain(shown(&text)) {
            assert!(
                register::find(postfix::FACTS, name).is_some() || ["defaults"].contains(&name),
                "{main}: {name} is not registered"
            );
        }
    }
    let mut problems = Problems::default();
    let host = postfix::Host::read(&Disk, "/etc/postfix".as_ref(), &mut problems);
    assert_eq!(problems.to_string(), "");
    assert!(host.services().count() > 25);
}

#[test]
fn dovecot_files_are_read_and_every_name_is_registered() {
    if !harness::skip::can_run(false, &["doveconf"]) {
        return;
    }
    let mut problems = Problems::default();
    let config = dovecot::Config::read(&Disk, "/etc/dovecot/dovecot.conf".as_ref(), &mut problems);
    assert_eq!(problems.to_string(), "");
    assert_eq!(
        config.global().get(dovecot::MAIL_LOCATION, &mut problems),
        "mbox:~/mail:INBOX=/var/mail/%u"
    );
    // What the files show in comments too: with the comments taken off, no name may be unknown.
    for entry in std::fs::read_dir("/etc/dovecot/conf.d").unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for name in shown(&text) {
            let last = |fact: &register::Fact| fact.name.rsplit('/').next() == Some(name);
            let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let known = dovecot::FACTS.iter().any(last)
                || dovecot::FACTS.iter().any(|fact| fact.name == format!("plugin/{numbered}"));
            assert!(known, "{}: {name} is not registered", path.display());
        }
    }
}

#[test]
fn opendkim_conf_is_read_and_every_name_is_registered() {
    if !harness::skip::can_run(false, &["opendkim"]) {
        return;
    }
    let mut problems = Problems::default();
    let config = opendkim::Config::read(&Disk, "/etc/opendkim.conf".as_ref(), &mut problems);
    assert_eq!(problems.to_string(), "");
    assert_eq!(
        config.value("Canonicalization").map(|entry| entry.value.as_str()),
        Some("relaxed/simple")
    );
}
