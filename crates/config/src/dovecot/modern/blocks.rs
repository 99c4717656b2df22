//! Namespaces, passdbs, userdbs and services of 2.4 in the words of 2.3.
//!
//! Read: dovecot, on behalf of the daemons.

use super::super::names::FACTS;
use super::super::tree::{Section, Value};
use super::lists::{self, Step};
use super::mail::{self, Places};
use super::translate::{Around, joined, text};
use crate::Problems;
use crate::register::find;

/// A block of 2.3 with the settings whose name begins with `prefix`, as far as 2.3 has them in `path`.
fn plain(block: &Section, prefix: &str, path: &str) -> Section {
    let kind = prefix.trim_end_matches('_');
    let mut out = Section::new(kind, block.name.clone(), block.at.clone());
    for (name, value) in &block.settings {
        if let Some(short) = name.strip_prefix(prefix)
            && !matches!(short, "name" | "path")
            && find(FACTS, &format!("{path}{short}")).is_some()
        {
            out.settings.push((short.to_owned(), value.clone()));
        }
    }
    for list in &block.sections {
        if let Some(short) = list.kind.strip_prefix(prefix)
            && find(FACTS, &format!("{path}{short}")).is_some()
        {
            push_list(block, &list.kind, short, &mut out);
        }
    }
    out
}

/// The list `name` of the block, as words.
fn push_list(block: &Section, name: &str, short: &str, out: &mut Section) {
    let steps = lists::steps(block, name);
    let Some(Step::Only(value) | Step::Set(_, value)) = steps.first() else { return };
    let words = joined(&lists::elements(&steps));
    out.settings.retain(|(known, _)| known != short);
    out.settings.push((short.to_owned(), Value { text: words, file: None, at: value.at.clone() }));
}

pub fn namespace(block: &Section, around: &Around, problems: &mut Problems) -> Section {
    let mut out = plain(block, "namespace_", "namespace/");
    if let Some((_, prefix)) = out.settings.iter_mut().rfind(|(name, _)| name == "prefix") {
        *prefix = text("namespace_prefix", prefix, problems);
    }
    if Places::speaks(block)
        && let Some(location) = around.places.with(block).location(problems)
    {
        out.settings.push(("location".to_owned(), location));
    }
    for inner in block.sections_of("mailbox") {
        let mut mailbox = plain(inner, "mailbox_", "namespace/mailbox/");
        if inner.value("mailbox_special_use").is_some() {
            push_list(inner, "mailbox_special_use", "special_use", &mut mailbox);
        }
        if let Some(name) = inner.value("mailbox_name") {
            mailbox.name = Some(name.text.clone());
        }
        out.sections.push(mailbox);
    }
    out
}

/// What is the same in both kinds of database.
fn database(block: &Section, prefix: &str) -> Section {
    let kind = prefix.trim_end_matches('_');
    let mut out = plain(block, prefix, &format!("{kind}/"));
    // The words of 2.3 for these stand in `args`, in `default_fields` and in `override_fields`.
    out.settings.retain(|(name, _)| !name.ends_with("fields") && name != "args");
    if block.value(&format!("{prefix}driver")).is_none()
        && let Some(name) = &block.name
    {
        let driver = Value { text: name.clone(), file: None, at: block.at.clone() };
        out.settings.push(("driver".to_owned(), driver));
    }
    out
}

fn driver(block: &Section) -> String {
    block.value("driver").map_or(String::new(), |value| value.text.clone())
}

/// `fields { uid = vmail  home:default = /x }`
fn fields(block: &Section, list: &str, out: &mut Section, problems: &mut Problems) {
    for (ending, name) in [(false, "override_fields"), (true, "default_fields")] {
        let chosen = block.sections_of(list).flat_map(|list| &list.settings);
        let chosen = chosen.filter(|(key, _)| key.ends_with(":default") == ending);
        let mut words = Vec::new();
        let mut at = None;
        for (key, value) in chosen {
            let value = text(list, value, problems);
            if value.text.contains([' ', '\t']) {
                problems
                    .error(
                        value.at.clone(),
                        format!("{list} {key}: a value with a blank is not supported"),
                    )
                    .instead("write one word");
                continue;
            }
            at.get_or_insert_with(|| value.at.clone());
            words.push(format!("{}={}", key.trim_end_matches(":default"), value.text));
        }
        if let Some(at) = at {
            let value = Value { text: words.join(" "), file: None, at };
            out.settings.push((name.to_owned(), value));
        }
    }
}

/// `scheme=S username_format=F PATH`, as 2.3 has it.
fn password_file(block: &Section, out: &mut Section, problems: &mut Problems) {
    let Some(path) = block.value("passwd_file_path") else { return };
    let mut words = Vec::new();
    if let Some(scheme) = block.value("passdb_default_password_scheme") {
        words.push(format!("scheme={}", scheme.text));
    }
    if let Some(format) = block.value("auth_username_format") {
        let format = text("auth_username_format", format, problems);
        words.push(format!("username_format={}", format.text));
    }
    words.push(text("passwd_file_path", path, problems).text);
    let args = Value { text: words.join(" "), file: None, at: path.at.clone() };
    out.settings.push(("args".to_owned(), args));
}

