//! dovecot.conf in the language of 2.4: ours, and what Debian 13's doveconf makes of it.

use std::path::{Path, PathBuf};

use ::config::Problems;
use ::config::dovecot::{Config, Section};
use ::config::files::Disk;
use harness::Scratch;
use harness::modern_dovecot::ModernDovecot;
use harness::site::SAMPLES;
use serde_json::Value;

const HEAD: &str = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n";

fn read(file: &Path) -> (Config, Problems) {
    let mut problems = Problems::default();
    let config = Config::read(&Disk, file, &mut problems);
    (config, problems)
}

/// Values without the places where they stand.
fn without_places(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("at");
            // doveconf sorts them.
            for name in ["default_fields", "override_fields"] {
                if let Some(Value::String(words)) = fields.get_mut(name) {
                    let mut sorted: Vec<&str> = words.split(' ').collect();
                    sorted.sort_unstable();
                    *words = sorted.join(" ");
                }
            }
            fields.values_mut().for_each(without_places);
        }
        Value::Array(values) => values.iter_mut().for_each(without_places),
        _ => {}
    }
}

/// What the daemons would get: databases, namespaces, services and every setting outside a block.
fn meaning(config: &Config) -> String {
    let mut problems = Problems::default();
    let view = config.global();
    let mut services = config.services(&mut problems);
    services.retain(|service| SERVICES.contains(&service.name.as_str()));
    for service in &mut services {
        // Sockets for Dovecot's own commands.
        service.listeners.retain(|listener| !listener.name.starts_with("srv."));
        service.listeners.sort_by(|left, right| left.name.cmp(&right.name));
    }
    let mut typed = serde_json::json!({
        "namespaces": view.namespaces(&mut problems),
        "passdbs": view.passdbs(&mut problems),
        "userdbs": view.userdbs(&mut problems),
        "services": services,
        "settings": settings(config.root()),
        "plugin": view.blocks("plugin").iter().map(settings).collect::<Vec<_>>(),
    });
    without_places(&mut typed);
    assert!(!problems.has_errors(), "{problems}");
    serde_json::to_string_pretty(&typed).unwrap()
}

const SERVICES: [&str; 6] = ["auth", "imap", "imap-login", "lmtp", "pop3", "pop3-login"];

fn settings(section: &Section) -> Vec<String> {
    let names = section.settings.iter().map(|(name, _)| name.as_str());
    let unset = |name: &str| OBEYED.contains(&name);
    let mut names: Vec<&str> = names.filter(|name| unset(name)).collect();
    names.sort_unstable();
    names.dedup();
    let value = |name: &str| {
        let text = &section.value(name).unwrap().text;
        let words = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        // `doveconf -n` leaves out what holds anyway.
        let usual = ::config::register::find(::config::dovecot::FACTS, name)
            .is_some_and(|fact| fact.default == words);
        (!usual).then(|| format!("{name} = {words}"))
    };
    names.into_iter().filter_map(value).collect()
}

/// Told by the first line that differs.
#[track_caller]
fn assert_same(left: &str, right: &str, what: &str) {
    let mut after = "";
    for (left, right) in left.lines().zip(right.lines()) {
        assert_eq!(left, right, "{what}, after {after}");
        after = left;
    }
    assert_eq!(left.lines().count(), right.lines().count(), "{what}");
}

/// Settings of the files below, by the names that 2.3 has for them.
const OBEYED: [&str; 14] = [
    "auth_default_realm",
    "auth_mechanisms",
    "auth_username_format",
    "disable_plaintext_auth",
    "mail_home",
    "mail_location",
    "mail_plugins",
    "protocols",
    "quota",
    "quota_grace",
    "quota_rule",
    "ssl",
    "ssl_cert",
    "ssl_key",
];

/// A copy without the line about the host's own protocols.
fn shipped(scratch: &Scratch, dovecot: &ModernDovecot) -> PathBuf {
    for entry in std::fs::read_dir(dovecot.shipped().join("conf.d")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        scratch.write(&format!("conf.d/{}", entry.file_name().to_string_lossy()), text);
    }
    let text = std::fs::read_to_string(dovecot.shipped().join("dovecot.conf")).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("protocols.d")).collect();
    scratch.write("dovecot.conf", kept.join("\n") + "\n")
}

