//! Lookup tables: their indexed files, types that we cannot ask, passwords that others can read.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use config::postfix::{self, Host};
use config::{Place, Problems};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

/// Types of which the original asks a server or a library that we have not.
const FOREIGN: [&str; 12] = [
    "mysql",
    "pgsql",
    "sqlite",
    "ldap",
    "socketmap",
    "tcp",
    "memcache",
    "dbm",
    "sdbm",
    "nis",
    "nisplus",
    "netinfo",
];

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let Some(host) = &files.postfix else { return };
    indexes(host, found);
    foreign(host, found);
    secrets(host, found);
}

fn indexes(host: &Host, found: &mut Vec<Finding>) {
    let written = host.inventory();
    let aliases: Vec<String> =
        ["alias_maps", "alias_database"].map(|name| super::text(host, name)).to_vec();
    for table in host.table_files() {
        let path = table.text.display().to_string();
        let named = written.iter().find(|one| {
            let raw = host.main().written(&one.name);
            one.of.is_empty() && raw.is_some_and(|raw| raw.as_str().contains(&path))
        });
        let at = named.map(|one| one.at.clone());
        // A default that nobody wrote, such as hash:/etc/aliases: Postfix asks it only if there is something.
        if at.is_none() && !table.text.exists() {
            continue;
        }
        let command = if aliases.iter().any(|text| text.contains(&path)) {
            "newaliases".to_owned()
        } else {
            format!("postmap {path}")
        };
        let place = at.or_else(|| Some(Place::file(table.text.clone())));
        let Some(index) = &table.index else {
            if !table.text.exists() {
                found.push(
                    Finding::critical(
                        place,
                        format!("the table {path} is not there: what asks it defers mail"),
                    )
                    .mend("make the file, or take the table out"),
                );
            }
            continue;
        };
        match (fs::metadata(&table.text), fs::metadata(index)) {
            (Ok(text), Ok(index_file)) if text.mtime() > index_file.mtime() => {
                let text = format!(
                    "{path} has been changed after {}: the old content counts",
                    index.display()
                );
                found.push(
                    Finding::warning(Place::file(table.text.clone()), text)
                        .mend(format!("run {command}")),
                );
            }
            (Ok(_), Err(_)) => {
                let text = format!(
                    "{path} has no {} beside it: Postfix cannot ask the table and defers mail",
                    index.display()
                );
                found.push(Finding::warning(place, text).mend(format!("run {command}")));
            }
            (Err(_), Err(_)) => {
                found.push(
                    Finding::critical(
                        place,
                        format!("the table {path} is not there: what asks it defers mail"),
                    )
                    .mend("make the file and run postmap, or take the table out"),
                );
            }
            (Err(_), Ok(_)) => {
                let text = format!(
                    "{path} is gone, and only {} is left, which we cannot read",
                    index.display()
                );
                found.push(
                    Finding::critical(place, text)
                        .mend(format!("write the text back: postmap -s {path}"))
                        .of(Plank::SmtpIn)
                        .of(Plank::Queue),
                );
            }
            _ => {}
        }
    }
}

fn foreign(host: &Host, found: &mut Vec<Finding>) {
    let mut look = |name: &str, text: &str, at: &Place| {
        for word in text.split(|c: char| c.is_whitespace() || ",{}".contains(c)) {
            let Some(kind) = word.split(':').rev().skip(1).find(|kind| FOREIGN.contains(kind))
            else {
                continue;
            };
            let text =
                format!("{name} asks a table of type {kind}, which our daemons cannot ask yet");
            found.push(
                Finding::critical(at.clone(), text)
                    .mend("keep it in a hash: table for now, or leave these planks with Postfix")
                    .of(Plank::SmtpIn)
                    .of(Plank::Queue),
            );
        }
    };
    for one in host.inventory() {
        let of = host
            .services()
            .find(|service| one.of == format!("{}/{}", service.name, service.kind.name()));
        let view = of.map_or_else(|| host.main(), |service| host.view(service));
        if let Some(text) = view.text(&one.name, &mut Problems::default()) {
            look(&one.name, text.as_str(), &one.at);
        }
    }
}

