//! dovecot.conf, ours and doveconf's.

use std::path::Path;
use std::process::Command;

use ::config::Problems;
use ::config::dovecot::{self, Config, Connection, Section};
use ::config::files::Disk;
use ::config::register::{Fact, find};
use harness::Scratch;

/// Everything that doveconf knows of a file, read by our own reader: doveconf prints what it can read.
fn doveconf(scratch: &Scratch, file: &Path, filters: &[&str]) -> Config {
    let mut command = Command::new("/usr/bin/doveconf");
    command.args(["-a", "-c"]).arg(file);
    for filter in filters {
        command.args(["-f", filter]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Secrets are not printed; ours has their paths.
    let text = String::from_utf8(output.stdout).unwrap().replace("# hidden, use -P to show it", "");
    let shown = scratch.write("doveconf", text);
    let mut problems = Problems::default();
    let config = Config::read(&Disk, &shown, &mut problems);
    assert!(!problems.has_errors(), "{problems}");
    config
}

/// A value in one form: times and sizes as numbers, lists without their blanks.
fn normal(fact: &Fact, text: &str) -> String {
    let words = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    match fact.kind {
        "time" | "size" => {
            let value = ::config::dovecot::Value {
                text: text.into(),
                file: None,
                at: ::config::Place::file("x"),
            };
            let read = ::config::dovecot::kind::normal(&value, fact);
            read.unwrap_or(words)
        }
        "mode" => text.trim_start_matches('0').to_owned(),
        _ => words,
    }
}

/// Each setting of a block has the same value in both; `path` is where the block's settings are in the register.
fn same_section(path: &str, theirs: &Section, ours: &dyn Fn(&str) -> Option<String>) {
    for (name, value) in &theirs.settings {
        let Some(fact) = find(dovecot::FACTS, &format!("{path}{name}")) else {
            panic!("{path}{name} is not registered")
        };
        if fact.kind == "file"
            || matches!(name.as_str(), "ssl_key_password" | "doveadm_password" | "doveadm_api_key")
        {
            continue;
        }
        let ours = ours(name).unwrap_or_else(|| fact.default.to_owned());
        assert_eq!(normal(fact, &ours), normal(fact, &value.text), "{path}{name}");
    }
}

#[track_caller]
fn same(scratch: &Scratch, file: &Path, connection: &Connection<'_>, filters: &[&str]) {
    let mut problems = Problems::default();
    let config = Config::read(&Disk, file, &mut problems);
    let theirs = doveconf(scratch, file, filters);
    let view = config.filter(connection);
    same_section("", theirs.root(), &|name| view.value(name).map(|value| value.text.clone()));
    for kind in ["namespace", "passdb", "userdb", "plugin"] {
        let ours = view.blocks(kind);
        // A block of plugins without a setting says nothing, and not every doveconf shows it.
        let says = |section: &&Section| kind != "plugin" || !section.settings.is_empty();
        let ours: Vec<&Section> = ours.iter().filter(says).collect();
        let theirs: Vec<&Section> = theirs.root().sections_of(kind).filter(says).collect();
        let names = |sections: &[&Section]| {
            sections.iter().map(|section| section.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&ours), names(&theirs), "{kind}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            same_section(&format!("{kind}/"), theirs, &|name| {
                ours.value(name).map(|value| value.text.clone())
            });
            for theirs in theirs.sections_of("mailbox") {
                let ours = ours
                    .sections_of("mailbox")
                    .find(|section| section.name == theirs.name)
                    .unwrap();
                same_section("namespace/mailbox/", theirs, &|name| {
                    ours.value(name).map(|value| value.text.clone())
                });
            }
        }
    }
    same_services(&config, &theirs);
}

/// The listeners of every service; those of ours without the disabled ones.
fn same_services(ours: &Config, theirs: &Config) {
    let mut problems = Problems::default();
    let (ours, theirs) = (ours.services(&mut problems), theirs.services(&mut problems));
    for theirs in theirs {
        let Some(ours) = ours.iter().find(|service| service.name == theirs.name) else {
            panic!("{}", theirs.name)
        };
        let shown = |service: &dovecot::Service| {
            let mut all: Vec<String> = service
                .listeners
                .iter()
                .map(|listener| format!("{} {:?}", listener.name, listener.kind))
                .collect();
            all.sort();
            all
        };
        assert_eq!(shown(ours), shown(&theirs), "{}", theirs.name);
        assert_eq!(
            (&ours.user, &ours.chroot, ours.process_limit, ours.client_limit, ours.enabled),
            (
                &theirs.user,
                &theirs.chroot,
                theirs.process_limit,
                theirs.client_limit,
                theirs.enabled
            ),
            "{}",
            theirs.name
        );
    }
}

