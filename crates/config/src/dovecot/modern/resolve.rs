//! Completing and checking every name of a file: prefixes, paths, groups.

use std::collections::BTreeMap;

use super::super::kind;
use super::super::tree::{Section, Value};
use super::lists;
use super::renamed;
use super::scope::{FILTERS, Scope, is_block, is_named};
use super::{fact_of, is_modern};
use crate::dovecot::FACTS;
use crate::suggest::nearest;
use crate::{Place, Problems};

type Groups = BTreeMap<(String, String), Section>;

/// `service/auth/unix_listener/x/mode` has four.
const DEEPEST_PATH: usize = 16;
/// Each inclusion copies the group.
const MOST_GROUPS: usize = 100;

/// The folders that Dovecot has in its group `@mailbox_defaults english`.
const ENGLISH: &[(&str, &str)] =
    &[("Drafts", "\\Drafts"), ("Junk", "\\Junk"), ("Sent", "\\Sent"), ("Trash", "\\Trash")];

/// The tree with full names, groups in the place of their names, blocks of one name as one.
pub fn resolve(root: &Section, problems: &mut Problems) -> Section {
    let mut groups = builtin(&root.at);
    let none = Groups::new();
    for group in root.sections.iter().filter(|section| section.kind.starts_with('@')) {
        let Some(name) = &group.name else { continue };
        let mut resolver = Resolver { groups: &none, problems, included: 0 };
        let whole = Section { kind: String::new(), name: None, ..group.clone() };
        let content = resolver.section(&whole, &Scope::default());
        groups.insert((group.kind.clone(), name.clone()), content);
    }
    Resolver { groups: &groups, problems, included: 0 }.section(root, &Scope::default())
}

fn builtin(at: &Place) -> Groups {
    let nowhere = at.at_line(0);
    let value = |text: &str| Value { text: text.to_owned(), file: None, at: nowhere.clone() };
    let mut inbox = Section::new("namespace", Some("inbox".to_owned()), nowhere.clone());
    inbox.settings.push(("namespace_inbox".to_owned(), value("yes")));
    for (name, flag) in ENGLISH {
        let mut mailbox = Section::new("mailbox", Some((*name).to_owned()), nowhere.clone());
        mailbox.settings.push(("mailbox_special_use".to_owned(), value(flag)));
        inbox.sections.push(mailbox);
    }
    let mut english = Section::new("", None, nowhere.clone());
    english.sections.push(inbox);
    let mut groups = Groups::new();
    groups.insert(("@mailbox_defaults".to_owned(), "english".to_owned()), english);
    for name in ["proxy", "backend"] {
        let empty = Section::new("", None, nowhere.clone());
        groups.insert(("@metric_defaults".to_owned(), name.to_owned()), empty);
    }
    groups
}

struct Resolver<'r> {
    groups: &'r Groups,
    problems: &'r mut Problems,
    included: usize,
}

