//! Lookup tables: their indexed files, types that we cannot ask, passwords that others can read.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use config::inventory::Standing;
use config::postfix::{self, Host};
use config::register::Mark;
use config::{Place, Problems};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

/// Settings that name databases which Postfix makes and fills itself.
const CACHES: [&str; 7] = [
    "address_verify_map",
    "lmtp_sasl_auth_cache_name",
    "lmtp_tls_session_cache_database",
    "postscreen_cache_map",
    "smtp_sasl_auth_cache_name",
    "smtp_tls_session_cache_database",
    "smtpd_tls_session_cache_database",
];

/// Settings of all programs of which smtpd learns from those whose work it is: trivial-rewrite and flush.
const BY_OTHERS: [&str; 2] = ["fast_flush_domains", "relay_domains"];

/// Kinds of values that may name tables.
const ASKING: [&str; 5] = ["list", "maps", "matches", "networks", "restrictions"];

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let Some(host) = &files.postfix else { return };
    indexes(host, found);
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
        if named.is_some_and(|one| CACHES.contains(&one.name.as_str())) {
            continue;
        }
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

/// To each of the planks: the tables of settings that it obeys and that only the original can ask, with the settings'
/// values.
pub fn foreign(host: &Host, planks: &[Plank]) -> Vec<(Finding, String)> {
    let mut found = Vec::new();
    let classes = super::text(host, "smtpd_restriction_classes");
    for one in host.inventory() {
        let known = match one.standing {
            Standing::Known(fact)
                if matches!(fact.mark, Mark::Supported | Mark::Differs)
                    && fact.kind.split(' ').next().is_some_and(|kind| ASKING.contains(&kind)) =>
            {
                match fact.name {
                    // Obeyed by these alone.
                    "default_delivery_status_filter" => "smtp",
                    // The default of virtual_alias_maps names it.
                    "virtual_maps" => "cleanup smtpd trivial-rewrite",
                    _ => fact.readers,
                }
            }
            Standing::Own if words(&classes).any(|class| class == one.name) => "smtpd",
            _ => continue,
        };
        if CACHES.contains(&one.name.as_str()) {
            continue;
        }
        let of = host
            .services()
            .find(|service| one.of == format!("{}/{}", service.name, service.kind.name()));
        let reads = |plank: Plank, command: &str| {
            // What all programs read is asked where mail is routed, and mostly by smtpd too.
            let routes = match plank {
                Plank::SmtpIn => !BY_OTHERS.contains(&one.name.as_str()),
                plank => plank == Plank::Queue,
            };
            known.split(' ').any(|known| same(known, command) || (routes && known == "global"))
                && of.is_none_or(|service| same(&service.command, command))
                && asks(host, command)
        };
        let readers: Vec<Plank> = planks
            .iter()
            .copied()
            .filter(|plank| plank.commands().iter().any(|command| reads(*plank, command)))
            .collect();
        let view = of.map_or_else(|| host.main(), |service| host.view(service));
        let text = view.text(&one.name, &mut Problems::default()).unwrap_or_default();
        let mut kinds: Vec<&str> = words(text.as_str()).filter_map(foreign_type).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if !readers.is_empty() && !kinds.is_empty() {
            let told = format!(
                "{} asks a table of type {}, which our daemons cannot ask yet",
                one.name,
                kinds.join(" and ")
            );
            let finding = Finding {
                planks: readers,
                ..Finding::critical(one.at, told)
                    .mend("keep it in a hash: table for now, or leave these planks with Postfix")
            };
            found.push((finding, text.as_str().to_owned()));
        }
    }
    found
}

/// The type of a table that we cannot ask: `mysql` of `proxy:mysql:/x`.
fn foreign_type(word: &str) -> Option<&str> {
    let (kind, rest) = word.trim_start_matches('!').split_once(':')?;
    if kind == "proxy" {
        return foreign_type(rest);
    }
    postfix::foreign_table_type(kind).map(|_| kind)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || ",{}".contains(c))
}

