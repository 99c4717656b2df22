//! Names and values of every block against the register.

use super::kind;
use super::names::FACTS;
use super::plugins::{self, Loaded};
use super::tree::{Section, Value};
use crate::register::{Fact, Mark, find};
use crate::suggest::nearest;
use crate::{Place, Problems, unsupported};

/// Blocks that only choose when their settings count.
const FILTERS: &[&str] = &["protocol", "local", "local_name", "remote"];
/// The blocks of each kind of block; the filters may hold what the whole file may.
const BLOCKS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "service",
            "namespace",
            "passdb",
            "userdb",
            "plugin",
            "dict",
            "metric",
            "event_exporter",
            "mailbox",
        ],
    ),
    ("service/", &["unix_listener", "fifo_listener", "inet_listener"]),
    ("namespace/", &["mailbox"]),
];
/// Blocks whose settings may have any name.
pub(super) const OF_ANY_NAME: &[&str] = &["dict/", "metric/", "event_exporter/"];

/// Reports every unknown name and every value that cannot be read.
pub fn names_and_values(root: &Section, problems: &mut Problems) {
    let loaded = loaded_plugins(root, None);
    visit(root, "", None, &mut |path, section| check_section(path, section, &loaded, problems));
}

/// See [`super::Config::report_unsupported`].
pub fn report_unsupported(root: &Section, readers: &[&str], problems: &mut Problems) {
    let protocol = plugins::protocol_of(readers);
    let loaded = loaded_plugins(root, protocol);
    let mut report = |path: &str, section: &Section| {
        for (name, value) in &section.settings {
            let full = format!("{path}{name}");
            if let Some(fact) = fact_of(&full)
                && fact.mark == Mark::Unsupported
                && readers.iter().any(|reader| fact.is_read_by(reader))
                && !holds_anyway(fact, &value.text)
                && !is_idle(&full, &loaded)
            {
                unsupported::tell(name, fact, &value.at, "Dovecot", problems);
            }
        }
    };
    visit(root, "", protocol, &mut report);
    if protocol.is_some() {
        plugins::report(&loaded, problems);
    }
}

/// The plugins that a program of this protocol loads; without one, those that any loads.
pub(super) fn loaded_plugins(root: &Section, protocol: Option<&str>) -> Vec<Loaded> {
    let mut loaded = Vec::new();
    let mut collect = |_: &str, section: &Section| {
        if let Some(value) = section.value("mail_plugins") {
            let names = value.text.split_ascii_whitespace();
            loaded.extend(names.map(|name| (name.to_owned(), value.at.clone())));
        }
    };
    visit(root, "", protocol, &mut collect);
    plugins::distinct(loaded)
}

/// Whether a setting is of a plugin that no program loads: what it would read says nothing.
pub(super) fn is_idle(full: &str, loaded: &[Loaded]) -> bool {
    full.strip_prefix("plugin/").is_some_and(|name| !plugins::is_read(name, loaded))
}

/// Whether the value says what happens here, or what Dovecot does by itself.
pub(super) fn holds_anyway(fact: &Fact, text: &str) -> bool {
    unsupported::holds_anyway(fact, fact.default, |value| same(text, value))
}

fn same(left: &str, right: &str) -> bool {
    let letters =
        |text: &str| text.split_ascii_whitespace().collect::<String>().to_ascii_lowercase();
    letters(left) == letters(right)
}

/// Calls `look` with each block and the start of its settings' names in the register (`service/unix_listener/`), the
/// `protocol` blocks of other protocols left out when one is named.
pub(super) fn visit(
    section: &Section,
    path: &str,
    protocol: Option<&str>,
    look: &mut dyn FnMut(&str, &Section),
) {
    look(path, section);
    for inner in section.sections.iter().filter(|inner| plugins::concerns(inner, protocol)) {
        let kind = inner.kind.as_str();
        if path.is_empty() && FILTERS.contains(&kind) {
            visit(inner, path, protocol, look);
        } else {
            visit(inner, &format!("{path}{kind}/"), protocol, look);
        }
    }
}

