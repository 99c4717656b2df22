use super::super::tree::{Config, Section};
use crate::Problems;
use crate::files::Memory;

/// Dovecot 2.4.0, since 2.4.1 has one default of its own, which has its own test.
const HEAD: &str = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n";

fn read(text: &str) -> (Config, String) {
    let files = Memory::with([
        ("/d", text.to_owned()),
        ("/secret", "s3cret".to_owned()),
        ("/more/a.conf", "auth_verbose = yes\n".to_owned()),
    ]);
    let mut problems = Problems::default();
    let config = Config::read(&files, "/d".as_ref(), &mut problems);
    (config, problems.to_string())
}

/// What a tree means, without places and without the names of databases, which 2.3 has not.
fn meaning(section: &Section, depth: usize) -> String {
    let mut names: Vec<&str> = section.settings.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut lines = String::new();
    for name in names {
        let text = &section.value(name).unwrap().text;
        lines.push_str(&format!("{:depth$}{name} = {text}\n", ""));
    }
    for block in &section.sections {
        let name = block.name.as_deref().filter(|_| !block.kind.ends_with("db"));
        lines.push_str(&format!("{:depth$}{} {}\n", "", block.kind, name.unwrap_or_default()));
        lines.push_str(&meaning(block, depth + 2));
    }
    lines
}

#[track_caller]
fn same(modern: &str, old: &str) {
    let (ours, problems) = read(&format!("{HEAD}{modern}\n"));
    assert_eq!(problems, "", "{modern}");
    let (theirs, problems) = read(&format!("{old}\n"));
    assert_eq!(problems, "", "{old}");
    assert_eq!(meaning(ours.root(), 0), meaning(theirs.root(), 0), "{modern}");
    let (before, _) = read(HEAD);
    assert_ne!(meaning(ours.root(), 0), meaning(before.root(), 0), "{modern}");
}

/// Each pair: lines of 2.4, and the lines of 2.3 that mean the same.
#[test]
fn settings_of_2_4_are_those_of_2_3() {
    for (modern, old) in [
        ("auth_allow_cleartext = yes", "disable_plaintext_auth = no"),
        ("auth_default_domain = x.example", "auth_default_realm = x.example"),
        ("auth_verbose = yes", "auth_verbose = yes"),
        ("auth_username_format = %{user | username | lower}", "auth_username_format = %Ln"),
        ("ssl_server_cert_file = /c", "ssl_cert = </c"),
        ("ssl_server_key_file = /k", "ssl_key = </k"),
        ("ssl_server {\n key_file = /k\n}", "ssl_key = </k"),
        ("ssl_server_prefer_ciphers = server", "ssl_prefer_server_ciphers = yes"),
        ("mail_driver = maildir\nmail_path = ~/Maildir", "mail_location = maildir:~/Maildir"),
        (
            "mail_driver = maildir\nmail_path = %{home}/M\nmail_inbox_path = /v/%{user}\nmail_index_path = /i\n\
             mail_control_path = /c\nmailbox_list_layout = fs\nmailbox_subscriptions_filename = s\nmailbox_list_utf8 = yes",
            "mail_location = maildir:%h/M:INBOX=/v/%u:INDEX=/i:CONTROL=/c:LAYOUT=fs:SUBSCRIPTIONS=s:UTF-8",
        ),
        (
            "mail_driver = maildir\nmail_path = ~/M\nprotocol pop3 {\n mail_path = ~/P\n}",
            "mail_location = maildir:~/M\nprotocol pop3 {\n mail_location = maildir:~/P\n}",
        ),
        ("imap_id_send {\n vendor = x\n}", "imap_id_send = name * vendor x"),
        ("imap_capability {\n XA = yes\n}", "imap_capability = +XA"),
        ("imap_capability = IMAP4rev1 XA", "imap_capability = IMAP4rev1 XA"),
        ("pop3_uidl_format = %{guid}", "pop3_uidl_format = %g"),
        (
            "quota \"User quota\" {\n driver = maildir\n storage_size = 1G\n message_count = 9\n storage_grace = 1M\n}",
            "plugin {\n quota = maildir:User quota\n quota_rule = *:storage=1G:messages=9\n quota_grace = 1M\n}",
        ),
        (
            "quota x {\n name = y\n}\nquota_storage_size = 5",
            "plugin {\n quota = count:y\n quota_rule = *:storage=5B\n quota_grace = 10M\n}",
        ),
    ] {
        same(modern, old);
    }
    for (modern, old) in DATABASES.iter().chain(NAMESPACES).chain(SERVICES) {
        same(modern, old);
    }
}