/// smtp(8) and lmtp(8) are one program.
fn same(one: &str, other: &str) -> bool {
    let program = |name| if name == "lmtp" { "smtp" } else { name };
    program(one) == program(other)
}

/// Whether the place of a program asks tables at all: there is no tlsproxy here, and master.cf has virtual(8) on
/// every host where only some hand it mail.
fn asks(host: &Host, command: &str) -> bool {
    command != "tlsproxy" && (command != "virtual" || hands_to_virtual(host))
}

/// Whether mail for virtual mailboxes goes to virtual(8).
pub fn hands_to_virtual(host: &Host) -> bool {
    let transport = super::text(host, "virtual_transport");
    let name = transport.split(':').next().unwrap_or_default();
    host.services().any(|service| service.name == name && service.command == "virtual")
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

    /// A cache is made by Postfix when it is asked first.
    #[test]
    fn a_cache_that_is_not_there_yet_is_no_mistake() {
        let caches: String =
            CACHES.map(|name| format!("{name} = lmdb:/no/such/{name}\n")).into_iter().collect();
        assert_eq!(say(&caches, &[], |_| {}), "");
    }

    fn foreign_in(main: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        let master = "smtp inet n - n - - smtpd\n -o smtpd_client_restrictions=check_client_access,ldap:/l\n\
                      cleanup unix n - n - 0 cleanup\nsmtp unix - - n - - smtp\nvirtual unix - n n - - virtual\n\
                      proxymap unix - - n - - proxymap\n";
        let read = files(root.path(), &[("postfix/main.cf", main), ("postfix/master.cf", master)]);
        let found = foreign(read.postfix.as_ref().unwrap(), &Plank::ALL);
        let line = |one: &Finding| {
            let planks: Vec<&str> = one.planks.iter().map(|plank| plank.name()).collect();
            let place = one.place.as_ref().map(|place| place.line).unwrap_or_default();
            format!("{place} {}: {}\n", planks.join(" "), one.text.replace(CANNOT, ""))
        };
        found.iter().map(|(finding, _)| line(finding)).collect()
    }

    const CANNOT: &str = ", which our daemons cannot ask yet";

    #[test]
    fn a_table_that_we_cannot_ask_is_told_to_who_would_ask_it() {
        let main = "own = socketmap:unix:/s:\nvirtual_alias_maps = ${own}a, ${own}b\n\
                    smtp_tls_policy_maps = proxy:mysql:/t.cf ${own}t\nproxy_read_maps = $smtp_tls_policy_maps $mydestination\n\
                    virtual_mailbox_maps = static:x, proxy:pgsql:/m.cf\nrelay_domains = ldap:/r.cf\n\
                    smtpd_restriction_classes = rules\nrules = check_client_access mysql:/y, reject\n\
                    postscreen_cache_map = memcache:/c\nsmtpd_banner = ldap:help\n\
                    smtpd_helo_restrictions = check_policy_service inet:ldap:10023, check_helo_access proxy:mongodb:/g.cf\n\
                    virtual_maps = ldap:/o\ndefault_delivery_status_filter = tcp:x:1\n";
        insta::assert_snapshot!(foreign_in(main), @"
        2 smtp-in queue: virtual_alias_maps asks a table of type socketmap
        3 smtp-out: smtp_tls_policy_maps asks a table of type mysql and socketmap
        5 mda smtp-in queue: virtual_mailbox_maps asks a table of type pgsql
        6 queue: relay_domains asks a table of type ldap
        8 smtp-in: rules asks a table of type mysql
        11 smtp-in: smtpd_helo_restrictions asks a table of type mongodb
        12 smtp-in queue: virtual_maps asks a table of type ldap
        13 smtp-out: default_delivery_status_filter asks a table of type tcp
        2 smtp-in: smtpd_client_restrictions asks a table of type ldap
        ");
        let elsewhere = format!("{main}virtual_transport = lmtp:unix:private/lmtp\n");
        assert!(
            foreign_in(&elsewhere).contains("5 smtp-in queue: virtual_mailbox_maps"),
            "{}",
            foreign_in(&elsewhere)
        );
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
