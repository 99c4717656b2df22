//! OpenDKIM's data sets: a file of keys and values, a file of patterns, or a list in the setting itself.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Files, Place, Problems};
use serde::{Deserialize, Serialize};

/// Kinds that OpenDKIM reads and we do not.
const FOREIGN: &[&str] =
    &["db", "dsn", "ldap", "lua", "memcache", "mdb", "erlang", "socket", "repute"];

/// Keys with their values, read once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dataset {
    Exact(BTreeMap<String, String>),
    /// In the order of the file; `*` stands for anything.
    Patterns(Vec<(String, String)>),
}

/// Whether the letters' case counts in keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Counts,
    Ignored,
}

impl Default for Dataset {
    fn default() -> Self {
        Self::Exact(BTreeMap::new())
    }
}

impl Dataset {
    /// Reads what a setting names. Faults become problems.
    pub fn read(
        files: &dyn Files,
        text: &str,
        place: Option<Place>,
        case: Case,
        problems: &mut Problems,
    ) -> Self {
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let content = match kind.to_ascii_lowercase().as_str() {
            foreign if FOREIGN.contains(&foreign) => {
                problems
                    .error(place, format!("data sets of the kind {foreign}: are not read"))
                    .instead("write the entries into a file, and file: or refile: with its path");
                return Self::default();
            }
            "file" => return Self::file(files, Path::new(rest), place, case, false, problems),
            "refile" => return Self::file(files, Path::new(rest), place, case, true, problems),
            "csl" => rest,
            _ if text.ends_with(".db") => {
                problems
                    .error(place, "Berkeley DB files are not read")
                    .instead("name the file it was made from, with file: in front");
                return Self::default();
            }
            _ if text.starts_with('/') => {
                return Self::file(files, Path::new(text), place, case, false, problems);
            }
            _ => text,
        };
        let entries = content.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let mut map = BTreeMap::new();
        for entry in entries {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            map.entry(case.of(key.trim())).or_insert_with(|| value.trim().to_owned());
        }
        Self::Exact(map)
    }

    fn file(
        files: &dyn Files,
        path: &Path,
        place: Option<Place>,
        case: Case,
        patterns: bool,
        problems: &mut Problems,
    ) -> Self {
        let content = match files.read(path) {
            Ok(content) => content,
            Err(error) => {
                problems
                    .error(place, format!("{}: {error}", path.display()))
                    .instead("name a file that can be read");
                return Self::default();
            }
        };
        let text = String::from_utf8_lossy(&content);
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (key, value) =
                line.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((line, ""));
            if patterns && key.contains(['[', ']', '(', ')', '|', '?', '{', '}', '^', '$', '\\']) {
                problems
                    .error(
                        Place::new(path, index + 1),
                        format!("{key}: of regular expressions only * is read"),
                    )
                    .instead("write one line for each address or domain");
                continue;
            }
            entries.push((case.of(key), value.trim().to_owned()));
        }
        if patterns {
            return Self::Patterns(entries);
        }
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            map.entry(key).or_insert(value);
        }
        Self::Exact(map)
    }

    /// The value of a key, which must be in lower case where the case is ignored.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Exact(map) => map.get(key).map(String::as_str),
            Self::Patterns(list) => {
                let found = list.iter().find(|(pattern, _)| fits(pattern, key));
                found.map(|(_, value)| value.as_str())
            }
        }
    }

    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keys and values, in the order of the file for patterns.
    pub fn entries(&self) -> Box<dyn Iterator<Item = (&str, &str)> + '_> {
        match self {
            Self::Exact(map) => {
                Box::new(map.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            }
            Self::Patterns(list) => {
                Box::new(list.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            }
        }
    }
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Self::Counts => text.to_owned(),
            Self::Ignored => text.to_lowercase(),
        }
    }
}

/// Whether `text` is of the form of `pattern`, in time that grows with the product of their lengths.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut in_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, in_text));
                at += 1;
            }
            Some(octet) if Some(octet) == text.get(in_text) => {
                at += 1;
                in_text += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (at, in_text) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|&octet| octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    fn read(text: &str) -> (Dataset, String) {
        let files = Memory::with([
            ("/f", "Example.COM one # not this\n\n#x\nexample.com two\nb.example\n"),
            ("/r", "*@Example.com k1\nadmin@* k2\n"),
            ("/bad", "*@(a|b).example k\n"),
        ]);
        let mut problems = Problems::default();
        let set = Dataset::read(&files, text, None, Case::Ignored, &mut problems);
        (set, problems.to_string())
    }

    #[test]
    fn every_kind_of_data_set_is_read() {
        for text in ["/f", "file:/f"] {
            let (set, problems) = read(text);
            assert_eq!(set.get("example.com"), Some("one"));
            assert_eq!(
                (set.get("b.example"), set.get("c"), problems.as_str()),
                (Some(""), None, "")
            );
        }
        let (set, _) = read("refile:/r");
        assert_eq!(set.get("a.b@example.com"), Some("k1"));
        assert_eq!((set.get("admin@x"), set.get("a@example.comx")), (Some("k2"), None));
        for text in ["127.0.0.1, ::1,a=b", "csl:127.0.0.1,::1,a=b"] {
            let (set, _) = read(text);
            assert_eq!((set.get("::1"), set.get("a")), (Some(""), Some("b")));
        }
    }

    #[test]
    fn what_is_not_read_is_told() {
        for (text, why) in [
            ("dsn:mysql://x", "the kind dsn: are not read"),
            ("file:/x.db", "No such file"),
            ("/x.db", "Berkeley DB"),
            ("/none", "/none: "),
            ("refile:/bad", "/bad:1: *@(a|b).example: of regular expressions only * is read"),
        ] {
            let (_, problems) = read(text);
            assert!(
                problems.contains(why) || text == "file:/x.db" && !problems.is_empty(),
                "{text}: {problems}"
            );
        }
    }

    #[test]
    fn a_pattern_with_many_stars_takes_no_time() {
        assert!(!fits(&"*a".repeat(200), &"a".repeat(199)));
        assert!(fits("*@*.example", "x@a.b.example") && fits("*", "") && !fits("", "x"));
    }
}
