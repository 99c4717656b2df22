use super::*;
use crate::settings::{Rule, UserDriver};
use ::config::files::Memory;

fn read(text: &str) -> (Settings, String) {
    let files = Memory::with([("/d.conf", text)]);
    let mut problems = Problems::default();
    let config = Config::read(&files, "/d.conf".as_ref(), &mut problems);
    let settings = super::read(&config, &mut problems);
    (settings, problems.to_string())
}

const USERS: &str = "passdb {\n  driver = passwd-file\n  args = scheme=PLAIN username_format=%n /etc/users\n}\n\
    userdb {\n  driver = passwd-file\n  args = /etc/users\n  default_fields = uid=0 home=/h/%n\n}\n";

#[test]
fn the_defaults_are_dovecots() {
    let (settings, problems) = read(USERS);
    assert_eq!(problems, "");
    assert_eq!(settings.realm.mechanisms, [MechanismName::Plain]);
    assert_eq!(settings.realm.username_format.unwrap().text(), "%Lu");
    assert_eq!(settings.failure_delay.as_secs(), 2);
    assert!(settings.penalty);
    assert!(settings.services.is_empty());
    let PassDriver::PasswdFile { path, scheme, username_format } =
        &settings.realm.passdbs[0].driver
    else {
        unreachable!()
    };
    assert_eq!(
        (path.text(), scheme.as_str(), username_format.text()),
        ("/etc/users", "PLAIN", "%n")
    );
    assert_eq!(settings.realm.userdbs[0].default_fields.len(), 2);
}

#[test]
fn every_setting_that_is_obeyed_is_read() {
    let (settings, problems) = read(&format!(
        "auth_mechanisms = plain login cram-md5\nauth_username_format = %Ln\nauth_default_realm = example.com\n\
         auth_username_chars =\nauth_username_translation = \"#@\"\nauth_failure_delay = 1 secs\nauth_verbose = yes\n\
         auth_verbose_passwords = sha1:6\nauth_master_user_separator = *\nauth_worker_max_count = 3\n\
         auth_ssl_require_client_cert = yes\n\
         service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n{USERS}"
    ));
    assert_eq!(problems, "");
    let realm = &settings.realm;
    assert_eq!(
        realm.mechanisms,
        [MechanismName::Plain, MechanismName::Login, MechanismName::CramMd5]
    );
    assert_eq!(realm.username_format.as_ref().unwrap().text(), "%Ln");
    assert_eq!(realm.default_realm, "example.com");
    assert_eq!((realm.username_chars.as_str(), realm.username_translation.as_str()), ("", "#@"));
    assert_eq!(settings.failure_delay.as_secs(), 1);
    assert!(realm.log.verbose && !realm.log.debug && realm.require_client_cert);
    assert_eq!(realm.log.passwords, PasswordLog::Sha1(Some(6)));
    assert_eq!(realm.master_user_separator, Some('*'));
    assert_eq!(settings.backend_questions, 3);
    assert!(!settings.penalty);
}

#[test]
fn a_protocol_has_settings_of_its_own() {
    let (settings, problems) =
        read(&format!("{USERS}protocol lmtp {{\n  auth_username_format = %Ln\n}}\n"));
    assert_eq!(problems, "");
    assert_eq!(settings.realm("lmtp").username_format.as_ref().unwrap().text(), "%Ln");
    assert_eq!(settings.realm("imap").username_format.as_ref().unwrap().text(), "%Lu");
    assert_eq!(settings.realm("lmtp").passdbs.len(), 1);
}

#[test]
fn drivers_and_their_arguments() {
    let (settings, problems) = read(
        "auth_debug = yes\npassdb {\n  driver = pam\n  args = failure_show_msg=yes max_requests=5 *\n}\n\
         passdb {\n  driver = static\n  args = nopassword=y\n  master = yes\n  pass = yes\n  mechanisms = plain\n}\n\
         passdb {\n  driver = shadow\n  deny = yes\n  result_failure = return-fail\n  skip = authenticated\n  username_filter = *@a !b\n}\n\
         userdb {\n  driver = prefetch\n  skip = found\n}\nuserdb {\n  driver = passwd\n  args = blocking=no home=/vm/%u\n  override_fields = mail=maildir:~/M\n}\n\
         userdb {\n  driver = static\n  args = uid=root gid=0 home=/v/%d/%n allow_all_users=yes\n  result_success = continue\n}\n",
    );
    assert_eq!(problems, "");
    let passdbs = &settings.realm.passdbs;
    assert!(matches!(&passdbs[0].driver,
        PassDriver::Pam { service, failure_message: true } if service.text() == "%Ls"));
    assert!(passdbs[1].master && passdbs[1].success == Rule::Continue);
    assert_eq!(passdbs[1].mechanisms, ["PLAIN"]);
    assert!(passdbs[2].deny && passdbs[2].failure == Rule::ReturnFail);
    assert_eq!(passdbs[2].username_filter, ["*@a", "!b"]);
    let userdbs = &settings.realm.userdbs;
    assert!(matches!(&userdbs[1].driver, UserDriver::Passwd { fields } if fields.len() == 1));
    let UserDriver::Static { fields, allow_all_users: true } = &userdbs[2].driver else {
        unreachable!()
    };
    assert_eq!((fields[0].name.as_str(), fields[0].value.text()), ("uid", "0"));
    assert!(settings.realm.log.debug && settings.realm.log.verbose);
}

#[test]
fn what_cannot_be_obeyed_is_told_with_its_line() {
    let (_, problems) = read(
        "auth_mechanisms = plain gssapi\nauth_username_format = %q\nauth_verbose_passwords = maybe\n\
         passdb {\n  driver = sql\n  args = /etc/dovecot/dovecot-sql.conf.ext\n}\n\
         passdb {\n  driver = pam\n  args = session=yes\n}\n\
         passdb {\n  driver = passwd-file\n  args = scheme=NONSENSE /etc/users\n}\n\
         userdb {\n  driver = static\n  args = uid=no-such-user-here\n}\nuserdb {\n  driver = ldap\n}\n",
    );
    insta::assert_snapshot!(problems);
    let (_, problems) = read(
        "auth_mechanisms = cram-md5\npassdb {\n  driver = pam\n}\nuserdb {\n  driver = passwd\n}\n",
    );
    assert_eq!(
        problems,
        "/d.conf:1: CRAM-MD5 mechanism can't be supported with given passdbs; leave cram-md5 out of \
         auth_mechanisms, or add a passwd-file with {PLAIN} passwords\n"
    );
}

/// Each line of a passdb and of a userdb changes what is read.
#[test]
fn every_setting_of_a_database_is_read() {
    let lines = [
        "default_fields = a=b",
        "override_fields = a=b",
        "result_success = continue",
        "result_failure = return-fail",
        "result_internalfail = return-fail",
        "skip = found",
    ];
    for block in ["passdb", "userdb"] {
        for line in lines {
            // userdb {} knows found and never; passdb {} authenticated and never.
            let line = if block == "passdb" {
                line.replace("found", "authenticated")
            } else {
                line.into()
            };
            let read = |line: &str| {
                let text = format!(
                    "passdb {{\n  driver = passwd-file\n  args = /u\n  {}\n}}\nuserdb {{\n  driver = passwd-file\n  args = /u\n  {}\n}}\n",
                    if block == "passdb" { line } else { "" },
                    if block == "userdb" { line } else { "" },
                );
                let (settings, problems) = read(&text);
                assert_eq!(problems, "", "{block} {line}");
                serde_json::to_string(&settings.realm).unwrap()
            };
            assert_ne!(read(&line), read(""), "{block} {line}");
        }
    }
}