fn check_section(path: &str, section: &Section, loaded: &[Loaded], problems: &mut Problems) {
    for inner in &section.sections {
        check_block(path, inner, problems);
    }
    if OF_ANY_NAME.contains(&path) {
        return;
    }
    for (name, value) in &section.settings {
        let foreign = path == "plugin/" && plugins::is_foreign(name, loaded);
        if !foreign || fact_of(&format!("{path}{name}")).is_some() {
            check_setting(path, name, value, problems);
        }
    }
}

fn check_block(path: &str, block: &Section, problems: &mut Problems) {
    let kind = block.kind.as_str();
    let known =
        BLOCKS.iter().find(|(parent, _)| *parent == path).map_or(&[][..], |(_, kinds)| kinds);
    let filter = path.is_empty() && FILTERS.contains(&kind);
    if !filter && !known.contains(&kind) {
        if BLOCKS.iter().any(|(parent, _)| *parent == path) || path.is_empty() {
            let meant = nearest(kind, known.iter().chain(FILTERS).copied());
            let what = format!("unknown block \"{kind}\"");
            problems.error(block.at.clone(), what).instead(
                meant.map_or("remove it".to_owned(), |meant| format!("did you mean {meant}?")),
            );
        }
        return;
    }
    let needs_name =
        filter || matches!(kind, "service" | "unix_listener" | "fifo_listener" | "mailbox");
    if needs_name && block.name.is_none() {
        problems
            .error(block.at.clone(), format!("a {kind} block needs a name"))
            .instead(format!("write: {kind} NAME {{"));
    }
    if let ("local" | "remote", Some(name)) = (kind, &block.name)
        && super::view::parse_network(name).is_none()
    {
        problems
            .error(block.at.clone(), format!("{kind}: \"{name}\" is no network"))
            .instead("write address/prefix-length");
    }
}

fn check_setting(path: &str, name: &str, value: &Value, problems: &mut Problems) {
    let full = format!("{path}{name}");
    let Some(fact) = fact_of(&full) else { return unknown(path, name, &value.at, problems) };
    if fact.since == "2.4" {
        let what =
            format!("{name} belongs to Dovecot 2.4, and this file is in the language of 2.3");
        problems.error(value.at.clone(), what).instead(super::modern::renamed::before(name));
        return;
    }
    if let Err(fault) = kind::check(value, fact) {
        problems.error(value.at.clone(), format!("{name}: {}", fault.what)).instead(fault.instead);
    }
}

/// The row of a name; `quota_rule7` is read like `quota_rule`.
pub(super) fn fact_of(full: &str) -> Option<&'static Fact> {
    find(FACTS, full).or_else(|| {
        let plugin = full.strip_prefix("plugin/")?;
        let base = plugin.trim_end_matches(|c: char| c.is_ascii_digit());
        let numbered =
            (base.len() < plugin.len()).then(|| find(FACTS, &format!("plugin/{base}"))).flatten();
        // `imapsieve_mailbox7_name` is like `imapsieve_mailbox1_name`.
        let first = |c: char| if c.is_ascii_digit() { '1' } else { c };
        numbered
            .or_else(|| find(FACTS, &full.chars().map(first).collect::<String>()))
            // Each language has its own filters.
            .or_else(|| {
                plugin.starts_with("fts_filters_").then(|| find(FACTS, "plugin/fts_filters_en"))?
            })
    })
}