const DATABASES: &[(&str, &str)] = &[
    ("passdb pam {\n}", "passdb {\n driver = pam\n}"),
    (
        "passdb a {\n driver = pam\n passdb_pam_service_name = %{protocol}\n passdb_pam_failure_show_msg = yes\n deny = yes\n master = yes\n\
         mechanisms_filter = plain login\n username_filter = *@x\n skip = authenticated\n result_success = continue\n\
         result_failure = return\n result_internalfail = return\n}",
        "passdb {\n driver = pam\n args = failure_show_msg=yes %s\n deny = yes\n master = yes\n\
         mechanisms = plain login\n username_filter = *@x\n skip = authenticated\n result_success = continue\n\
         result_failure = return\n result_internalfail = return\n}",
    ),
    (
        "passdb passwd-file {\n passwd_file_path = /u\n default_password_scheme = SHA512-CRYPT\n\
         auth_username_format = %{user | username}\n}",
        "passdb {\n driver = passwd-file\n args = scheme=SHA512-CRYPT username_format=%n /u\n}",
    ),
    (
        "passdb static {\n password = </secret\n fields {\n  nopassword = yes\n  nologin:default = y\n }\n}",
        "passdb {\n driver = static\n args = password=s3cret\n override_fields = nopassword=yes\n\
         default_fields = nologin=y\n}",
    ),
    (
        "userdb a {\n driver = passwd-file\n passwd_file_path = /u/%{user | domain}\n fields {\n  uid:default = vmail\n\
         home = /h/%{user}\n }\n skip = found\n result_success = continue\n result_failure = return\n\
         result_internalfail = return\n}",
        "userdb {\n driver = passwd-file\n args = /u/%d\n default_fields = uid=vmail\n override_fields = home=/h/%u\n\
         skip = found\n result_success = continue\n result_failure = return\n result_internalfail = return\n}",
    ),
    (
        "mail_driver = maildir\nuserdb static {\n allow_all_users = yes\n fields {\n  mail_path = /m/%{user}\n\
         quota_storage_size = 2G\n }\n}",
        "mail_location = maildir:\nuserdb {\n driver = static\n args = allow_all_users=yes\n\
         override_fields = quota_rule=*:storage=2G mail=maildir:/m/%u\n}",
    ),
];

const NAMESPACES: &[(&str, &str)] = &[
    (
        "namespace a {\n type = public\n inbox = yes\n prefix = x/\n separator = /\n hidden = yes\n list = children\n\
         subscriptions = no\n ignore_on_failure = yes\n order = 3\n alias_for = y\n disabled = yes\n}",
        "namespace a {\n type = public\n inbox = yes\n prefix = x/\n separator = /\n hidden = yes\n list = children\n\
         subscriptions = no\n ignore_on_failure = yes\n order = 3\n alias_for = y\n disabled = yes\n}",
    ),
    (
        "mail_driver = maildir\nnamespace p {\n mail_path = /p\n mail_control_path = /c\n}",
        "mail_location = maildir:\nnamespace p {\n location = maildir:/p:CONTROL=/c\n}",
    ),
    (
        "namespace i {\n mailbox Sent {\n  auto = subscribe\n  special_use = \\Sent\n  autoexpunge = 1d\n\
         autoexpunge_max_mails = 5\n  comment = x\n }\n mailbox t {\n  name = Trash\n }\n}",
        "namespace i {\n mailbox Sent {\n  auto = subscribe\n  special_use = \\Sent\n  autoexpunge = 1d\n\
         autoexpunge_max_mails = 5\n  comment = x\n }\n mailbox Trash {\n }\n}",
    ),
    (
        "namespace inbox {\n @mailbox_defaults = english\n}",
        "namespace inbox {\n inbox = yes\n mailbox Drafts {\n special_use = \\Drafts\n }\n mailbox Junk {\n special_use = \\Junk\n }\n\
         mailbox Sent {\n special_use = \\Sent\n }\n mailbox Trash {\n special_use = \\Trash\n }\n}",
    ),
];

