//! The completed tree of 2.4 in the words of 2.3.
//!
//! Read: dovecot, on behalf of the daemons.

use super::super::names::FACTS;
use super::super::tree::{Section, Value};
use super::lists::{self, Step};
use super::mail::Places;
use super::scope::FILTERS;
use super::{blocks, fact_of, mail, variables};
use crate::register::{Mark, find};
use crate::{Place, Problems};

/// The same setting under another name.
const RENAMED: &[(&str, &str)] = &[
    ("auth_default_domain", "auth_default_realm"),
    ("ssl_server_cert_file", "ssl_cert"),
    ("ssl_server_key_file", "ssl_key"),
];
/// Settings whose %-variables are expanded, by us too.
const EXPANDED: &[&str] = &[
    "auth_username_format",
    "imap_logout_format",
    "login_log_format",
    "login_log_format_elements",
    "mail_gid",
    "mail_home",
    "mail_log_prefix",
    "mail_uid",
    "pop3_logout_format",
    "pop3_uidl_format",
];

/// What the blocks around say.
#[derive(Clone, Default)]
pub struct Around {
    /// Steps of each list.
    lists: Vec<(String, Vec<Step>)>,
    pub places: Places,
}

pub fn translate(written: &Section, problems: &mut Problems) -> Section {
    let mut out = scope(written, &Around::default(), problems);
    blocks::auth_userdb_group(&mut out, written);
    out
}

/// The whole file, or a filter block.
fn scope(written: &Section, around: &Around, problems: &mut Problems) -> Section {
    let mut out = Section::new(written.kind.clone(), written.name.clone(), written.at.clone());
    let mut around = around.clone();
    around.places = around.places.with(written);
    for (name, value) in &written.settings {
        setting(name, value, &mut out, problems);
    }
    lists_of(written, &mut around, &mut out, problems);
    if mail::Places::speaks(written)
        && let Some(location) = around.places.location(problems)
    {
        out.settings.push(("mail_location".to_owned(), location));
    }
    mail::quota(written, &mut out, problems);
    for block in &written.sections {
        match block.kind.as_str() {
            kind if FILTERS.contains(&kind) => out.sections.push(scope(block, &around, problems)),
            "namespace" => out.sections.push(blocks::namespace(block, &around, problems)),
            "passdb" => out.sections.push(blocks::passdb(block, problems)),
            "userdb" => out.sections.push(blocks::userdb(block, &around, problems)),
            "service" => out.sections.push(blocks::service(block)),
            _ => {}
        }
    }
    out
}

fn setting(name: &str, value: &Value, out: &mut Section, problems: &mut Problems) {
    if fact_of(name).is_some_and(lists::is_list) {
        return;
    }
    let renamed = RENAMED.iter().find(|(modern, _)| *modern == name).map(|(_, old)| *old);
    let (name, value) = match (name, renamed) {
        (_, Some(old)) => (old, value.clone()),
        ("auth_allow_cleartext", _) => ("disable_plaintext_auth", opposite(value)),
        ("ssl_server_prefer_ciphers", _) => {
            let text = if value.text == "server" { "yes" } else { "no" };
            ("ssl_prefer_server_ciphers", Value { text: text.to_owned(), ..value.clone() })
        }
        _ => (name, value.clone()),
    };
    // What 2.3 has no name for is told by the report of unsupported settings, or translated with its block.
    if find(FACTS, name).is_none_or(|fact| fact.since == "2.4") {
        return;
    }
    let value = if EXPANDED.contains(&name) { text(name, &value, problems) } else { value };
    out.settings.push((name.to_owned(), value));
}

fn opposite(value: &Value) -> Value {
    let text = if lists::is_yes(&value.text) { "no" } else { "yes" };
    Value { text: text.to_owned(), ..value.clone() }
}

/// The value with its variables in the words of 2.3.
pub fn text(name: &str, value: &Value, problems: &mut Problems) -> Value {
    match variables::translate(name, &value.text) {
        Ok(text) => Value { text, ..value.clone() },
        Err(fault) => {
            problems
                .error(value.at.clone(), format!("{name}: {}", fault.what))
                .instead(fault.instead);
            Value { text: String::new(), ..value.clone() }
        }
    }
}

/// Lists add up from the outer to the inner block, unless one is written with `=`.
fn lists_of(written: &Section, around: &mut Around, out: &mut Section, problems: &mut Problems) {
    let blocks = written.sections.iter().map(|block| (block.kind.as_str(), &block.at));
    let settings = written.settings.iter().map(|(name, value)| (name.as_str(), &value.at));
    let mut names: Vec<(&str, &Place)> = Vec::new();
    for (name, at) in settings.chain(blocks) {
        let list = fact_of(name).is_some_and(lists::is_list);
        if list && !names.iter().any(|(known, _)| *known == name) {
            names.push((name, at));
        }
    }
    for (name, at) in names {
        let known = find(FACTS, name).filter(|fact| fact.since != "2.4");
        let Some(fact) = known else { continue };
        let mut steps = around
            .lists
            .iter()
            .find(|(known, _)| known == name)
            .map_or_else(Vec::new, |(_, steps)| steps.clone());
        let own = lists::steps(written, name);
        steps.extend(own.iter().cloned());
        let text = match name {
            "imap_id_send" => id(&steps, problems),
            "imap_capability" => capability(&steps, problems),
            _ => joined(&lists::elements(&steps)),
        };
        // What is obeyed nowhere is reported where it is written.
        if fact.mark != Mark::Unsupported {
            out.settings.push((name.to_owned(), Value { text, file: None, at: at.clone() }));
        }
        around.lists.retain(|(known, _)| known != name);
        around.lists.push((name.to_owned(), steps));
    }
}

pub fn joined(elements: &[(String, Value)]) -> String {
    elements.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

/// `imap_id_send { vendor = x }` as `name * vendor x`: Dovecot's own name is there unless it is changed.
fn id(steps: &[Step], problems: &mut Problems) -> String {
    let mut pairs = vec![("name".to_owned(), "*".to_owned())];
    for step in steps {
        let Step::Set(name, value) = step else {
            pairs.clear();
            continue;
        };
        if value.text.contains([' ', '\t']) || value.text.contains("%{") {
            problems
                .error(
                    value.at.clone(),
                    format!("imap_id_send {name}: only one plain word is supported"),
                )
                .instead("write one word");
            continue;
        }
        pairs.retain(|(known, _)| known != name);
        pairs.push((name.clone(), value.text.clone()));
    }
    pairs.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" ")
}

/// `= A B` is the whole list; `{ X = yes }` adds to ours.
fn capability(steps: &[Step], problems: &mut Problems) -> String {
    let whole = steps.iter().any(|step| matches!(step, Step::Only(_)));
    let off = steps.iter().filter_map(|step| match step {
        Step::Set(name, value) if !whole && !lists::is_yes(&value.text) => Some((name, value)),
        _ => None,
    });
    for (name, value) in off {
        problems
            .warning(value.at.clone(), format!("imap_capability: {name} stays in our own list"))
            .instead("write the whole list: imap_capability = IMAP4rev1 …");
    }
    let names = joined(&lists::elements(steps));
    if whole || names.is_empty() { names } else { format!("+{names}") }
}