fn unknown(path: &str, name: &str, at: &Place, problems: &mut Problems) {
    let here = FACTS
        .iter()
        .filter(|fact| fact.since != "2.4")
        .filter_map(|fact| fact.name.strip_prefix(path));
    let meant = nearest(name, here.filter(|name| !name.contains('/')));
    let instead = |meant: Option<&str>| {
        meant.map_or("remove it".to_owned(), |meant| format!("did you mean {meant}?"))
    };
    if path == "plugin/" {
        // Dovecot takes any name here; plugins of others have their own.
        problems
            .warning(at.clone(), format!("unknown plugin setting {name}, which nothing reads"))
            .instead(instead(meant));
        return;
    }
    let place = path.trim_end_matches('/').replace('/', " ");
    let inside = if place.is_empty() { String::new() } else { format!(" in a {place} block") };
    problems.error(at.clone(), format!("unknown setting {name}{inside}")).instead(instead(meant));
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use crate::Problems;
    use crate::files::Memory;

    fn refused(text: &str) -> String {
        told("lmtp", text)
    }

    fn told(protocol: &str, text: &str) -> String {
        let files = Memory::with([("/d.conf", text), ("/plugins", "quota\nzlib\n")]);
        let mut problems = Problems::default();
        let config = Config::read(&files, "/d.conf".as_ref(), &mut problems);
        config.report_unsupported(&[protocol, "mail"], &mut problems);
        problems.to_string()
    }

    /// Any value may stand in a file of its own.
    #[test]
    fn plugins_that_a_file_names_are_told() {
        let text = "mail_plugins = </plugins\nprotocol imap {\n  mail_plugins = $mail_plugins imap_quota\n}\nssl_cert = </not/there\n";
        let told = told("imap", text);
        assert!(told.contains("/d.conf:1: the plugin zlib is not ours: compressed mail"), "{told}");
        assert!(!told.contains("plugin <") && !told.contains("/not/there"), "{told}");
        let slip = refused("ssl_ecrt = </not/there\n");
        assert!(slip.contains("/d.conf:1: unknown setting ssl_ecrt"), "{slip}");
    }

    /// A script for deliveries is nothing to mail readers.
    #[test]
    fn a_plugin_that_is_not_ours_is_told_to_those_who_would_load_it() {
        let text = "mail_plugins = quota fts other\nprotocol lmtp {\n  mail_plugins = $mail_plugins sieve\n}\n\
                    protocol imap {\n  mail_plugins = imap_quota zlib\n  imap_metadata = yes\n}\n\
                    plugin {\n  sieve_after = /x\n  other_thing = 1\n  quota_ruel = 1\n}\n";
        insta::assert_snapshot!(told("lmtp", text), @r#"
        /d.conf:12: warning: unknown plugin setting quota_ruel, which nothing reads; did you mean quota_rule?
        /d.conf:10: sieve_after: no scripts are run: mail goes where it would go without one; remove the line, or keep this service with Dovecot for now
        /d.conf:1: warning: the plugin fts is not ours: there is no full-text index: searches read the mail itself
        /d.conf:1: warning: the plugin other is not ours: what it does is not done
        /d.conf:3: the plugin sieve is not ours: no scripts are run: mail goes where it would go without one; take it out of mail_plugins, or keep this service with Dovecot for now
        "#);
        let of_imap = told("imap", text);
        assert!(
            of_imap.contains("/d.conf:6: the plugin zlib is not ours: compressed mail"),
            "{of_imap}"
        );
        assert!(!of_imap.contains("sieve"), "{of_imap}");
        let modern = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\nmail_plugins = quota fts\n\
                      protocol imap {\n  mail_plugins {\n    mail_compress = yes\n  }\n}\nsieve_max_actions = 3\n\
                      protocol lmtp {\n  mail_plugins {\n    sieve = yes\n  }\n}\n";
        insta::assert_snapshot!(told("imap", modern), @r#"
        /d.conf:3: warning: the plugin fts is not ours: there is no full-text index: searches read the mail itself
        /d.conf:6: the plugin mail_compress is not ours: compressed mail cannot be read; take it out of mail_plugins, or keep this service with Dovecot for now
        "#);
        assert!(
            told("lmtp", modern).contains("/d.conf:9: sieve_max_actions: "),
            "{}",
            told("lmtp", modern)
        );
    }

    /// Debian's shipped files have such settings.
    #[test]
    fn a_plugins_settings_count_once_the_plugin_is_loaded() {
        let settings = "plugin {\n  sieve = file:~/sieve;active=~/.dovecot.sieve\n}\n";
        assert_eq!(refused(settings), "");
        let loaded = format!("{settings}protocol lmtp {{\n  mail_plugins = sieve\n}}\n");
        assert!(refused(&loaded).starts_with("/d.conf:2: sieve: "), "{}", refused(&loaded));
    }
}