pub fn passdb(block: &Section, problems: &mut Problems) -> Section {
    let mut out = database(block, "passdb_");
    if block.value("passdb_mechanisms_filter").is_some()
        || block.sections_of("passdb_mechanisms_filter").next().is_some()
    {
        push_list(block, "passdb_mechanisms_filter", "mechanisms", &mut out);
    }
    match driver(&out).as_str() {
        "passwd-file" => password_file(block, &mut out, problems),
        "pam" => pam(block, &mut out, problems),
        "static" => {
            if let Some(password) = block.value("passdb_static_password") {
                let written = text("passdb_static_password", password, problems);
                let args = Value { text: format!("password={}", written.text), ..written };
                out.settings.push(("args".to_owned(), args));
            }
        }
        _ => {}
    }
    fields(block, "passdb_fields", &mut out, problems);
    out
}

fn pam(block: &Section, out: &mut Section, problems: &mut Problems) {
    let mut words = Vec::new();
    let mut at = None;
    let shown = block.value("passdb_pam_failure_show_msg");
    if let Some(value) = shown.filter(|value| lists::is_yes(&value.text)) {
        words.push("failure_show_msg=yes".to_owned());
        at = Some(value.at.clone());
    }
    if let Some(service) = block.value("passdb_pam_service_name") {
        let service = text("passdb_pam_service_name", service, problems);
        words.push(service.text);
        at = Some(service.at);
    }
    if let Some(at) = at {
        out.settings.push(("args".to_owned(), Value { text: words.join(" "), file: None, at }));
    }
}

pub fn userdb(block: &Section, around: &Around, problems: &mut Problems) -> Section {
    let mut out = database(block, "userdb_");
    match driver(&out).as_str() {
        "passwd-file" => password_file(block, &mut out, problems),
        "static" => {
            let all = block.value("userdb_static_allow_all_users");
            if let Some(all) = all.filter(|all| lists::is_yes(&all.text)) {
                let args = Value { text: "allow_all_users=yes".to_owned(), ..all.clone() };
                out.settings.push(("args".to_owned(), args));
            }
        }
        _ => {}
    }
    let mut known = block.clone();
    for list in known.sections.iter_mut().filter(|list| list.kind == "userdb_fields") {
        list.settings = user_fields(&list.settings, around, problems);
    }
    fields(&known, "userdb_fields", &mut out, problems);
    out
}

/// Fields named after settings of 2.4, as the fields that 2.3 has for them.
fn user_fields(
    written: &[(String, Value)],
    around: &Around,
    problems: &mut Problems,
) -> Vec<(String, Value)> {
    let mut fields: Vec<(String, Value)> = Vec::new();
    let location = ["mail_driver", "mail_path", "mail_inbox_path", "mail_index_path"];
    let mut said = Vec::new();
    for (key, value) in written {
        match key.trim_end_matches(":default") {
            name if location.contains(&name) => said.push((name.to_owned(), value.clone())),
            "quota_storage_size" => {
                let size = mail::plain_size(value, problems);
                let rule = Value { text: format!("*:storage={size}"), ..value.clone() };
                fields.push(("quota_rule".to_owned(), rule));
            }
            _ => fields.push((key.clone(), value.clone())),
        }
    }
    if !said.is_empty()
        && let Some(mail) = around.places.with_settings(&said).untranslated()
    {
        fields.push(("mail".to_owned(), mail));
    }
    fields
}

pub fn service(block: &Section) -> Section {
    let mut out = plain(block, "service_", "service/");
    for (name, value) in &block.settings {
        let (short, value) = match name.as_str() {
            "service_restart_request_count" if value.text == "unlimited" => {
                ("service_count", Value { text: "0".to_owned(), ..value.clone() })
            }
            "service_restart_request_count" => ("service_count", value.clone()),
            "service_idle_kill_interval" => ("idle_kill", value.clone()),
            _ => continue,
        };
        out.settings.push((short.to_owned(), value));
    }
    if block.value("service_extra_groups").is_some() {
        push_list(block, "service_extra_groups", "extra_groups", &mut out);
    }
    for inner in &block.sections {
        match inner.kind.as_str() {
            "unix_listener" | "fifo_listener" => {
                let kind = inner.kind.as_str();
                let mut listener = plain(inner, &format!("{kind}_"), &format!("service/{kind}/"));
                let path = if kind == "unix_listener" {
                    "unix_listener_path"
                } else {
                    "fifo_listener_path"
                };
                if let Some(path) = inner.value(path) {
                    listener.name = Some(path.text.clone());
                }
                out.sections.push(listener);
            }
            "inet_listener" => {
                let mut listener = plain(inner, "inet_listener_", "service/inet_listener/");
                if inner.value("listen").is_some() || inner.sections_of("listen").next().is_some() {
                    push_list(inner, "listen", "address", &mut listener);
                }
                out.sections.push(listener);
            }
            _ => {}
        }
    }
    out
}

/// From 2.4.1 on, `auth-userdb` has Dovecot's internal group where the file names none.
pub fn auth_userdb_group(out: &mut Section, written: &Section) {
    let version = written.value("dovecot_config_version").map_or("", |value| value.text.as_str());
    if version == "2.4.0" {
        return;
    }
    let group = written.value("default_internal_group").map_or("dovecot", |group| &group.text);
    let nowhere = crate::Place::file("defaults");
    let mut auth = Section::new("service", Some("auth".to_owned()), nowhere.clone());
    let mut listener =
        Section::new("unix_listener", Some("auth-userdb".to_owned()), nowhere.clone());
    let value = Value { text: group.to_owned(), file: None, at: nowhere };
    listener.settings.push(("group".to_owned(), value));
    auth.sections.push(listener);
    // Before all that the file says.
    out.sections.insert(0, auth);
}