#[test]
fn shipped_files_and_samples_mean_what_doveconf_says() {
    if !harness::skip::can_run(false, &["doveconf"]) {
        return;
    }
    let scratch = Scratch::new();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let mut files = vec![Path::new("/etc/dovecot/dovecot.conf").to_owned()];
    files.extend(
        harness::site::SAMPLES
            .iter()
            .map(|sample| samples.join(sample).join("dovecot/dovecot.conf")),
    );
    for file in files {
        same(&scratch, &file, &Connection::default(), &[]);
        let imap = Connection { protocol: Some("imap"), ..Connection::default() };
        same(&scratch, &file, &imap, &["protocol=imap"]);
    }
}

/// Filters, includes, continuation lines, quotes and `$name`.
#[test]
fn tricky_dovecot_conf_means_what_doveconf_says() {
    if !harness::skip::can_run(false, &["doveconf"]) {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("conf.d/20-b.conf", "mail_plugins = $mail_plugins zlib\n");
    scratch.write("conf.d/10-a.conf", "mail_plugins = quota\nlogin_greeting = \"a # b\"\n");
    let file = scratch.write(
        "dovecot.conf",
        "protocols = imap \\\n  pop3\nlisten=127.0.0.1\n!include conf.d/*.conf\n!include_try none/*.conf\n\
         auth_mechanisms = plain \\\n  login\nmail_max_userip_connections = 20\nauth_cache_ttl = 90 mins\n\
         imap_max_line_length = 128k\nlog_timestamp = '%H '\nmail_location = maildir:~/Maildir # why not\n\
         protocol imap {\n  mail_plugins = $mail_plugins imap_quota\n  imap_id_log = *\n}\n\
         protocol !pop3 {\n  imap_capability = X\n}\n\
         remote 192.0.2.0/24 {\n  mail_max_userip_connections = 40\n  protocol pop3 {\n    mail_max_userip_connections = 99\n  }\n}\n\
         remote 192.0.2.128/25 {\n  login_greeting = near\n}\n\
         local 198.51.100.1 {\n  login_greeting = here\n}\n\
         local_name *.example.com {\n  login_greeting = named\n}\n\
         plugin {\n  quota = maildir:User quota\n  quota_rule = *:storage=1G\n}\nplugin {\n  quota_rule = *:storage=2G\n}\n\
         namespace inbox {\n  inbox = yes\n  separator = /\n  mailbox \"Sent Messages\" {\n    special_use = \\Sent\n    auto = create\n  }\n}\n\
         namespace inbox {\n  mailbox Trash {\n    autoexpunge = 30d\n  }\n}\n\
         passdb {\n  driver = passwd-file\n  args = scheme=CRYPT username_format=%u /etc/users\n}\npassdb {\n  driver = pam\n}\nuserdb {\n  driver = passwd\n}\n\
         service imap-login {\n  inet_listener imap {\n    port = 0\n  }\n  inet_listener extra {\n    port = 1143\n    address = 127.0.0.1 ::1\n  }\n}\n\
         service auth {\n  unix_listener auth-userdb {\n    mode = 0640\n    group = mail\n  }\n  unix_listener /x/auth {\n    mode = 0\n  }\n}\n",
    );
    let ip = |text: &str| Some(text.parse().unwrap());
    let plain = Connection::default();
    for (connection, filters) in [
        (plain, &[][..]),
        (Connection { protocol: Some("imap"), ..plain }, &["protocol=imap"]),
        (Connection { protocol: Some("pop3"), ..plain }, &["protocol=pop3"]),
        (
            Connection { protocol: Some("imap"), remote: ip("192.0.2.7"), ..plain },
            &["protocol=imap", "remote=192.0.2.7"],
        ),
        (
            Connection { protocol: Some("pop3"), remote: ip("192.0.2.200"), ..plain },
            &["protocol=pop3", "remote=192.0.2.200"],
        ),
        (
            Connection { protocol: Some("imap"), local: ip("198.51.100.1"), ..plain },
            &["protocol=imap", "local=198.51.100.1"],
        ),
        (
            Connection { protocol: Some("imap"), local_name: Some("mx.example.com"), ..plain },
            &["protocol=imap", "lname=mx.example.com"],
        ),
    ] {
        same(&scratch, &file, &connection, filters);
    }
}
