//! LIST, LSUB, NAMESPACE (RFC 3501, RFC 5258, RFC 5819, RFC 6154, RFC 2342).

use std::collections::{BTreeMap, BTreeSet};

use mailstore::StoreError;
use protocol::imap::list::List;
use protocol::imap::mailbox_name::matches;
use protocol::imap::write;

use crate::commands::folders;
use crate::namespace::Namespace;
use crate::reply::Reply;
use crate::session::Session;
use crate::settings::{Auto, Kind};
use crate::wire::End;

/// What is known of one name, as clients see it.
#[derive(Clone, Debug, Default)]
struct Entry {
    exists: bool,
    /// On the disk, or configured to be there.
    known: bool,
    has_children: bool,
    subscribed: bool,
    marked: Option<bool>,
    special_use: String,
}

/// Every name of a namespace.
type Entries = BTreeMap<String, Entry>;

/// # Errors
///
/// When the client does not read.
pub async fn list(session: &mut Session, request: &List) -> Result<Reply, End> {
    if !request.extended && request.patterns.iter().all(String::is_empty) {
        let separator = session.namespaces.inbox().map_or('.', |space| space.separator);
        session.line.line(&format!("* LIST (\\Noselect) {} \"\"", quoted(separator)));
        return Ok(Reply::ok("List completed"));
    }
    let mut lines = Vec::new();
    for namespace in session.namespaces.iter().filter(|space| space.list && !space.hidden) {
        let entries = match entries(namespace) {
            Ok(entries) => entries,
            Err(error) => return Ok(session.refused(&error)),
        };
        list_namespace(namespace, request, &entries, &mut lines);
    }
    // Dovecot prints INBOX last.
    lines.sort_by_key(|(_, inner, _)| inner == "INBOX");
    for (shown, inner, line) in lines {
        session.line.put(&line);
        if !request.returns.status.is_empty()
            && let Some((namespace, _)) = session.namespaces.find(&shown)
        {
            let items = &request.returns.status;
            match folders::status_line(namespace, &inner, &shown, items) {
                Ok(status) => session.line.put(&status),
                Err(StoreError::NoMailbox(_)) => {}
                Err(error) => drop(session.refused(&error)),
            }
        }
        session.line.relieve().await?;
    }
    Ok(Reply::ok("List completed"))
}

fn list_namespace(
    namespace: &Namespace,
    request: &List,
    entries: &Entries,
    lines: &mut Vec<(String, String, Vec<u8>)>,
) {
    let separator = namespace.separator;
    let select = request.select;
    for (inner, entry) in entries {
        let shown = namespace.shown(inner);
        if !request
            .patterns
            .iter()
            .any(|p| matches(&(request.reference.clone() + p), &shown, separator))
        {
            continue;
        }
        let chosen = (!select.subscribed || entry.subscribed)
            && (!select.special_use || !entry.special_use.is_empty());
        let below = select.recursive_match && !chosen && {
            let start = format!("{inner}{separator}");
            let mut children =
                entries.range(start.clone()..).take_while(|(n, _)| n.starts_with(&start));
            children.any(|(_, child)| child.subscribed && select.subscribed)
        };
        if !(chosen || below) || (!select.subscribed && !entry.known) {
            continue;
        }
        let mut attributes = attributes(request, entry);
        if below {
            attributes.retain(|word| *word != "\\Subscribed");
        }
        let mut line =
            format!("* LIST ({}) {} ", attributes.join(" "), quoted(separator)).into_bytes();
        write::astring(&mut line, shown.as_bytes());
        if below {
            line.extend_from_slice(b" (CHILDINFO (\"SUBSCRIBED\"))");
        }
        line.extend_from_slice(b"\r\n");
        lines.push((shown, inner.clone(), line));
    }
}

fn attributes<'a>(request: &List, entry: &'a Entry) -> Vec<&'a str> {
    let mut words = Vec::new();
    let plain = !request.extended;
    if !entry.exists && !plain {
        if request.returns.subscribed && entry.subscribed {
            words.push("\\Subscribed");
        }
        words.push("\\NonExistent");
    } else {
        if !entry.exists {
            words.push("\\Noselect");
        }
        if request.returns.subscribed && entry.subscribed {
            words.push("\\Subscribed");
        }
    }
    if plain || request.returns.children {
        words.push(if entry.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    }
    match entry.marked {
        Some(true) if plain => words.push("\\Marked"),
        Some(false) if plain => words.push("\\UnMarked"),
        _ => {}
    }
    if plain || request.returns.special_use {
        words.extend(entry.special_use.split_ascii_whitespace());
    }
    words
}