#[test]
fn debian_13_files_are_read_and_every_name_is_registered() {
    let Some(dovecot) = ModernDovecot::find() else { return };
    let scratch = Scratch::new();
    let file = shipped(&scratch, &dovecot);
    let (config, problems) = read(&file);
    assert_eq!(problems.to_string(), "");
    assert!(config.is_modern());
    let (view, mut problems) = (config.global(), Problems::default());
    assert_eq!(view.value("mail_location").unwrap().text, "mbox:%h/mail:INBOX=/var/mail/%u");
    assert_eq!(view.value("mail_home").unwrap().text, "/home/%n");
    assert_eq!(view.passdbs(&mut problems)[0].driver, "pam");
    assert_eq!(view.namespaces(&mut problems)[0].mailboxes.len(), 5);
    // What the files show in comments too.
    let facts = ::config::dovecot::FACTS.iter().filter(|fact| fact.until != "2.3");
    let known: Vec<&str> = facts.map(|fact| fact.name).collect();
    for entry in std::fs::read_dir(dovecot.shipped().join("conf.d")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for line in text.lines() {
            let Some((name, _)) = line.trim_start_matches(['#', ' ']).split_once(" = ") else {
                continue;
            };
            let plain = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            let listed = |known: &str| known == name || known.ends_with(&format!("_{name}"));
            assert!(
                !plain || EXAMPLES.contains(&name) || known.iter().any(|known| listed(known)),
                "{}: {name} is not registered",
                entry.path().display()
            );
        }
    }
}

/// Names of plugins, mechanisms and fields, in lists.
const EXAMPLES: &[&str] =
    &["mail_log", "notify", "plugin", "sieve", "oauthbearer", "xoauth2", "nopassword"];

/// All that a host of ours may write, said in every way.
const TRICKY: &str = "protocols = imap pop3\nauth_default_domain = example.com\nauth_mechanisms = plain login\n\
    auth_mechanisms {\n  login = no\n}\nauth_allow_cleartext = no\nauth_username_format = %{user | username | lower}\n\
    mail_driver = maildir\nmail_path = ~/Maildir\nmail_home = /h/%{user | domain}/%{user | username}\n\
    mail_plugins = quota\nmail_plugins/zlib = yes\nprotocol imap {\n  mail_plugins {\n    imap_quota = yes\n  }\n}\n\
    ssl = required\nssl_server_cert_file = /etc/passwd\nssl_server {\n  key_file = /etc/passwd\n}\n\
    passdb pam {\n  service_name = mail\n}\n\
    passdb file {\n  driver = passwd-file\n  passwd_file_path = /etc/users\n  default_password_scheme = SHA512-CRYPT\n\
      auth_username_format = %{user}\n  mechanisms_filter = plain\n  fields {\n    nologin:default = y\n  }\n}\n\
    userdb static {\n  fields {\n    gid = vmail\n    home = /h/%{user}\n    uid = vmail\n  }\n}\n\
    quota \"User quota\" {\n  driver = maildir\n  storage_size = 1G\n  storage_grace = 5M\n}\n\
    namespace inbox {\n  @mailbox_defaults = english\n  separator = /\n  mailbox \"Sent Messages\" {\n    auto = create\n\
        special_use = \\Sent\n  }\n}\nnamespace inbox {\n  mailbox Trash {\n    autoexpunge = 30d\n  }\n}\n\
    service imap-login {\n  inet_listener imap {\n    port = 1143\n    listen = 127.0.0.1\n  }\n  inet_listener imaps {\n    port = 0\n  }\n}\n\
    service auth {\n  unix_listener /x/auth {\n    mode = 0660\n  }\n}\nservice/auth/unix_listener/auth-userdb/mode = 0600\n";

#[test]
fn what_we_read_is_what_doveconf_2_4_reads() {
    let Some(dovecot) = ModernDovecot::find() else { return };
    let scratch = Scratch::new();
    let mut files =
        vec![shipped(&scratch, &dovecot), scratch.write("tricky.conf", format!("{HEAD}{TRICKY}"))];
    files.extend(SAMPLES.iter().map(|sample| modern_sample(sample)));
    for file in files {
        let printed = dovecot.doveconf(&["-n"], &file).unwrap();
        let (ours, problems) = read(&file);
        assert_eq!(problems.to_string(), "", "{}", file.display());
        let (theirs, problems) = read(&scratch.write("printed.conf", printed));
        assert_eq!(problems.to_string(), "", "{}", file.display());
        assert_same(&meaning(&ours), &meaning(&theirs), &file.display().to_string());
    }
}