const SERVICES: &[(&str, &str)] = &[
    (
        "service x {\n chroot = c\n client_limit = 2\n executable = e\n extra_groups = g\n group = gg\n\
         privileged_group = pg\n process_limit = 3\n process_min_avail = 4\n protocol = imap\n\
         restart_request_count = 5\n user = u\n}",
        "service x {\n chroot = c\n client_limit = 2\n executable = e\n extra_groups = g\n group = gg\n\
         privileged_group = pg\n process_limit = 3\n process_min_avail = 4\n protocol = imap\n\
         service_count = 5\n user = u\n}",
    ),
    (
        "service x {\n restart_request_count = unlimited\n unix_listener a {\n  mode = 0660\n  user = u\n  group = g\n }\n\
         fifo_listener b {\n  mode = 0660\n  user = u\n  group = g\n }\n\
         inet_listener c {\n  port = 1143\n  ssl = yes\n  haproxy = yes\n  listen = 127.0.0.1 ::1\n }\n}",
        "service x {\n service_count = 0\n unix_listener a {\n  mode = 0660\n  user = u\n  group = g\n }\n\
         fifo_listener b {\n  mode = 0660\n  user = u\n  group = g\n }\n\
         inet_listener c {\n  port = 1143\n  ssl = yes\n  haproxy = yes\n  address = 127.0.0.1 ::1\n }\n}",
    ),
    (
        "service x {\n unix_listener a {\n  path = /p\n }\n fifo_listener b {\n  path = /f\n }\n}\nservice/x/unix_listener/q/mode = 0600",
        "service x {\n unix_listener q {\n  mode = 0600\n }\n unix_listener /p {\n }\n fifo_listener /f {\n }\n}",
    ),
];

