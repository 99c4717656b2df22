//! `passdb { }` and `userdb { }`: their drivers and arguments.

use super::{fields, template};
use crate::scheme;
use crate::settings::{Field, PassDriver, Passdb, Rule, Skip, SkipUser, UserDriver, Userdb};
use crate::template::Template;
use ::config::dovecot::View;
use ::config::{Place, Problems};

pub fn passdbs(view: &View<'_>, problems: &mut Problems) -> Vec<Passdb> {
    let mut passdbs = Vec::new();
    for block in view.passdbs(problems) {
        let at = &block.at;
        let driver = match block.driver.as_str() {
            "pam" => pam(&block.args, at, problems),
            "passwd-file" => password_file(&block.args, "passdb", at, problems).map(|file| {
                let PasswordFile { path, scheme, username_format } = file;
                PassDriver::PasswdFile { path, scheme, username_format }
            }),
            "shadow" => Some(PassDriver::Shadow),
            "static" => {
                let mut fields = fields::read(&block.args, "args", at, problems);
                fields::resolve(&mut fields, at, problems);
                Some(PassDriver::Static { fields })
            }
            "" => None, // told by the reader of the file
            other => unsupported("passdb", other, at, problems),
        };
        let Some(driver) = driver else { continue };
        let rule = |text: &str, default| Rule::parse(text).unwrap_or(default);
        let mut success = rule(&block.result_success, Rule::ReturnOk);
        if block.pass && block.master {
            success = Rule::Continue;
        }
        let mut default_fields =
            fields::read(&block.default_fields, "default_fields", at, problems);
        let mut override_fields =
            fields::read(&block.override_fields, "override_fields", at, problems);
        fields::resolve(&mut default_fields, at, problems);
        fields::resolve(&mut override_fields, at, problems);
        let filter = block.username_filter.split([' ', ',']).filter(|word| !word.is_empty());
        passdbs.push(Passdb {
            driver,
            deny: block.deny,
            master: block.master,
            skip: match block.skip.as_str() {
                "authenticated" => Skip::Authenticated,
                "unauthenticated" => Skip::Unauthenticated,
                _ => Skip::Never,
            },
            mechanisms: block.mechanisms.iter().map(|w| w.as_str().to_ascii_uppercase()).collect(),
            username_filter: filter.map(str::to_owned).collect(),
            success,
            failure: rule(&block.result_failure, Rule::Continue),
            internal_failure: rule(&block.result_internalfail, Rule::Continue),
            default_fields,
            override_fields,
            verbose: None,
        });
    }
    passdbs
}

pub fn userdbs(view: &View<'_>, problems: &mut Problems) -> Vec<Userdb> {
    let mut userdbs = Vec::new();
    for block in view.userdbs(problems) {
        let at = &block.at;
        let driver = match block.driver.as_str() {
            "passwd" => Some(UserDriver::Passwd { fields: arguments(&block.args, at, problems) }),
            "passwd-file" => password_file(&block.args, "userdb", at, problems).map(|file| {
                let PasswordFile { path, username_format, .. } = file;
                UserDriver::PasswdFile { path, username_format }
            }),
            "static" => {
                let mut fields = arguments(&block.args, at, problems);
                let all = fields
                    .iter()
                    .any(|field| field.name == "allow_all_users" && field.value.text() != "no");
                fields.retain(|field| field.name != "allow_all_users");
                Some(UserDriver::Static { fields, allow_all_users: all })
            }
            "prefetch" => Some(UserDriver::Prefetch),
            "" => None,
            other => unsupported("userdb", other, at, problems),
        };
        let Some(driver) = driver else { continue };
        let rule = |text: &str, default| Rule::parse(text).unwrap_or(default);
        let mut default_fields =
            fields::read(&block.default_fields, "default_fields", at, problems);
        let mut override_fields =
            fields::read(&block.override_fields, "override_fields", at, problems);
        fields::resolve(&mut default_fields, at, problems);
        fields::resolve(&mut override_fields, at, problems);
        userdbs.push(Userdb {
            driver,
            skip: match block.skip.as_str() {
                "found" => SkipUser::Found,
                "notfound" => SkipUser::NotFound,
                _ => SkipUser::Never,
            },
            success: rule(&block.result_success, Rule::ReturnOk),
            failure: rule(&block.result_failure, Rule::Continue),
            internal_failure: rule(&block.result_internalfail, Rule::Continue),
            default_fields,
            override_fields,
            verbose: None,
        });
    }
    userdbs
}

