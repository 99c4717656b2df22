//! `name = value` lines of main.cf.

use std::collections::BTreeMap;
use std::path::Path;

use super::lines::logical_lines;
use crate::text::Sourced;
use crate::{Place, Problems};

/// One setting as written.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Place,
    pub value: Sourced,
}

/// main.cf as written: the last entry of each name.
pub type MainCf = BTreeMap<String, Entry>;

/// Reads main.cf. A name given twice: the last wins, and a differing one is told.
pub fn read(path: &Path, content: &[u8], problems: &mut Problems) -> MainCf {
    let mut entries = MainCf::new();
    for line in logical_lines(path, content, problems) {
        let Some(at) = line.place().cloned() else { continue };
        match split(&line) {
            Ok((name, value)) => {
                let entry = Entry { at: at.clone(), value };
                if let Some(earlier) = entries.get(&name)
                    && earlier.value.as_str() != entry.value.as_str()
                {
                    problems
                        .warning(
                            at.clone(),
                            format!(
                                "{name} overrides its earlier value of line {}",
                                earlier.at.line
                            ),
                        )
                        .instead("keep one of the two");
                }
                entries.insert(name, entry);
            }
            Err(what) => {
                problems
                    .error(at.clone(), format!("{what}: \"{}\"", shortened(line.as_str())))
                    .instead("write: name = value");
            }
        }
    }
    entries
}

/// The name and the value of `name = value`, blanks around them dropped.
pub fn split(line: &Sourced) -> Result<(String, Sourced), &'static str> {
    let text = line.as_str();
    let start = text.len() - text.trim_ascii_start().len();
    let rest = &text[start..];
    let name =
        &rest[..rest.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(rest.len())];
    if name.is_empty() {
        return Err("missing name before '='");
    }
    let after = rest[name.len()..].trim_ascii_start();
    if !after.starts_with('=') {
        return Err("missing '=' after the name");
    }
    let mut value = Sourced::default();
    value.push_part(line, text.len() - after.len() + 1..text.len());
    if value.is_empty() {
        value = Sourced::new("", line.place().unwrap_or(&Place::new("", 0)));
    }
    Ok((name.to_owned(), value.trimmed()))
}

/// The start of a text, for a message.
pub fn shortened(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