impl Resolver<'_> {
    /// A block's content; `scope` is the innermost block that completes names.
    fn section(&mut self, section: &Section, scope: &Scope) -> Section {
        let mut out = Section::new(section.kind.clone(), section.name.clone(), section.at.clone());
        // Whatever its place, a group stands behind what the block says itself.
        for (key, value) in section.settings.iter().filter(|(key, _)| key.starts_with('@')) {
            self.group(key, value, &mut out);
        }
        for (key, value) in section.settings.iter().filter(|(key, _)| !key.starts_with('@')) {
            self.setting(key, value, scope, &mut out);
        }
        for block in &section.sections {
            if let Some(block) = self.block(block, scope) {
                place(&mut out, block);
            }
        }
        out
    }

    fn group(&mut self, key: &str, value: &Value, out: &mut Section) {
        self.included += 1;
        if self.included > MOST_GROUPS {
            self.problems
                .error(
                    value.at.clone(),
                    format!("groups are included more than {MOST_GROUPS} times"),
                )
                .instead("include fewer");
            return;
        }
        match self.groups.get(&(key.to_owned(), value.text.clone())) {
            // An `inbox` namespace named from inside that namespace means its folders.
            Some(group) if out.kind == "namespace" => {
                for inner in &group.sections {
                    if inner.kind == "namespace" && inner.name == out.name {
                        out.merge(inner);
                    } else if inner.kind != "namespace" {
                        add(out, inner.clone());
                    }
                }
                out.settings.extend(group.settings.iter().cloned());
            }
            Some(group) => {
                out.settings.extend(group.settings.iter().cloned());
                group.sections.iter().for_each(|block| add(out, block.clone()));
            }
            None => {
                let what = format!("there is no group {key} {}", value.text);
                self.problems
                    .error(value.at.clone(), what)
                    .instead(format!("write: group {key} {} {{", value.text));
            }
        }
    }

    fn setting(&mut self, key: &str, value: &Value, scope: &Scope, out: &mut Section) {
        if let Some((first, rest)) = key.split_once('/') {
            if rest.matches('/').count() > DEEPEST_PATH {
                self.problems
                    .error(value.at.clone(), format!("a name with more than {DEEPEST_PATH} parts"))
                    .instead("write blocks");
                return;
            }
            return self.path(first, rest, value, scope, out);
        }
        let Some(fact) = scope.setting(key) else {
            if let Some(fact) = scope.block(key) {
                let name = if is_named(fact.name) { " NAME" } else { "" };
                self.problems
                    .error(value.at.clone(), format!("{key} is a block"))
                    .instead(format!("write: {key}{name} {{"));
                return;
            }
            return self.unknown(key, value, scope);
        };
        let what = |what: &str| format!("{}: {what}", fact.name);
        let variable = value.text.contains("%{");
        if lists::holds_values(fact.name) && !value.text.is_empty() {
            self.problems
                .error(value.at.clone(), what("a list of names with values"))
                .instead(format!("write: {key} {{ and a line NAME = VALUE for each"));
            return;
        }
        if fact.kind == "file" {
            let value = self.file(fact.name, value);
            out.settings.push((fact.name.to_owned(), value));
            return;
        }
        if !variable && let Err(fault) = kind::check(value, fact) {
            self.problems.error(value.at.clone(), what(&fault.what)).instead(fault.instead);
        }
        out.settings.push((fact.name.to_owned(), value.clone()));
    }

    /// A setting whose value is the path of a file, or `inline:` and the content.
    fn file(&mut self, name: &str, value: &Value) -> Value {
        if let Some(path) = &value.file {
            self.problems
                .error(
                    value.at.clone(),
                    format!("{name}: the content of {} is no path", path.display()),
                )
                .instead(format!("write {name} = {}", path.display()));
            return value.clone();
        }
        match value.text.strip_prefix("inline:") {
            Some(content) => Value { text: content.to_owned(), ..value.clone() },
            None if value.text.is_empty() => value.clone(),
            None => {
                let directory = value.at.file.parent().unwrap_or("/".as_ref());
                let path = directory.join(&value.text);
                Value {
                    text: format!("<{}", path.display()),
                    file: Some(path),
                    at: value.at.clone(),
                }
            }
        }
    }

    /// `service/auth/unix_listener/x/mode = 0600`, `mail_plugins/quota = yes`
    fn path(&mut self, first: &str, rest: &str, value: &Value, scope: &Scope, out: &mut Section) {
        let Some(fact) = scope.block(first) else {
            return self.unknown(&format!("{first}/{rest}"), value, scope);
        };
        let (name, key) = match rest.split_once('/') {
            Some((name, key)) if is_named(fact.name) => (Some(name.to_owned()), key),
            _ => (None, rest),
        };
        let mut block = Section::new(first, name, value.at.clone());
        block.settings.push((key.to_owned(), value.clone()));
        if let Some(block) = self.block(&block, scope) {
            place(out, block);
        }
    }

    fn block(&mut self, block: &Section, scope: &Scope) -> Option<Section> {
        let kind = block.kind.as_str();
        if kind.starts_with('@') {
            let fault = match (scope.is_root(), &block.name) {
                (true, Some(_)) => None,
                (true, None) => Some("a group needs a name"),
                (false, _) => Some("a group stands outside all blocks"),
            };
            if let Some(fault) = fault {
                self.problems
                    .error(block.at.clone(), fault)
                    .instead(format!("write: group {kind} NAME {{"));
            }
            return None;
        }
        if FILTERS.contains(&kind) {
            return self.filter(block, scope);
        }
        let Some(fact) = scope.block(kind) else {
            self.unknown_block(block, scope);
            return None;
        };
        if lists::is_list(fact) && !(is_block(fact) && block.name.is_some()) {
            let list = Section { kind: fact.name.to_owned(), ..block.clone() };
            if list.name.is_some() || !list.sections.is_empty() {
                self.problems
                    .error(block.at.clone(), format!("{} is a list", fact.name))
                    .instead(format!("write: {kind} {{ and a line NAME = VALUE for each"));
                return None;
            }
            lists::check(&list, self.problems);
            return Some(list);
        }
        match (is_named(fact.name), &block.name) {
            (true, None) => {
                self.problems
                    .error(block.at.clone(), format!("a {kind} block needs a name"))
                    .instead(format!("write: {kind} NAME {{"));
                return None;
            }
            (false, Some(name)) => {
                self.problems
                    .error(
                        block.at.clone(),
                        format!("a {kind} block has no name, so not \"{name}\""),
                    )
                    .instead(format!("write: {kind} {{"));
            }
            _ => {}
        }
        let nested = scope.kind() == fact.name && matches!(fact.name, "namespace" | "mailbox")
            || fact.name == "service" && !scope.is_root()
            || fact.name == "namespace" && scope.kind() == "mailbox";
        if nested {
            self.problems
                .error(block.at.clone(), format!("a {kind} block inside a {} block", scope.kind()))
                .instead("close the outer block first");
            return None;
        }
        let full = Section { kind: fact.name.to_owned(), ..block.clone() };
        Some(self.section(&full, &Scope::inside(&full)))
    }

    /// `protocol imap { }` and the like: the names inside are those of the place where it stands.
    fn filter(&mut self, block: &Section, scope: &Scope) -> Option<Section> {
        let kind = block.kind.as_str();
        let Some(name) = &block.name else {
            self.problems
                .error(block.at.clone(), format!("a {kind} block needs a name"))
                .instead(format!("write: {kind} NAME {{"));
            return None;
        };
        if !scope.is_root() {
            self.problems
                .error(block.at.clone(), format!("{kind} {name} inside a {} block", scope.kind()))
                .instead(format!("write: {kind} {name} {{ {} … }}", scope.kind()));
            return None;
        }
        if matches!(kind, "local" | "remote") && super::super::view::parse_network(name).is_none() {
            self.problems
                .error(block.at.clone(), format!("{kind}: \"{name}\" is no network"))
                .instead("write address/prefix-length");
        }
        Some(self.section(block, scope))
    }

    fn unknown(&mut self, key: &str, value: &Value, scope: &Scope) {
        let place = match scope.kind() {
            "" => String::new(),
            kind => format!(" in a {kind} block"),
        };
        if let Some(today) = renamed::today(scope.kind(), key, &value.text) {
            self.problems
                .error(
                    value.at.clone(),
                    format!(
                        "{key} belongs to Dovecot 2.3, and this file is in the language of 2.4"
                    ),
                )
                .instead(today);
            return;
        }
        let prefix = format!("{}_", scope.kind());
        let here = FACTS.iter().filter(|fact| is_modern(fact)).map(|fact| fact.name);
        let short = here.clone().filter_map(|name| name.strip_prefix(prefix.as_str()));
        // In `passdb x { driver = pam }` the settings of pam need their full name.
        let ending = format!("_{key}");
        let of_driver =
            here.clone().find(|name| name.starts_with(prefix.as_str()) && name.ends_with(&ending));
        let meant =
            of_driver.filter(|_| !scope.is_root()).or_else(|| nearest(key, short.chain(here)));
        self.problems.error(value.at.clone(), format!("unknown setting {key}{place}")).instead(
            meant.map_or("remove it".to_owned(), |meant| format!("did you mean {meant}?")),
        );
    }

    fn unknown_block(&mut self, block: &Section, scope: &Scope) {
        let kind = block.kind.as_str();
        if let Some(today) = renamed::today(scope.kind(), kind, "") {
            self.problems
                .error(block.at.clone(), format!("{kind} {{ }} belongs to Dovecot 2.3, and this file is in the language of 2.4"))
                .instead(today);
            return;
        }
        if fact_of(kind).is_some() {
            self.problems
                .error(block.at.clone(), format!("{kind} is a setting, no block"))
                .instead(format!("write {kind} = VALUE"));
            return;
        }
        let known = FACTS.iter().filter(|fact| is_modern(fact) && is_block(fact));
        let meant = nearest(kind, known.map(|fact| fact.name).chain(FILTERS.iter().copied()));
        self.problems.error(block.at.clone(), format!("unknown block \"{kind}\"")).instead(
            meant.map_or("remove it".to_owned(), |meant| format!("did you mean {meant}?")),
        );
    }
}

