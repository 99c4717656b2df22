//! Lists: `protocols = imap pop3`, or one by one: `protocols { imap = yes  pop3 = no }`.

use super::super::tree::{Section, Value};
use crate::Problems;
use crate::register::Fact;

/// Settings that hold names with values.
const OF_VALUES: &[&str] = &[
    "auth_policy_request_attributes",
    "charset_aliases",
    "fs_randomfail_ops",
    "imap_id_send",
    "import_environment",
    "lua_settings",
    "oauth2_fields",
    "passdb_fields",
    "pgsql_parameters",
    "sieve_environment",
    "sieve_spamtest_text_value",
    "sieve_virustest_text_value",
    "userdb_fields",
    "userdb_ldap_iterate_fields",
];
/// Lists of 2.4 that are plain text in 2.3, so in the register.
const TEXT_BEFORE: &[&str] = &[
    "imap_capability",
    "imapc_features",
    "imapc_sasl_mechanisms",
    "mail_always_cache_fields",
    "mail_attachment_detection_options",
    "mail_cache_fields",
    "mail_never_cache_fields",
    "mbox_read_locks",
    "mbox_write_locks",
    "pop3c_features",
    "submission_backend_capabilities",
];

pub fn holds_values(name: &str) -> bool {
    OF_VALUES.contains(&name)
}

pub fn is_list(fact: &Fact) -> bool {
    fact.kind == "list" || holds_values(fact.name) || TEXT_BEFORE.contains(&fact.name)
}

/// What one scope says of a list, in order.
#[derive(Clone, Debug)]
pub enum Step {
    /// `= a b`: these and no others.
    Only(Value),
    /// `{ a = yes }`
    Set(String, Value),
}

/// All that a scope says of the list `name`.
pub fn steps(scope: &Section, name: &str) -> Vec<Step> {
    let mut steps: Vec<(usize, Step)> = Vec::new();
    let order = |value: &Value| value.at.line;
    for (_, value) in scope.settings.iter().filter(|(known, _)| known == name) {
        steps.push((order(value), Step::Only(value.clone())));
    }
    for block in scope.sections_of(name) {
        let inner = block.settings.iter();
        steps.extend(
            inner.map(|(key, value)| (order(value), Step::Set(key.clone(), value.clone()))),
        );
    }
    // Settings and blocks are kept apart: within one file their lines tell the order.
    let one_file = steps.windows(2).all(|pair| place(&pair[0].1) == place(&pair[1].1));
    if one_file {
        steps.sort_by_key(|(line, _)| *line);
    }
    steps.into_iter().map(|(_, step)| step).collect()
}

fn place(step: &Step) -> &std::path::Path {
    let (Step::Only(value) | Step::Set(_, value)) = step;
    &value.at.file
}

/// The elements that are on after these steps.
pub fn elements(steps: &[Step]) -> Vec<(String, Value)> {
    let mut elements: Vec<(String, Value)> = Vec::new();
    for step in steps {
        match step {
            Step::Only(value) => {
                elements = words(&value.text)
                    .into_iter()
                    .map(|word| (word, Value { file: None, ..value.clone() }))
                    .collect();
            }
            Step::Set(name, value) => {
                elements.retain(|(known, _)| known != name);
                if is_yes(&value.text) {
                    elements.push((name.clone(), value.clone()));
                }
            }
        }
    }
    elements
}

pub fn is_yes(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "yes" | "y" | "1")
}

/// The words of `= a "b c" d`.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once([' ', ',', '\t']).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start_matches([' ', ',', '\t']);
    }
    words
}

/// Each element of a list block is switched on or off.
pub fn check(block: &Section, problems: &mut Problems) {
    if holds_values(&block.kind) {
        return;
    }
    for (name, value) in &block.settings {
        let plain = !value.text.contains("%{");
        if plain && !is_yes(&value.text) && !value.text.eq_ignore_ascii_case("no") {
            let what = format!("{} {name}: \"{}\" is neither yes nor no", block.kind, value.text);
            problems.error(value.at.clone(), what).instead("write yes or no");
        }
    }
}
