//! Lists in main.cf: words split at blanks and commas, `{ }` keeping them together; tables; match patterns.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::network::Network;
use crate::files::why;
use crate::text::{Sourced, Word};
use crate::{Files, Place, Problems};

/// The words of a list. `{ … }` is one word, with its braces.
pub fn words(text: &Sourced) -> Vec<Word> {
    split(text, |c| c.is_ascii_whitespace() || c == ',')
}

/// The words of a master.cf line: only blanks divide.
pub fn blank_separated(text: &Sourced) -> Vec<Word> {
    split(text, |c| c.is_ascii_whitespace())
}

fn split(source: &Sourced, divides: impl Fn(char) -> bool) -> Vec<Word> {
    let text = source.as_str();
    let mut words = Vec::new();
    let mut start = None;
    let mut level = 0usize;
    for (offset, c) in text.char_indices() {
        match c {
            '{' => level += 1,
            '}' => level = level.saturating_sub(1),
            _ => {}
        }
        if level == 0 && divides(c) {
            if let Some(start) = start.take() {
                words.push(word(source, start, offset));
            }
        } else if start.is_none() {
            start = Some(offset);
        }
    }
    if let Some(start) = start {
        words.push(word(source, start, text.len()));
    }
    words
}

fn word(source: &Sourced, start: usize, end: usize) -> Word {
    Word { text: source.as_str()[start..end].to_owned(), at: source.place_at(start).cloned() }
}

/// The inside of `{ … }`, blanks around it dropped; the text itself when it has no braces.
pub fn without_braces(text: &str) -> &str {
    text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).map_or(text, str::trim_ascii)
}

/// A lookup table: `hash:/etc/aliases`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `hash`, `regexp`, `proxy`, …
    pub kind: String,
    /// What follows the first colon.
    pub name: String,
    pub at: Option<Place>,
}

impl Table {
    /// `kind:name`; `None` when there is no kind.
    pub fn parse(word: &Word) -> Option<Self> {
        let (kind, name) = word.text.split_once(':')?;
        let known = !kind.is_empty()
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        known.then(|| Self { kind: kind.to_owned(), name: name.to_owned(), at: word.at.clone() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// Why we cannot ask tables of a type: Postfix asks a server or a library that we have not. `None` for any other type.
#[must_use]
pub fn foreign_table_type(kind: &str) -> Option<String> {
    let yet = match kind {
        // As Postfix: without a domain of NIS nothing is found. It stands in the default of alias_maps.
        "nis" if !has_nis_domain() => return None,
        "ldap" | "memcache" | "mongodb" | "mysql" | "pgsql" | "socketmap" | "sqlite" | "tcp" => {
            " yet"
        }
        "dbm" | "environ" | "internal" | "netinfo" | "nis" | "nisplus" | "sdbm" => "",
        _ => return None,
    };
    Some(format!("table type {kind} is not supported{yet}: use a hash: or texthash: table"))
}

fn has_nis_domain() -> bool {
    let names = nix::sys::utsname::uname();
    names.is_ok_and(|names| !["", "(none)"].map(std::ffi::OsStr::new).contains(&names.domainname()))
}

/// One item of a match list (mynetworks, mydestination, relay_domains …): the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Written with `!`: a match means "not in the list".
    pub negated: bool,
    pub pattern: Pattern,
    pub at: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// A name, a domain, a user: whatever the list is about.
    Text(String),
    Network(Network),
    Table(Table),
    /// A file whose lines are further items; [`with_files`] puts them in its place.
    File(PathBuf),
}

/// The items of a match list.
pub fn matches(text: &Sourced) -> Vec<Match> {
    words(text).iter().map(match_item).collect()
}

fn match_item(word: &Word) -> Match {
    let bare = word.text.trim_start_matches('!');
    let negated = (word.text.len() - bare.len()) % 2 == 1;
    let bare_word = Word { text: bare.to_owned(), at: word.at.clone() };
    let pattern = if bare.starts_with('/') {
        Pattern::File(bare.into())
    } else if bare.starts_with('[') {
        Pattern::Text(bare.to_owned())
    } else if let Some(table) = Table::parse(&bare_word) {
        Pattern::Table(table)
    } else {
        Pattern::Text(bare.to_owned())
    };
    Match { negated, pattern, at: word.at.clone() }
}

/// How deep files of match lists may name further files.
const DEEPEST_FILE: usize = 8;
const MOST_ITEMS: usize = 100_000;

/// The list with the lines of its files in place of their names (`mydestination = /etc/postfix/domains`).
pub fn with_files(list: Vec<Match>, files: &dyn Files, problems: &mut Problems) -> Vec<Match> {
    let mut result = Vec::new();
    put(list, false, files, 0, &mut result, problems);
    result
}

fn put(
    list: Vec<Match>,
    negate: bool,
    files: &dyn Files,
    depth: usize,
    result: &mut Vec<Match>,
    problems: &mut Problems,
) {
    for item in list {
        let negated = item.negated != negate;
        match &item.pattern {
            Pattern::File(path) => match items_of(files, path, depth) {
                Ok(items) => put(items, negated, files, depth + 1, result, problems),
                Err(error) => {
                    let what = format!("cannot read {}: {}", path.display(), why(&error));
                    problems
                        .error(item.at.clone(), what)
                        .instead("name a readable file, or list the items here");
                }
            },
            _ if result.len() >= MOST_ITEMS => return,
            _ => result.push(Match { negated, ..item }),
        }
    }
}

fn items_of(files: &dyn Files, path: &Path, depth: usize) -> io::Result<Vec<Match>> {
    if depth >= DEEPEST_FILE {
        return Err(io::Error::other("files name each other too deep"));
    }
    let content = String::from_utf8_lossy(&files.read(path)?).into_owned();
    let mut items = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() && !line.starts_with('#') {
            let at = Place::new(path, index + 1);
            items.extend(
                matches(&Sourced::new(line, &at)).into_iter().map(super::network::as_network),
            );
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Memory;

    #[test]
    fn words_split_at_blanks_and_commas_but_not_in_braces() {
        let all = words(&Sourced::built_in(", a,b  { c, d } inline:{x=1,{y = 2 3}}\te"));
        let texts: Vec<&str> = all.iter().map(Word::as_str).collect();
        assert_eq!(texts, ["a", "b", "{ c, d }", "inline:{x=1,{y = 2 3}}", "e"]);
        assert_eq!(without_braces("{ c, d }"), "c, d");
    }

    #[test]
    fn match_lists_know_files_tables_networks_and_negation() {
        let files = Memory::with([("/l", "# comment\nb.example !c.example\n"), ("/loop", "/loop")]);
        let mut problems = Problems::default();
        let list = matches(&Sourced::built_in("!a.example, /l hash:/t !/l [::1] /loop"));
        let shown: Vec<String> = with_files(list, &files, &mut problems)
            .iter()
            .map(|item| format!("{}{:?}", if item.negated { "!" } else { "" }, item.pattern))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        !Text("a.example")
        Text("b.example")
        !Text("c.example")
        Table(Table { kind: "hash", name: "/t", at: None })
        !Text("b.example")
        Text("c.example")
        Text("[::1]")
        "#);
        insta::assert_snapshot!(problems, @"/loop:1: cannot read /loop: files name each other too deep; name a readable file, or list the items here");
    }
}