/// Adds a block to a scope. What `ssl_server { key_file = x }` sets is `ssl_server_key_file`, outside the block.
fn place(scope: &mut Section, mut block: Section) {
    let outside = block.name.is_none()
        && fact_of(&block.kind).is_some_and(|fact| is_block(fact) && !is_named(fact.name));
    if outside {
        let prefix = format!("{}_", block.kind);
        let settings = std::mem::take(&mut block.settings);
        for (name, value) in settings {
            if !name.starts_with(&prefix) {
                block.settings.push((name, value));
                continue;
            }
            let later = |(known, other): &(String, Value)| {
                *known == name && other.at.file == value.at.file && other.at.line > value.at.line
            };
            let at = scope.settings.iter().position(later).unwrap_or(scope.settings.len());
            scope.settings.insert(at, (name, value));
        }
    }
    add(scope, block);
}

/// Adds a block to a scope; one of the same kind and name as another becomes one with it.
fn add(scope: &mut Section, block: Section) {
    let same = |known: &&mut Section| known.kind == block.kind && known.name == block.name;
    match scope.sections.iter_mut().find(same) {
        Some(known) => {
            known.settings.extend(block.settings);
            for inner in block.sections {
                add(known, inner);
            }
            if known.at.line == 0 {
                known.at = block.at;
            }
        }
        None => scope.sections.push(block),
    }
}
