//! The plugins that Dovecot's programs load, and what becomes of their work.

use std::collections::BTreeSet;

use super::tree::Section;
use super::view::protocol_matches;
use crate::{Place, Problems};

/// What they do is done.
const OURS: &[&str] = &["quota", "imap_quota"];

/// Without them mail would be unreadable, shown to others, or go elsewhere.
const REFUSED: &[(&str, &str)] = &[
    ("acl", "there are no access lists: a mailbox is open to its owner alone"),
    ("imap_acl", "there are no access lists: a mailbox is open to its owner alone"),
    ("lazy_expunge", "a message that is expunged is gone"),
    ("listescape", "names with the hierarchy separator in them cannot be reached"),
    ("mail_compress", "compressed mail cannot be read"),
    ("mail_crypt", "encrypted mail cannot be read"),
    ("mail_crypt_acl", "encrypted mail cannot be read"),
    ("mail_filter", "mail is not sent through a program when it is read or saved"),
    ("mail_lua", "no Lua scripts are run"),
    ("sieve", "no scripts are run: mail goes where it would go without one"),
    ("trash", "a full mailbox is not made room in by deleting mail"),
    ("virtual", "there are no virtual mailboxes"),
    ("zlib", "compressed mail cannot be read"),
];

/// Without them something is missed, and no mail is.
const MISSED: &[(&str, &str)] = &[
    ("apparmor", "no AppArmor hat is changed"),
    ("autocreate", "write mailbox NAME { auto = subscribe } instead"),
    ("charset_alias", "a charset is known by its own names"),
    ("expire", "write autoexpunge in a mailbox block instead"),
    ("fts", "there is no full-text index: searches read the mail itself"),
    ("fts_flatcurve", "there is no full-text index: searches read the mail itself"),
    ("fts_lucene", "there is no full-text index: searches read the mail itself"),
    ("fts_solr", "there is no full-text index: searches read the mail itself"),
    ("fts_squat", "there is no full-text index: searches read the mail itself"),
    ("fts_xapian", "there is no full-text index: searches read the mail itself"),
    ("imap_filter_sieve", "mail readers cannot have a script run over old mail"),
    ("imap_sieve", "no script runs when a mail reader moves mail"),
    ("imap_stats", "there is no stats process; our daemons have metrics of their own"),
    ("imap_zlib", "there is no COMPRESS"),
    ("last_login", "the time of the last login is not kept"),
    ("mail_log", "what is done to mail is not logged message by message"),
    ("mailbox_alias", "a mailbox has one name"),
    ("notify", "only other plugins use it"),
    ("notify_status", "no dictionary is told of new mail"),
    ("old_stats", "there is no stats process; our daemons have metrics of their own"),
    ("pop3_migration", "UIDLs are not taken from another server"),
    ("push_notification", "nobody is told of new mail but mail readers"),
    ("quota_clone", "the use of a quota is not copied into a dictionary"),
    ("replication", "a change is not told to the replicator"),
    ("snarf", "mail is not fetched from an mbox"),
    ("stats", "there is no stats process; our daemons have metrics of their own"),
    ("welcome", "no command is run for a new user"),
];

/// The protocol that one of these programs speaks, if it is a mail program.
pub fn protocol_of<'r>(readers: &[&'r str]) -> Option<&'r str> {
    readers.iter().copied().find(|reader| matches!(*reader, "imap" | "pop3" | "lmtp"))
}

/// Whether a block says anything of a program of this protocol; of any when there is none.
pub fn concerns(block: &Section, protocol: Option<&str>) -> bool {
    let name = block.name.as_deref().unwrap_or_default();
    block.kind != "protocol" || protocol.is_none() || protocol_matches(name, protocol)
}

/// A plugin that some program loads, and where that is said.
pub type Loaded = (String, Place);

/// Each plugin once, where it is named first.
pub fn distinct(mut loaded: Vec<Loaded>) -> Vec<Loaded> {
    let mut seen = BTreeSet::new();
    loaded.retain(|(name, _)| seen.insert(name.clone()));
    loaded
}

/// Tells of each plugin whose work is not done.
pub fn report(loaded: &[Loaded], problems: &mut Problems) {
    for (name, at) in loaded.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
        let at = at.clone();
        if let Some(why) = sentence(REFUSED, name) {
            problems
                .error(at, format!("the plugin {name} is not ours: {why}"))
                .instead("take it out of mail_plugins, or keep this service with Dovecot for now");
        } else {
            let why = sentence(MISSED, name).unwrap_or("what it does is not done");
            problems.warning(at, format!("the plugin {name} is not ours: {why}"));
        }
    }
}

fn sentence(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// Whether a setting in a plugin block is of a plugin that is loaded.
pub fn is_read(setting: &str, loaded: &[Loaded]) -> bool {
    loaded.iter().any(|(plugin, _)| is_of(setting, plugin))
}

/// Whether a setting is of a plugin that is loaded and of which nothing is known here.
pub fn is_foreign(setting: &str, loaded: &[Loaded]) -> bool {
    let known = |name: &str| {
        OURS.contains(&name)
            || sentence(REFUSED, name).is_some()
            || sentence(MISSED, name).is_some()
    };
    loaded.iter().any(|(plugin, _)| !known(plugin) && is_of(setting, plugin))
}

/// Plugins that read a setting whose name begins otherwise.
const ALSO: &[(&str, &str)] = &[
    ("acl", "master_user"),
    ("autocreate", "autosubscribe"),
    ("imap_zlib", "imap_compress"),
    ("replication", "mail_replica"),
];

/// `mail_crypt_save_version` is of `mail_crypt`, `imapsieve_url` of `imap_sieve`.
fn is_of(setting: &str, plugin: &str) -> bool {
    setting.replace('_', "").starts_with(&plugin.replace('_', ""))
        || ALSO.iter().any(|(reader, start)| *reader == plugin && setting.starts_with(start))
}
