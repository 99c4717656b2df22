//! Settings of 2.4 that we do not obey.

use super::super::check::holds_anyway;
use super::super::plugins::{self, Loaded};
use super::super::tree::{Section, Value};
use super::mail::Places;
use super::scope::FILTERS;
use super::{fact_of, lists};
use crate::inventory::{Standing, Written};
use crate::register::{Fact, Mark};
use crate::{Problems, unsupported};

/// The plugin that reads a setting, by the beginning of its name.
const OF_PLUGIN: &[(&str, &[&str])] = &[
    ("acl", &["acl", "imap_acl"]),
    ("charset_alias", &["charset_alias"]),
    ("crypt_", &["mail_crypt"]),
    ("fts", &["fts", "fts_flatcurve", "fts_solr"]),
    ("last_login", &["last_login"]),
    ("lazy_expunge", &["lazy_expunge"]),
    ("mail_compress", &["mail_compress"]),
    ("mail_log_cached", &["mail_log"]),
    ("mail_log_events", &["mail_log"]),
    ("mail_log_fields", &["mail_log"]),
    ("mailbox_notify_status", &["notify_status"]),
    ("notify_status", &["notify_status"]),
    ("pop3_migration", &["pop3_migration"]),
    ("push_notification", &["push_notification"]),
    ("quota_clone", &["quota_clone"]),
    ("quota", &["quota"]),
    ("sieve", &["sieve", "imap_sieve"]),
    ("trash", &["trash"]),
    ("virtual", &["virtual"]),
    ("welcome", &["welcome"]),
];

/// As [`Config::report_unsupported`](super::super::Config::report_unsupported), of a file of 2.4.
pub fn report_unsupported(written: &Section, readers: &[&str], problems: &mut Problems) {
    let protocol = plugins::protocol_of(readers);
    let loaded = loaded_plugins(written, protocol);
    let idle = |name: &str| is_idle(name, &loaded);
    let concerns = |fact: &Fact| {
        fact.mark == Mark::Unsupported
            && readers.iter().any(|reader| fact.is_read_by(reader))
            && !idle(fact.name)
    };
    let mut found = Problems::default();
    visit(written, protocol, &mut |section| {
        let settings = section.settings.iter().filter_map(|(name, value)| {
            let fact = fact_in(&section.kind, name)?;
            Some((name.as_str(), fact, value, holds_anyway(fact, &value.text)))
        });
        let lists = lists_in(section).map(|(fact, first)| (fact.name, fact, first, false));
        for (name, fact, value, holds_anyway) in settings.chain(lists) {
            let at = &value.at;
            if is_misplaced(&section.kind, fact)
                && readers.iter().any(|reader| fact.is_read_by(reader))
            {
                let what = format!("{name}: not obeyed inside a {} block", section.kind);
                found.error(at.clone(), what).instead("write it outside the block");
            }
            if concerns(fact) && !holds_anyway {
                unsupported::tell(name, fact, at, "Dovecot", &mut found);
            }
        }
    });
    if protocol.is_some() {
        plugins::report(&loaded, &mut found);
    }
    problems.extend(found.by_place());
}

/// Every setting as written; a list, such as `userdb_fields { }`, is one.
pub fn inventory(written: &Section) -> Vec<Written> {
    let loaded = loaded_plugins(written, None);
    let mut found = Vec::new();
    let mut add = |name: &str, of: &str, value: &Value| {
        let standing = match fact_in(of, name) {
            Some(_) if is_idle(name, &loaded) => Standing::Idle,
            Some(fact) if is_misplaced(of, fact) => Standing::Misplaced(fact),
            Some(fact) => Standing::Known(fact),
            None => Standing::Unknown,
        };
        let is_default =
            matches!(standing, Standing::Known(fact) if holds_anyway(fact, &value.text));
        let (name, of, at) = (name.to_owned(), of.to_owned(), value.at.clone());
        found.push(Written { name, of, at, standing, is_default });
    };
    visit(written, None, &mut |section| {
        for (name, value) in &section.settings {
            add(name, &section.kind, value);
        }
        for (fact, first) in lists_in(section) {
            add(fact.name, &section.kind, first);
        }
    });
    found.sort_by(|one, other| one.at.cmp(&other.at));
    found
}

/// The lists in a section, such as `userdb_fields { }`, each with its first element.
fn lists_in(section: &Section) -> impl Iterator<Item = (&'static Fact, &Value)> {
    section.sections.iter().filter_map(|block| {
        let fact = fact_of(&block.kind).filter(|fact| lists::is_list(fact))?;
        Some((fact, &block.settings.first()?.1))
    })
}

fn loaded_plugins(written: &Section, protocol: Option<&str>) -> Vec<Loaded> {
    let here = lists::elements(&lists::steps(written, "mail_plugins"));
    let mut loaded: Vec<Loaded> = here.into_iter().map(|(name, value)| (name, value.at)).collect();
    let filters = written.sections.iter().filter(|block| FILTERS.contains(&block.kind.as_str()));
    for block in filters.filter(|block| plugins::concerns(block, protocol)) {
        loaded.extend(loaded_plugins(block, protocol));
    }
    plugins::distinct(loaded)
}

/// Whether a setting is of a plugin that no program loads.
fn is_idle(name: &str, loaded: &[Loaded]) -> bool {
    let plugin = OF_PLUGIN.iter().find(|(start, _)| name.starts_with(start));
    plugin.is_some_and(|(_, names)| !loaded.iter().any(|(l, _)| names.contains(&l.as_str())))
}

/// The row of a setting in a block of this kind: `quota_storage_percentage` in a warning says when to warn.
fn fact_in(kind: &str, name: &str) -> Option<&'static Fact> {
    let of_warning =
        kind == "quota_warning" && !name.starts_with(kind) && name.starts_with("quota");
    fact_of(if of_warning { kind } else { name })
}

/// Whether we obey the setting, and not in a block of this kind.
fn is_misplaced(kind: &str, fact: &Fact) -> bool {
    matches!(fact.mark, Mark::Supported | Mark::Differs) && !obeyed_in(kind, fact.name)
}

/// Whether a block of this kind may hold the setting for us; Dovecot takes any in each.
fn obeyed_in(kind: &str, name: &str) -> bool {
    match kind {
        "" => true,
        kind if FILTERS.contains(&kind) => true,
        "namespace" => name.starts_with("namespace_") || Places::obeys(name),
        "passdb" | "userdb" => {
            name.starts_with(kind)
                || matches!(
                    name,
                    "auth_username_format" | "passwd_file_path" | "passdb_default_password_scheme"
                )
        }
        "inet_listener" => name == "listen" || name.starts_with("inet_listener_"),
        "mailbox" | "quota" | "service" | "unix_listener" | "fifo_listener" => {
            name.starts_with(kind)
        }
        _ => false,
    }
}

fn visit(section: &Section, protocol: Option<&str>, look: &mut dyn FnMut(&Section)) {
    look(section);
    for block in section.sections.iter().filter(|block| plugins::concerns(block, protocol)) {
        if !fact_of(&block.kind).is_some_and(lists::is_list) {
            visit(block, protocol, look);
        }
    }
}
