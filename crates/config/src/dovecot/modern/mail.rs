//! Where mail lies and how much of it there may be: `mail_path` and its like as `mail_location`, `quota` as its plugin's
//! settings.
//!
//! Read: dovecot, on behalf of the daemons.

use super::super::tree::{Section, Value};
use super::lists;
use super::translate::text;
use crate::{Place, Problems};

/// What becomes a field of `mail_location`, in the order in which we write them.
const FIELDS: &[(&str, &str)] = &[
    ("mail_inbox_path", "INBOX"),
    ("mail_index_path", "INDEX"),
    ("mail_control_path", "CONTROL"),
    ("mailbox_list_layout", "LAYOUT"),
    ("mailbox_subscriptions_filename", "SUBSCRIPTIONS"),
];

/// The settings that say where mail lies, of a block and those around it.
#[derive(Clone, Default)]
pub struct Places(Vec<(String, Value)>);

fn is_place(name: &str) -> bool {
    matches!(name, "mail_driver" | "mail_path" | "mailbox_list_utf8")
        || FIELDS.iter().any(|(known, _)| *known == name)
}

impl Places {
    /// Whether a setting is one of them.
    pub fn obeys(name: &str) -> bool {
        is_place(name)
    }

    /// Whether the block itself says anything about it.
    pub fn speaks(block: &Section) -> bool {
        block.settings.iter().any(|(name, _)| is_place(name))
    }

    /// These, with what the block says over them.
    #[must_use]
    pub fn with(&self, block: &Section) -> Self {
        self.with_settings(&block.settings)
    }

    #[must_use]
    pub fn with_settings(&self, settings: &[(String, Value)]) -> Self {
        let mut all = self.clone();
        for (name, value) in settings.iter().filter(|(name, _)| is_place(name)) {
            all.0.retain(|(known, _)| known != name);
            all.0.push((name.clone(), value.clone()));
        }
        all
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// All of them as one `mail_location`, at the place of the path.
    pub fn location(&self, problems: &mut Problems) -> Option<Value> {
        self.joined(&mut |name, value| {
            let translated = text(name, value, problems).text;
            if translated.replace("db:", "").contains(':') {
                problems
                    .error(
                        value.at.clone(),
                        format!("{name}: a path with a colon is not supported"),
                    )
                    .instead("name a path without one");
            }
            translated
        })
    }

    /// The same with the variables as they are written.
    pub fn untranslated(&self) -> Option<Value> {
        self.joined(&mut |_, value| value.text.clone())
    }

    fn joined(&self, part: &mut dyn FnMut(&str, &Value) -> String) -> Option<Value> {
        let first = self.get("mail_path").or_else(|| self.get("mail_driver"));
        let at = first.or_else(|| self.0.first().map(|(_, value)| value))?.at.clone();
        let plain = |name: &str| self.get(name).map_or("", |value| value.text.as_str());
        let driver = plain("mail_driver");
        let mut location = match driver {
            "" => String::new(),
            driver => format!("{driver}:"),
        };
        if let Some(path) = self.get("mail_path") {
            location.push_str(&part("mail_path", path));
        }
        for (name, field) in FIELDS {
            let Some(value) = self.get(name).filter(|value| !value.text.is_empty()) else {
                continue;
            };
            let usual = match *name {
                "mailbox_list_layout" => value.text == usual_layout(driver),
                "mailbox_subscriptions_filename" => value.text == "subscriptions",
                _ => false,
            };
            if !usual {
                location.push_str(&format!(":{field}={}", part(name, value)));
            }
        }
        if lists::is_yes(plain("mailbox_list_utf8")) {
            location.push_str(":UTF-8");
        }
        Some(Value { text: location, file: None, at })
    }
}

/// The layout that a driver has when nothing is said.
fn usual_layout(driver: &str) -> &'static str {
    match driver {
        "maildir" | "" => "maildir++",
        _ => "fs",
    }
}

/// `quota "User quota" { storage_size = 1G }` as `plugin { quota = …  quota_rule = … }`.
pub fn quota(written: &Section, out: &mut Section, problems: &mut Problems) {
    let mut roots = written.sections_of("quota");
    let Some(root) = roots.next() else { return };
    for more in roots {
        problems
            .error(more.at.clone(), "more than one quota root is not supported")
            .instead("write one quota block");
    }
    let own = |name: &str| root.value(name).or_else(|| written.value(name));
    let mut plugin = Section::new("plugin", None, root.at.clone());
    let mut push = |name: &str, text: String, at: Place| {
        plugin.settings.push((name.to_owned(), Value { text, file: None, at }));
    };
    let driver = own("quota_driver");
    let at = driver.map_or_else(|| root.at.clone(), |value| value.at.clone());
    let driver = driver.map_or("count", |value| value.text.as_str());
    let name = own("quota_name").map(|value| value.text.as_str());
    let name = name.or(root.name.as_deref()).unwrap_or_default();
    push("quota", format!("{driver}:{name}"), at);
    if let Some(rule) = rule(&own, "*", problems) {
        push("quota_rule", rule.text, rule.at);
    }
    match own("quota_storage_grace") {
        Some(grace) => push("quota_grace", grace.text.clone(), grace.at.clone()),
        None => push("quota_grace", "10M".to_owned(), root.at.clone()),
    }
    out.sections.push(plugin);
}

/// `*:storage=1G:messages=1000`
fn rule<'v>(
    own: &dyn Fn(&str) -> Option<&'v Value>,
    mailbox: &str,
    problems: &mut Problems,
) -> Option<Value> {
    let limit = |name: &str| own(name).filter(|value| value.text != "unlimited");
    let storage = limit("quota_storage_size");
    let messages = limit("quota_message_count");
    let at = storage.or(messages)?.at.clone();
    let mut text = mailbox.to_owned();
    if let Some(storage) = storage {
        text.push_str(&format!(":storage={}", plain_size(storage, problems)));
    }
    if let Some(messages) = messages {
        text.push_str(&format!(":messages={}", messages.text));
    }
    Some(Value { text, file: None, at })
}

/// A size of 2.4 counts octets when it has no unit, a rule of 2.3 kibibytes.
pub fn plain_size(value: &Value, problems: &mut Problems) -> String {
    let text: String = value.text.split_ascii_whitespace().collect();
    if text.contains('%') {
        problems
            .error(value.at.clone(), "a %-variable in a quota limit is not supported")
            .instead("write a size such as 1G");
    }
    if text.ends_with(|c: char| c.is_ascii_digit()) { format!("{text}B") } else { text }
}
