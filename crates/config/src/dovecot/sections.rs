//! Namespaces, mailboxes, passdbs and userdbs, read.
//!
//! Read: dovecot, on behalf of the daemons.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::names::*;
use super::tree::Section;
use super::view::{View, typed};
use crate::register::Setting;
use crate::text::Word;
use crate::{Place, Problems};

/// `namespace NAME { }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub name: Option<String>,
    /// `private`, `shared` or `public`.
    pub kind: String,
    pub inbox: bool,
    pub prefix: String,
    /// Empty: the storage's own.
    pub separator: String,
    /// With `mail_location` in the place of an empty one.
    pub location: String,
    pub hidden: bool,
    /// `yes`, `no` or `children`.
    pub list: String,
    pub subscriptions: bool,
    pub ignore_on_failure: bool,
    pub order: u64,
    pub alias_for: String,
    pub mailboxes: Vec<Mailbox>,
    pub at: Option<Place>,
}

/// `mailbox NAME { }` in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    pub name: String,
    /// `no`, `create` or `subscribe`.
    pub auto: String,
    /// `\Sent \Drafts`, as written.
    pub special_use: Vec<String>,
    pub autoexpunge: Duration,
    pub autoexpunge_max_mails: u64,
    pub comment: String,
    pub at: Place,
}

/// `passdb { }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passdb {
    pub driver: String,
    pub args: String,
    pub default_fields: String,
    pub override_fields: String,
    pub mechanisms: Vec<Word>,
    pub username_filter: String,
    pub skip: String,
    pub result_success: String,
    pub result_failure: String,
    pub result_internalfail: String,
    pub deny: bool,
    pub pass: bool,
    pub master: bool,
    pub at: Place,
}

/// `userdb { }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Userdb {
    pub driver: String,
    pub args: String,
    pub default_fields: String,
    pub override_fields: String,
    pub skip: String,
    pub result_success: String,
    pub result_failure: String,
    pub result_internalfail: String,
    pub at: Place,
}

/// A block's settings, read one by one.
struct Block<'b, 'p> {
    section: &'b Section,
    problems: &'p mut Problems,
}

impl Block<'_, '_> {
    fn get<K: Kind>(&mut self, setting: Setting<K>) -> K::Value {
        let name = setting.name().rsplit('/').next().unwrap_or_default();
        typed(self.section.value(name), setting, self.problems)
    }
}

impl View<'_> {
    /// The namespaces that are not disabled. Without any, Dovecot has one that holds INBOX.
    pub fn namespaces(&self, problems: &mut Problems) -> Vec<Namespace> {
        let location = self.get(MAIL_LOCATION, problems);
        let blocks = self.blocks("namespace");
        if blocks.is_empty() {
            let whole = Section::new("namespace", None, Place::file(""));
            let only = namespace(&mut Block { section: &whole, problems }, &location);
            return vec![Namespace { inbox: true, at: None, ..only }];
        }
        let live = blocks.iter().filter_map(|section| {
            let mut block = Block { section, problems };
            (!block.get(NAMESPACE_DISABLED)).then(|| namespace(&mut block, &location))
        });
        live.collect()
    }

    /// The passdbs in their order; the master ones too.
    pub fn passdbs(&self, problems: &mut Problems) -> Vec<Passdb> {
        let blocks = self.blocks("passdb");
        blocks.iter().map(|section| passdb(&mut Block { section, problems })).collect()
    }

    pub fn userdbs(&self, problems: &mut Problems) -> Vec<Userdb> {
        let blocks = self.blocks("userdb");
        blocks.iter().map(|section| userdb(&mut Block { section, problems })).collect()
    }
}

fn namespace(block: &mut Block<'_, '_>, mail_location: &str) -> Namespace {
    let location = block.get(NAMESPACE_LOCATION);
    let section = block.section;
    let mailboxes = section.sections_of("mailbox");
    let mailboxes = mailboxes
        .map(|section| mailbox(&mut Block { section, problems: block.problems }))
        .collect();
    Namespace {
        name: section.name.clone(),
        kind: block.get(NAMESPACE_TYPE),
        inbox: block.get(NAMESPACE_INBOX),
        prefix: block.get(NAMESPACE_PREFIX),
        separator: block.get(NAMESPACE_SEPARATOR),
        location: if location.is_empty() { mail_location.to_owned() } else { location },
        hidden: block.get(NAMESPACE_HIDDEN),
        list: block.get(NAMESPACE_LIST),
        subscriptions: block.get(NAMESPACE_SUBSCRIPTIONS),
        ignore_on_failure: block.get(NAMESPACE_IGNORE_ON_FAILURE),
        order: block.get(NAMESPACE_ORDER),
        alias_for: block.get(NAMESPACE_ALIAS_FOR),
        mailboxes,
        at: Some(section.at.clone()),
    }
}