/// Each is refused by both, or by none.
#[test]
fn doveconf_2_4_and_we_refuse_the_same_files() {
    let Some(dovecot) = ModernDovecot::find() else { return };
    let scratch = Scratch::new();
    for (fine, text) in [
        (true, "auth_verbose = yes\n"),
        (true, "passdb pam {\n  service_name = x\n}\n"),
        (true, "passdb x {\n  driver = pam\n  passdb_pam_service_name = x\n}\n"),
        (true, "import_environment {\n  FOO = bar\n}\n"),
        (true, "group @x y {\n  auth_verbose = yes\n}\n@x = y\n"),
        (
            true,
            "local 192.0.2.0/24 {\n  protocol imap {\n    mail_max_userip_connections = 3\n  }\n}\n",
        ),
        (true, "imap_id_send {\n  name = x\n}\n"),
        (true, "auth_failure_delay = 250 secs\nimap_max_line_length = 65536\n"),
        (true, "\"auth_verbose\" = yes\nmail_log_prefix = \"%{user}: # \"\n"),
        (true, "userdb passwd {\n  fields {\n    home:default = /x/%{user | lower}\n  }\n}\n"),
        (true, "service x {\n  executable = x\n  unix_listener y {\n    path = z\n  }\n}\n"),
        (false, "mail_location = maildir:~/Maildir\n"),
        (false, "auth_verbose = perhaps\n"),
        (false, "auth_failure_delay = soon\n"),
        (false, "passdb {\n  driver = pam\n}\n"),
        (false, "passdb = pam\n"),
        (false, "ssl_server x {\n}\n"),
        (false, "plugin {\n  quota = count\n}\n"),
        (false, "namespace a {\n  namespace b {\n  }\n}\n"),
        (false, "namespace a {\n  protocol imap {\n  }\n}\n"),
        (false, "mail_plugins {\n  quota = often\n}\n"),
        (false, "userdb_fields = uid=vmail\n"),
        (false, "service auth {\n  unix_listener x {\n    mode = 0660\n  }\n"),
        (false, "ssl = perhaps\n"),
        (false, "disable_plaintext_auth = yes\n"),
        (false, "dovecot_config_version = 2.4.0\n"),
    ] {
        let file = scratch.write("d.conf", format!("{HEAD}{text}"));
        let theirs = dovecot.doveconf(&["-n"], &file);
        let (_, ours) = read(&file);
        assert_eq!(theirs.is_ok(), fine, "doveconf says {theirs:?} to {text}");
        assert_eq!(!ours.has_errors(), fine, "we say {ours} to {text}");
    }
}

fn modern_sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/compliance/config/2.4/{name}.conf"))
}

/// Each sample, written for 2.4, is the same to the daemons as the one of 2.3.
#[test]
fn samples_written_for_2_4_are_the_samples() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    for sample in SAMPLES {
        let (old, problems) = read(&etc.join(sample).join("dovecot/dovecot.conf"));
        assert!(!problems.has_errors(), "{problems}");
        let (modern, problems) = read(&modern_sample(sample));
        assert_eq!(problems.to_string(), "");
        // 2.4 has its grace in octets where 2.3 has a tenth of the quota.
        let meaning = |config| meaning(config).replace("\"quota_grace = 10M\",", "");
        let lines = |text: String| {
            text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
        };
        assert_same(&lines(meaning(&modern)), &lines(meaning(&old)), sample);
    }
}

/// What `theoris adopt imap` puts into conf.d closes Dovecot's ports and gives our broker its socket, as `theoris adopt`
/// asks doveconf; to ourselves the ports stay what the host's own file says.
#[test]
fn the_file_of_an_adopted_plank_is_in_the_language_of_2_4_too() {
    let Some(dovecot) = ModernDovecot::find() else { return };
    let scratch = Scratch::new();
    let sample = std::fs::read_to_string(modern_sample("vps")).unwrap();
    let file = scratch.write("dovecot.conf", format!("{sample}!include_try conf.d/*.conf\n"));
    let asked = |setting: &str| {
        dovecot.doveconf(&["-h", setting], &file).map(|said| said.trim().to_owned())
    };
    let settings = ["imap-login/inet_listener/imap/port", "imap-login/inet_listener/imaps/port"];
    let ports = || settings.map(|setting| asked(&format!("service/{setting}")).unwrap());
    assert_eq!(ports(), ["143", "993"]);
    let (before, _) = read(&file);
    let ours = include_str!("2.4/99-theoris-imap.conf");
    scratch.write("conf.d/99-theoris-imap.conf", ours);
    assert_eq!(ports(), ["0", "0"]);
    assert_eq!(asked("service/auth/unix_listener/auth-master/user").unwrap(), "dovecot");
    let (after, problems) = read(&file);
    assert_eq!(problems.to_string(), "");
    assert_same(&meaning(&after), &meaning(&before), "with our file");
}