fn unsupported<T>(kind: &str, driver: &str, at: &Place, problems: &mut Problems) -> Option<T> {
    let text = match driver {
        "sql" | "ldap" => format!("{kind} driver {driver} is not supported yet"),
        "passwd" => {
            "passdb driver passwd is not supported: passwords are not in /etc/passwd any more"
                .to_owned()
        }
        "checkpassword" | "dict" | "lua" | "oauth2" | "imap" | "bsdauth" | "gssapi" => {
            format!("{kind} driver {driver} is not supported")
        }
        _ => format!("unknown {kind} driver {driver}"),
    };
    let instead = match kind {
        "passdb" => "use pam, passwd-file, shadow or static, or keep Dovecot's auth",
        _ => "use passwd, passwd-file, static or prefetch, or keep Dovecot's auth",
    };
    problems.error(at.clone(), text).instead(instead);
    None
}

/// Fields of a userdb's arguments, without the words about how Dovecot asks.
fn arguments(args: &str, at: &Place, problems: &mut Problems) -> Vec<Field> {
    let mut fields = fields::read(args, "args", at, problems);
    fields.retain(|field| field.name != "blocking");
    fields::resolve(&mut fields, at, problems);
    fields
}

fn pam(args: &str, at: &Place, problems: &mut Problems) -> Option<PassDriver> {
    let mut service = "dovecot".to_owned();
    let mut failure_message = false;
    for word in args.split_ascii_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("session" | "-session" | "setcred" | "-setcred", value) if value != "no" => {
                let text =
                    format!("passdb pam: {word} is not supported: accounts get no PAM session");
                problems.error(at.clone(), text).instead("leave it out");
            }
            ("failure_show_msg", value) => failure_message = value != "no",
            // about Dovecot's own processes and cache
            ("blocking" | "max_requests" | "cache_key" | "session" | "setcred", _) => {}
            ("*", _) => service = "%Ls".to_owned(),
            (name, _) if word.contains('=') => {
                let text = format!("passdb pam: unknown argument {name}");
                problems
                    .error(at.clone(), text)
                    .instead("write failure_show_msg=yes or the service's name");
            }
            _ => service = word.to_owned(),
        }
    }
    let service = template(&service, Some(at.clone()), "args", problems)?;
    Some(PassDriver::Pam { service, failure_message })
}

struct PasswordFile {
    path: Template,
    scheme: String,
    username_format: Template,
}

/// `[scheme=CRYPT] [username_format=%u] PATH`.
fn password_file(
    args: &str,
    kind: &str,
    at: &Place,
    problems: &mut Problems,
) -> Option<PasswordFile> {
    let (mut scheme, mut format, mut rest) = ("CRYPT", "%u", args.trim());
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        if let Some(value) = word.strip_prefix("scheme=") {
            scheme = value;
        } else if let Some(value) = word.strip_prefix("username_format=") {
            format = value;
        } else if !matches!(word, "blocking=no" | "blocking=yes") {
            break;
        }
        rest = after.trim_start();
    }
    if rest.is_empty() {
        let text = format!("{kind} passwd-file: no file is named");
        problems.error(at.clone(), text).instead("write args = /path/to/file");
        return None;
    }
    if !scheme::is_known(scheme) {
        let text = format!("{kind} passwd-file: unknown scheme {scheme}");
        problems
            .error(at.clone(), text)
            .instead("write scheme=SHA512-CRYPT, BLF-CRYPT or ARGON2ID");
    }
    Some(PasswordFile {
        path: template(rest, Some(at.clone()), "args", problems)?,
        scheme: scheme.to_owned(),
        username_format: template(format, Some(at.clone()), "args", problems)?,
    })
}