fn mailbox(block: &mut Block<'_, '_>) -> Mailbox {
    let special_use = block.get(NAMESPACE_MAILBOX_SPECIAL_USE);
    Mailbox {
        name: block.section.name.clone().unwrap_or_default(),
        auto: block.get(NAMESPACE_MAILBOX_AUTO),
        special_use: special_use.split_ascii_whitespace().map(str::to_owned).collect(),
        autoexpunge: block.get(NAMESPACE_MAILBOX_AUTOEXPUNGE),
        autoexpunge_max_mails: block.get(NAMESPACE_MAILBOX_AUTOEXPUNGE_MAX_MAILS),
        comment: block.get(NAMESPACE_MAILBOX_COMMENT),
        at: block.section.at.clone(),
    }
}

fn passdb(block: &mut Block<'_, '_>) -> Passdb {
    Passdb {
        driver: driver(block, PASSDB_DRIVER),
        args: block.get(PASSDB_ARGS),
        default_fields: block.get(PASSDB_DEFAULT_FIELDS),
        override_fields: block.get(PASSDB_OVERRIDE_FIELDS),
        mechanisms: block.get(PASSDB_MECHANISMS),
        username_filter: block.get(PASSDB_USERNAME_FILTER),
        skip: block.get(PASSDB_SKIP),
        result_success: block.get(PASSDB_RESULT_SUCCESS),
        result_failure: block.get(PASSDB_RESULT_FAILURE),
        result_internalfail: block.get(PASSDB_RESULT_INTERNALFAIL),
        deny: block.get(PASSDB_DENY),
        pass: block.get(PASSDB_PASS),
        master: block.get(PASSDB_MASTER),
        at: block.section.at.clone(),
    }
}

fn userdb(block: &mut Block<'_, '_>) -> Userdb {
    Userdb {
        driver: driver(block, USERDB_DRIVER),
        args: block.get(USERDB_ARGS),
        default_fields: block.get(USERDB_DEFAULT_FIELDS),
        override_fields: block.get(USERDB_OVERRIDE_FIELDS),
        skip: block.get(USERDB_SKIP),
        result_success: block.get(USERDB_RESULT_SUCCESS),
        result_failure: block.get(USERDB_RESULT_FAILURE),
        result_internalfail: block.get(USERDB_RESULT_INTERNALFAIL),
        at: block.section.at.clone(),
    }
}

fn driver(block: &mut Block<'_, '_>, setting: Setting<super::kind::Text>) -> String {
    let driver = block.get(setting);
    if driver.is_empty() {
        let kind = &block.section.kind;
        let what = format!("a {kind} without a driver");
        block
            .problems
            .error(block.section.at.clone(), what)
            .instead("write driver = pam, passwd or passwd-file");
    }
    driver
}

#[cfg(test)]
mod tests {
    use crate::Problems;
    use crate::dovecot::Config;
    use crate::files::Memory;

    /// Each line of a namespace or mailbox block changes what is read.
    #[test]
    fn every_setting_of_a_namespace_is_read() {
        let read = |inside: &str, mailbox: &str| {
            let text = format!("namespace n {{\n{inside}\nmailbox m {{\n{mailbox}\n}}\n}}\n");
            let mut problems = Problems::default();
            let config = Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut problems);
            let namespaces = config.global().namespaces(&mut problems);
            assert_eq!(problems.to_string(), "", "{inside} {mailbox}");
            namespaces
        };
        let plain = read("", "");
        for line in [
            "type = public",
            "inbox = yes",
            "prefix = x/",
            "separator = /",
            "location = maildir:x",
            "hidden = yes",
            "list = children",
            "subscriptions = no",
            "ignore_on_failure = yes",
            "order = 3",
            "alias_for = x",
            "disabled = yes",
        ] {
            assert_ne!(read(line, ""), plain, "{line}");
        }
        for line in [
            "auto = create",
            "special_use = \\Sent",
            "autoexpunge = 1d",
            "autoexpunge_max_mails = 3",
            "comment = x",
        ] {
            assert_ne!(read("", line), plain, "{line}");
        }
    }
}
