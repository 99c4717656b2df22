//! Users that Dovecot knows a password of, and no home or uid.

use std::fs;

use config::dovecot::{self, Config};
use config::{Files as _, Place, Problems, files::Disk};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

/// Lines of a password file that are looked at.
const MOST_LINES: usize = 10_000;

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let Some(config) = &files.dovecot else { return };
    passwd_files(config, found);
    names_with_domain(config, found);
}

/// A userdb of this kind takes uid, gid and home from the line's third, fourth and sixth field.
fn passwd_files(config: &Config, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let view = config.global();
    let uid = !view.get(dovecot::MAIL_UID, &mut quiet).is_empty();
    let gid = !view.get(dovecot::MAIL_GID, &mut quiet).is_empty();
    for userdb in view.userdbs(&mut quiet).iter().filter(|userdb| userdb.driver == "passwd-file") {
        let fields = format!("{} {}", userdb.default_fields, userdb.override_fields);
        let has = |name: &str| {
            fields.split_whitespace().any(|field| field.starts_with(&format!("{name}=")))
        };
        if (uid || has("uid")) && (gid || has("gid")) {
            continue;
        }
        let Some(path) = userdb.args.split_whitespace().find(|word| word.starts_with('/')) else {
            continue;
        };
        if path.contains('%') {
            continue;
        }
        let content = Disk.read(path.as_ref()).unwrap_or_default();
        for (index, line) in String::from_utf8_lossy(&content).lines().take(MOST_LINES).enumerate()
        {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.split(':').skip(2);
            let (line_uid, line_gid) =
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if line_uid.is_empty() || line_gid.is_empty() {
                let user = line.split(':').next().unwrap_or_default();
                let text = format!(
                    "{user} has a password and no uid and gid: the login succeeds and no mailbox opens"
                );
                found.push(
                    Finding::critical(Place::new(path, index + 1), text)
                        .mend(super::words(config, "write default_fields = uid=vmail gid=vmail home=/var/mail/vhosts/%d/%n in the userdb, or mail_uid and mail_gid", "write fields { uid = vmail gid = vmail } in the userdb, or mail_uid and mail_gid"))
                        .of(Plank::Auth),
                );
                break;
            }
        }
    }
}

/// System users have no `@` in their names.
fn names_with_domain(config: &Config, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let view = config.global();
    let drivers: Vec<String> =
        view.passdbs(&mut quiet).into_iter().map(|passdb| passdb.driver).collect();
    let system = !drivers.is_empty()
        && drivers.iter().all(|driver| matches!(driver.as_str(), "pam" | "passwd" | "shadow"));
    let format = view.get(dovecot::AUTH_USERNAME_FORMAT, &mut quiet);
    let whole = format.is_empty()
        || format.contains("%u")
        || format.contains("%Lu")
        || format.contains("%{user}");
    if system && whole {
        let text = format!(
            "users log in as info, and not as info@example.com: auth_username_format is {format}, and system users have no domain"
        );
        let at =
            view.place(dovecot::AUTH_USERNAME_FORMAT).unwrap_or_else(|| Place::file(config.path()));
        found.push(
            Finding::note(at, text)
                .mend(super::words(
                    config,
                    "write auth_username_format = %Ln to let both in",
                    "write auth_username_format = %{user | username | lower} to let both in",
                ))
                .of(Plank::Auth),
        );
    }
    for passdb in view.passdbs(&mut quiet).iter().filter(|passdb| passdb.driver == "passwd-file") {
        let Some(path) = passdb.args.split_whitespace().find(|word| word.starts_with('/')) else {
            continue;
        };
        if !path.contains('%') && fs::metadata(path).is_err() {
            let text = format!("the password file {path} is not there: nobody can log in");
            found.push(
                Finding::critical(passdb.at.clone(), text)
                    .mend("make it, or name another")
                    .of(Plank::Auth),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::say;
    use super::*;

    /// As a widely read guide prints it, but for the fields that its file lacks.
    #[test]
    fn a_user_without_a_uid_is_told() {
        let told = |fields: &str, line: &str| {
            let text = format!(
                "passdb {{\n  driver = passwd-file\n  args = scheme=SHA512-CRYPT @/users\n}}\nuserdb {{\n  driver = passwd-file\n  args = @/users\n{fields}}}\n"
            );
            say(&[("dovecot.conf", &text), ("users", &format!("# x\n\n{line}\n"))], find)
        };
        insta::assert_snapshot!(told("", "user1@example.com:{PLAIN}x"), @"Critical /users:3: user1@example.com has a password and no uid and gid: the login succeeds and no mailbox opens; write default_fields = uid=vmail gid=vmail home=/var/mail/vhosts/%d/%n in the userdb, or mail_uid and mail_gid");
        assert_eq!(
            told("  default_fields = uid=1 gid=1 home=/h\n", "user1@example.com:{PLAIN}x"),
            ""
        );
        assert_eq!(told("", "user1:{PLAIN}x:1000:1000::/home/user1::"), "");
    }

    #[test]
    fn system_users_have_no_domain() {
        let told = |format: &str| {
            say(
                &[(
                    "dovecot.conf",
                    &format!(
                        "{format}passdb {{\n  driver = pam\n}}\nuserdb {{\n  driver = passwd\n}}\n"
                    ),
                )],
                find,
            )
        };
        insta::assert_snapshot!(told(""), @"Note /dovecot.conf: users log in as info, and not as info@example.com: auth_username_format is %Lu, and system users have no domain; write auth_username_format = %Ln to let both in");
        assert_eq!(told("auth_username_format = %Ln\n"), "");
        let text = say(
            &[("dovecot.conf", "passdb {\n  driver = passwd-file\n  args = /none/users\n}\n")],
            find,
        );
        assert!(
            text.starts_with(
                "Critical /dovecot.conf:1: the password file /none/users is not there"
            ),
            "{text}"
        );
    }
}