/// Passwords and private keys are for root alone.
fn secrets(host: &Host, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let main = host.main();
    for table in main.get(postfix::SMTP_SASL_PASSWORD_MAPS, &mut quiet) {
        let at = table.at.clone().unwrap_or_else(|| super::place(host, "smtp_sasl_password_maps"));
        for ending in ["", ".db", ".lmdb"] {
            readable_by_all(Path::new(&format!("{}{ending}", table.name)), "passwords", &at, found);
        }
    }
    for service in super::smtp_servers(host) {
        let view = host.view(service);
        let key = view.get(postfix::SMTPD_TLS_KEY_FILE, &mut quiet);
        if let Some(at) = view.place(postfix::SMTPD_TLS_KEY_FILE).filter(|_| !key.is_empty()) {
            readable_by_all(Path::new(&key), "a private key", &at, found);
        }
    }
}

fn readable_by_all(path: &Path, what: &str, at: &Place, found: &mut Vec<Finding>) {
    let open = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0);
    let reachable = path.ancestors().skip(1).all(|directory| {
        fs::metadata(directory).is_ok_and(|file| file.permissions().mode() & 0o001 != 0)
    });
    let text = format!("{} holds {what}, and every user of this host can read it", path.display());
    let known = found.iter().any(|finding| finding.text == text);
    if open && reachable && !known {
        found
            .push(Finding::warning(at.clone(), text).mend(format!("chmod 600 {}", path.display())));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{files, shown};
    use super::*;

    fn say(main: &str, texts: &[(&str, &str)], change: impl FnOnce(&Path)) -> String {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut all =
            vec![("postfix/main.cf", main), ("postfix/master.cf", "smtp inet n - n - - smtpd\n")];
        all.extend_from_slice(texts);
        let read = files(root.path(), &all);
        change(root.path());
        let mut found = Vec::new();
        find(&read, &mut found);
        found.retain(|one| !one.text.contains("/etc/aliases"));
        shown(root.path(), &found)
    }

    #[test]
    fn an_indexed_file_that_is_older_than_its_text_is_told() {
        let main = "virtual_alias_maps = hash:@/postfix/v\n";
        let texts = [("postfix/v", "a b\n"), ("postfix/v.db", "")];
        assert_eq!(say(main, &texts, |_| {}), "");
        let told = say(main, &texts, |root| {
            let text = fs::File::options().write(true).open(root.join("postfix/v")).unwrap();
            text.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
                .unwrap();
        });
        insta::assert_snapshot!(told, @"Warning /postfix/v: /postfix/v has been changed after /postfix/v.db: the old content counts; run postmap /postfix/v");
        insta::assert_snapshot!(say(main, &texts[..1], |_| {}), @"Warning /postfix/main.cf:1: /postfix/v has no /postfix/v.db beside it: Postfix cannot ask the table and defers mail; run postmap /postfix/v");
        insta::assert_snapshot!(say(main, &[], |_| {}), @"Critical /postfix/main.cf:1: the table /postfix/v is not there: what asks it defers mail; make the file and run postmap, or take the table out");
    }

    #[test]
    fn a_table_that_we_cannot_ask_is_told() {
        insta::assert_snapshot!(say("virtual_mailbox_domains = static:x, proxy:mysql:/etc/postfix/x.cf\n", &[], |_| {}), @"Critical /postfix/main.cf:1: virtual_mailbox_domains asks a table of type mysql, which our daemons cannot ask yet; keep it in a hash: table for now, or leave these planks with Postfix");
    }

    #[test]
    fn passwords_that_all_can_read_are_told() {
        let main = "smtp_sasl_password_maps = texthash:@/postfix/sasl_passwd\n";
        let texts = [("postfix/sasl_passwd", "h u:p\n")];
        let mode = |mode| {
            say(main, &texts, |root| {
                fs::set_permissions(
                    root.join("postfix/sasl_passwd"),
                    fs::Permissions::from_mode(mode),
                )
                .unwrap();
            })
        };
        assert_eq!(mode(0o600), "");
        let told = mode(0o644);
        // A temporary directory may be closed to others itself.
        assert!(
            told.is_empty()
                || told.contains("/postfix/sasl_passwd holds passwords, and every user"),
            "{told}"
        );
    }
}