#[test]
fn lists_add_up_from_the_file_to_its_blocks() {
    let (config, problems) = read(&format!(
        "{HEAD}mail_plugins = quota\nprotocols {{\n imap = yes\n pop3 = no\n}}\nprotocol imap {{\n mail_plugins {{\n  imap_quota = yes\n }}\n}}\n\
         protocol lmtp {{\n mail_plugins = acl\n}}\nmail_plugins {{\n zlib = yes\n}}\nmail_plugins/quota = no\n"
    ));
    assert_eq!(problems, "");
    insta::assert_snapshot!(meaning(config.root(), 0), @r"
    mail_plugins = zlib
    protocols = imap
    protocol imap
      mail_plugins = zlib imap_quota
    protocol lmtp
      mail_plugins = acl
    ");
}

#[test]
fn what_stands_around_settings_is_read() {
    same(
        "!include /more/*.conf\n!include_try /none\n\"mail_gid\" = $SET:mail_temp_dir x\nmail_temp_dir = /a \\\n  b # c",
        "auth_verbose = yes\nmail_gid = /tmp x\nmail_temp_dir = /a b",
    );
    same(
        "group @auth strict {\n auth_verbose = yes\n auth_failure_delay = 9s\n}\nauth_verbose = no\n@auth = strict",
        "auth_verbose = yes\nauth_failure_delay = 9s\nauth_verbose = no",
    );
    same(
        "local 192.0.2.1 {\n ssl_server_cert_file = c\n}\nlocal_name x.example {\n ssl_server_cert_file = /b\n}\n\
         remote 10.0.0.0/8 {\n auth_allow_cleartext = yes\n}",
        "local 192.0.2.1 {\n ssl_cert = </c\n}\nlocal_name x.example {\n ssl_cert = </b\n}\n\
         remote 10.0.0.0/8 {\n disable_plaintext_auth = no\n}",
    );
}

#[test]
fn auth_userdb_has_dovecots_group_from_2_4_1_on() {
    let group = |version: &str, more: &str| {
        let text =
            format!("dovecot_config_version = {version}\ndovecot_storage_version = 2.4.0\n{more}");
        let (config, problems) = read(&text);
        assert_eq!(problems, "");
        let mut problems = Problems::default();
        let service = config.service("auth", &mut problems).unwrap();
        let listener = service.listeners.iter().find(|known| known.name == "auth-userdb").unwrap();
        format!("{:?} {}", listener.kind, service.at.is_some())
    };
    assert!(group("2.4.0", "").contains("group: \"\" } false"));
    assert!(group("2.4.1", "").contains("group: \"dovecot\" } false"));
    let more = "default_internal_group = g\nservice auth {\n unix_listener auth-userdb {\n  mode = 0600\n }\n}\n";
    assert!(group("2.4.1", more).contains("mode: 384"));
    assert!(group("2.4.1", more).contains("group: \"g\" } true"));
}

#[test]
fn mistakes_are_told_all_at_once() {
    let text = "dovecot_config_version = 2.5.0\n\
        mail_location = maildir:~/Maildir\nssl_cert = </c\ndisable_plaintext_auth = yes\nauth_verbos = yes\n\
        auth_verbose = perhaps\nauth_failure_delay = soon\nssl_server_cert_file = <c\nfavourite_colour = blue\n\
        passdb {\n driver = pam\n}\npassdb x {\n driver = passwd-file\n args = /u\n service_name = y\n}\nnamespace inbox {\n location = x\n mailbox {\n }\n}\n\
        plugin {\n quota_rule = *:storage=1G\n}\nservice auth {\n service_count = 1\n protocol imap {\n }\n}\n\
        mail_home = /home/%{user | crypt}\nmail_uid = %{username}\nmail_plugins {\n quota = often\n}\nuserdb_fields = x\n\
        passdb = x\nssl {\n}\nquoda x {\n}\n@nothing = here\nmail_temp_dir = $SET:nonsense\nlocal somewhere {\n}\n\
        namespace a {\n namespace b {\n }\n}\nservice x {\n inet_listener y {\n  address = 127.0.0.1\n }\n";
    insta::assert_snapshot!(read(text).1);
    let old = "mail_path = ~/Maildir\nssl_server_key_file = /k\npassdb {\n driver = pam\n service_name = x\n}\nauth_allow_cleartext = no\n";
    insta::assert_snapshot!(read(old).1);
    insta::assert_snapshot!(read("ssl = yes\ndovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n").1, @"/d:2: dovecot_config_version must be the first setting; move it to the top of the file");
}

#[test]
fn settings_that_are_not_obeyed_are_told_by_their_line() {
    let report = |text: &str| {
        let (config, read) = read(&format!("{HEAD}{text}"));
        assert_eq!(read, "");
        let mut problems = Problems::default();
        config.report_unsupported(&["mail", "auth", "ssl"], &mut problems);
        problems.to_string()
    };
    let settings = "acl_driver = vfile\npassdb pam {\n session = yes\n}\nmail_alt_path = /x\nssl_server_ca_file = /ca\nmail_cache_path = /i\n";
    insta::assert_snapshot!(report(settings), @r"
    /d:5: passdb_pam_session: accounts get no PAM session; remove the line, or keep this service with Dovecot for now
    /d:7: mail_alt_path: only Maildir is served; remove the line, or keep this service with Dovecot for now
    /d:8: warning: ssl_server_ca_file: clients are never asked for a certificate
    ");
    assert!(
        report(&format!("{settings}mail_plugins {{\n acl = yes\n}}\n"))
            .contains("/d:3: acl_driver: ")
    );
    assert_eq!(report("passdb pam {\n session = no\n}\n"), "");
    insta::assert_snapshot!(report("maildir {\n mail_path = /x\n}\nnamespace a {\n mail_home = /x\n mail_plugins {\n  acl = yes\n }\n}\n"), @r"
    /d:4: mail_path: not obeyed inside a maildir block; write it outside the block
    /d:7: mail_home: not obeyed inside a namespace block; write it outside the block
    /d:9: mail_plugins: not obeyed inside a namespace block; write it outside the block
    ");
}

proptest::proptest! {
    #[test]
    fn any_lines_end(lines in proptest::collection::vec(
        "(mail_plugins|passdb|service|namespace|quota|@a|group|protocol|inet_listener|userdb_fields|mail_path|ssl_server|!include|[a-z/]{0,8})( [@a-z]{1,4})?( = [%{}|$a-zA-Z:\"<]{0,12}| \\{)?|\\}",
        0..30,
    )) {
        let _ = read(&format!("{HEAD}{}\n", lines.join("\n")));
    }
}