/// Every mailbox of a namespace: those on the disk, those that are configured, those subscribed to.
fn entries(namespace: &Namespace) -> Result<Entries, StoreError> {
    let mut entries = Entries::new();
    for folder in namespace.store.list()? {
        let is_inbox = folder.name == "INBOX";
        if is_inbox && !namespace.inbox {
            continue;
        }
        let entry = entries.entry(folder.name).or_default();
        entry.exists = folder.selectable || is_inbox;
        entry.known = true;
    }
    if namespace.inbox {
        let inbox = entries.entry("INBOX".to_owned()).or_default();
        (inbox.exists, inbox.known) = (true, true);
    }
    for block in namespace.mailboxes.iter().filter(|block| block.auto != Auto::No) {
        let entry = entries.entry(block.name.clone()).or_default();
        (entry.exists, entry.known) = (true, true);
    }
    for name in subscribed(namespace)? {
        entries.entry(name).or_default().subscribed = true;
    }
    for block in &namespace.mailboxes {
        if let Some(entry) = entries.get_mut(&block.name) {
            entry.special_use.clone_from(&block.special_use);
        }
    }
    add_parents(&mut entries, namespace.separator);
    Ok(entries)
}

/// Levels above a mailbox are shown although nothing is there.
fn add_parents(entries: &mut Entries, separator: char) {
    let names: Vec<(String, bool)> =
        entries.iter().map(|(name, entry)| (name.clone(), entry.known)).collect();
    for (name, known) in names {
        for (at, _) in name.match_indices(separator) {
            let parent = name.get(..at).unwrap_or_default();
            if known && !parent.is_empty() {
                let entry = entries.entry(parent.to_owned()).or_default();
                entry.known = true;
                entry.has_children = true;
            }
        }
    }
}

/// The user's subscriptions, and those of mailboxes that are `auto = subscribe` and not made yet.
fn subscribed(namespace: &Namespace) -> Result<BTreeSet<String>, StoreError> {
    let mut names: BTreeSet<String> = namespace.store.subscriptions()?.into_iter().collect();
    for block in namespace.mailboxes.iter().filter(|block| block.auto == Auto::Subscribe) {
        if !namespace.store.exists(&block.name)? {
            names.insert(block.name.clone());
        }
    }
    Ok(names)
}

/// # Errors
///
/// When the client does not read.
pub async fn lsub(session: &mut Session, request: &List) -> Result<Reply, End> {
    let flags_too = session.settings.workarounds.tb_lsub_flags;
    let mut lines = Vec::new();
    for namespace in session.namespaces.iter() {
        let separator = namespace.separator;
        let found = subscribed(namespace).and_then(|names| Ok((names, entries(namespace)?)));
        let (names, entries) = match found {
            Ok(found) => found,
            Err(error) => return Ok(session.refused(&error)),
        };
        // A name below the pattern shows its parent as \Noselect (RFC 3501 section 6.3.9).
        let mut told: BTreeMap<String, (bool, String)> = BTreeMap::new();
        for pattern in &request.patterns {
            let pattern = request.reference.clone() + pattern;
            for inner in &names {
                let shown = namespace.shown(inner);
                if matches(&pattern, &shown, separator) {
                    told.insert(shown, (true, inner.clone()));
                } else if pattern.ends_with('%') {
                    let parents = shown.match_indices(separator).map(|(at, _)| at);
                    for parent in parents.filter_map(|at| shown.get(..at)) {
                        if matches(&pattern, parent, separator) {
                            told.entry(parent.to_owned()).or_insert((false, String::new()));
                        }
                    }
                }
            }
        }
        for (shown, (is_subscribed, inner)) in told {
            let entry = entries.get(&inner);
            let mut words = Vec::new();
            let not_there = entry.is_none_or(|entry| !entry.exists);
            if !is_subscribed || (flags_too && not_there) {
                words.push("\\Noselect");
            }
            if is_subscribed && let Some(entry) = entry {
                words.extend(entry.special_use.split_ascii_whitespace());
            }
            let mut line =
                format!("* LSUB ({}) {} ", words.join(" "), quoted(separator)).into_bytes();
            write::astring(&mut line, shown.as_bytes());
            line.extend_from_slice(b"\r\n");
            lines.push(line);
        }
    }
    for line in lines {
        session.line.put(&line);
        session.line.relieve().await?;
    }
    Ok(Reply::ok("Lsub completed"))
}

fn quoted(separator: char) -> String {
    let mut out = Vec::new();
    write::string(&mut out, separator.to_string().as_bytes());
    if separator == '\\' {
        "\"\\\\\"".to_owned()
    } else {
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// `* NAMESPACE (("" ".")) NIL NIL`: personal, other users', shared.
pub fn namespace(session: &mut Session) -> Reply {
    let mut text = String::from("* NAMESPACE");
    for kind in [Kind::Private, Kind::Shared, Kind::Public] {
        let mut list = String::new();
        for space in session.namespaces.iter().filter(|space| space.kind == kind && !space.hidden) {
            let mut prefix = Vec::new();
            write::string(&mut prefix, space.prefix.as_bytes());
            let prefix = String::from_utf8_lossy(&prefix);
            list.push_str(&format!("({prefix} {})", quoted(space.separator)));
        }
        text.push_str(&if list.is_empty() { " NIL".to_owned() } else { format!(" ({list})") });
    }
    session.line.line(&text);
    Reply::ok("Namespace completed")
}
