//! Which names a block completes: inside `passdb pam { }` the name `service_name` means `passdb_pam_service_name`.

use super::super::tree::Section;
use super::fact_of;
use super::lists::is_list;
use crate::register::Fact;

/// Blocks that only choose when their settings count.
pub const FILTERS: &[&str] = &["protocol", "local", "local_name", "remote"];
/// Blocks with a name of their own; there may be many of each.
const NAMED: &[&str] = &[
    "acl",
    "crypt_global_private_key",
    "crypt_user_key_encryption_key",
    "dict",
    "dict_map",
    "dict_map_key_field",
    "dict_map_value_field",
    "event_exporter",
    "execute",
    "fifo_listener",
    "fs",
    "fts",
    "imapsieve_from",
    "inet_listener",
    "language",
    "mailbox",
    "metric",
    "metric_group_by",
    "metric_group_by_method",
    "mysql",
    "namespace",
    "passdb",
    "pgsql",
    "push_notification",
    "quota",
    "quota_warning",
    "service",
    "sieve_editheader_header",
    "sieve_script",
    "unix_listener",
    "userdb",
];

pub fn is_named(kind: &str) -> bool {
    NAMED.contains(&kind)
}

pub fn is_block(fact: &Fact) -> bool {
    fact.kind == "section" || NAMED.contains(&fact.name)
}

/// The innermost block that completes names.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    kind: String,
    name: Option<String>,
}

impl Scope {
    pub fn inside(block: &Section) -> Self {
        Self { kind: block.kind.clone(), name: block.name.clone() }
    }

    pub fn is_root(&self) -> bool {
        self.kind.is_empty()
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// `key` with what the block puts before it, the longest first.
    fn candidates(&self, key: &str) -> Vec<String> {
        let mut names = Vec::new();
        if !self.kind.is_empty() {
            if let Some(name) = &self.name {
                names.push(format!("{}_{name}_{key}", self.kind));
            }
            names.push(format!("{}_{key}", self.kind));
        }
        names.push(key.to_owned());
        names
    }

    /// The row of the setting or list that `key` means here.
    pub fn setting(&self, key: &str) -> Option<&'static Fact> {
        let mut known = self.candidates(key).into_iter().filter_map(|name| fact_of(&name));
        // `service_name` is what stands behind `service`, and nothing else.
        let misplaced = |fact: &Fact| {
            let of = fact.name.strip_suffix("_name").filter(|kind| is_named(kind));
            of.is_some_and(|kind| kind != self.kind)
        };
        known.find(|fact| (!is_block(fact) || is_list(fact)) && !misplaced(fact))
    }

    /// The row of the block that `kind {` opens here: a list, or a filter that has a row.
    pub fn block(&self, kind: &str) -> Option<&'static Fact> {
        let plain = |fact: &&'static Fact| is_block(fact) || is_list(fact);
        let completes = |fact: &&'static Fact| {
            plain(fact) && (fact.name == kind || is_named(fact.name) || is_list(fact))
        };
        self.candidates(kind).into_iter().filter_map(|name| fact_of(&name)).find(completes)
    }
}
