//! opendkim.conf: `Name value` lines.

pub mod names;

use std::path::{Path, PathBuf};

use crate::files::why;
use crate::forget::is_forgotten;
use crate::inventory::{Standing, Written};
use crate::register::{Fact, Ignored, Mark, Setting};
use crate::suggest::nearest;
use crate::{Files, Place, Problems};

use names::{FACTS, kind};

/// OpenDKIM's own limit of nested `Include`s.
const DEEPEST_INCLUDE: usize = 5;
const MOST_SETTINGS: usize = 10_000;

/// One setting as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub fact: &'static Fact,
    pub value: String,
    pub at: Place,
}

/// opendkim.conf with its includes, in the order written.
#[derive(Clone, Debug, Default)]
pub struct Config {
    entries: Vec<Entry>,
}

/// A switch as OpenDKIM reads it: by its first letter.
pub fn boolean(text: &str) -> Option<bool> {
    match text.bytes().next()? {
        b't' | b'T' | b'y' | b'Y' | b'1' => Some(true),
        b'f' | b'F' | b'n' | b'N' | b'0' => Some(false),
        _ => None,
    }
}

/// A number as OpenDKIM reads it: `0x` hexadecimal, a leading 0 octal, else decimal.
pub fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let number = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))
    {
        i64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    number.ok().map(|number| sign * number)
}

impl Config {
    /// Reads `path` and what it includes, and checks every name and value.
    pub fn read(files: &dyn Files, path: &Path, problems: &mut Problems) -> Self {
        let mut config = Self::default();
        config.file(files, path, &Place::file(path), 0, problems);
        config.entries.retain(|entry| !is_forgotten("opendkim", entry.fact.name));
        config
    }

    /// The value of a setting: of two lines the last counts.
    pub fn value(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.fact.name.eq_ignore_ascii_case(name))
    }

    /// A switch, or its default.
    pub fn switch(&self, setting: Setting<kind::Bool>) -> bool {
        let value = self.value(setting.name()).and_then(|entry| boolean(&entry.value));
        value.or_else(|| boolean(setting.fact.default)).unwrap_or_default()
    }

    /// A number, or its default.
    pub fn number(&self, setting: Setting<kind::Integer>) -> i64 {
        let value = self.value(setting.name()).and_then(|entry| integer(&entry.value));
        value.or_else(|| integer(setting.fact.default)).unwrap_or_default()
    }

    /// A text, or its default; nothing when both are empty.
    pub fn text(&self, setting: Setting<kind::Text>) -> Option<&str> {
        self.raw(setting.fact)
    }

    /// The text of a data set, or its default; nothing when both are empty.
    pub fn list(&self, setting: Setting<kind::List>) -> Option<&str> {
        self.raw(setting.fact)
    }

    /// Where a setting stands, if it is set.
    pub fn place<K>(&self, setting: Setting<K>) -> Option<Place> {
        self.value(setting.name()).map(|entry| entry.at.clone())
    }

    fn raw(&self, fact: &'static Fact) -> Option<&str> {
        let value = self.value(fact.name).map_or(fact.default, |entry| entry.value.as_str());
        Some(value).filter(|value| !value.is_empty())
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Every setting, in the order written.
    #[must_use]
    pub fn inventory(&self) -> Vec<Written> {
        let written = |entry: &Entry| Written {
            name: entry.fact.name.to_owned(),
            of: String::new(),
            at: entry.at.clone(),
            standing: Standing::Known(entry.fact),
            is_default: entry.value.eq_ignore_ascii_case(entry.fact.default),
        };
        self.entries.iter().map(written).collect()
    }

    /// Tells each setting that we do not obey and that has another value than its default.
    pub fn report_unsupported(&self, problems: &mut Problems) {
        for entry in &self.entries {
            let fact = entry.fact;
            if fact.mark != Mark::Unsupported || entry.value.eq_ignore_ascii_case(fact.default) {
                continue;
            }
            let what = format!("{}: {}", fact.name, fact.sentence);
            match fact.ignored {
                Ignored::Tell => {
                    problems.warning(entry.at.clone(), what);
                }
                Ignored::Refuse => problems
                    .error(entry.at.clone(), what)
                    .instead("remove the line, or keep OpenDKIM for now"),
            }
        }
    }

    fn file(
        &mut self,
        files: &dyn Files,
        path: &Path,
        from: &Place,
        depth: usize,
        problems: &mut Problems,
    ) {
        let content = match files.read(path) {
            Ok(content) => content,
            Err(error) => {
                let what = format!("cannot read {}: {}", path.display(), why(&error));
                problems.error(from.clone(), what).instead("name a readable file");
                return;
            }
        };
        let file = Place::file(path);
        for (index, raw) in content.split(|&byte| byte == b'\n').enumerate() {
            let at = file.at_line(index + 1);
            if raw.contains(&0) {
                problems.error(at, "a NUL byte in the line").instead("write plain text");
                continue;
            }
            let text = String::from_utf8_lossy(raw);
            let line = text.split('#').next().unwrap_or_default().trim_ascii();
            if !line.is_empty() && self.entries.len() < MOST_SETTINGS {
                self.line(files, line, &at, depth, problems);
            }
        }
    }

    fn line(
        &mut self,
        files: &dyn Files,
        line: &str,
        at: &Place,
        depth: usize,
        problems: &mut Problems,
    ) {
        let (name, value) =
            line.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((line, ""));
        let value = value.trim_ascii();
        let Some(fact) = FACTS.iter().find(|fact| fact.name.eq_ignore_ascii_case(name)) else {
            let meant = nearest(name, FACTS.iter().map(|fact| fact.name));
            let instead =
                meant.map_or("remove it".to_owned(), |meant| format!("did you mean {meant}?"));
            problems.error(at.clone(), format!("unknown setting {name}")).instead(instead);
            return;
        };
        if value.is_empty() {
            problems
                .error(at.clone(), format!("{} has no value", fact.name))
                .instead(format!("write: {} value", fact.name));
            return;
        }
        if let Some(meant) = value.strip_prefix('=') {
            let what = format!("{}: a value does not begin with =", fact.name);
            problems.error(at.clone(), what).instead(format!(
                "write: {} {}",
                fact.name,
                meant.trim_ascii()
            ));
            return;
        }
        if fact.name == "Include" {
            if depth >= DEEPEST_INCLUDE {
                let what = format!("Include nests more than {DEEPEST_INCLUDE} deep");
                problems.error(at.clone(), what).instead("remove the Include");
            } else {
                self.file(files, &PathBuf::from(value), at, depth + 1, problems);
            }
            return;
        }
        let fault = match fact.kind {
            "bool" if boolean(value).is_none() => Some("write yes or no"),
            "integer" if integer(value).is_none() => Some("write a number"),
            _ => None,
        };
        if let Some(instead) = fault {
            problems
                .error(at.clone(), format!("{}: \"{value}\" is not a possible value", fact.name))
                .instead(instead);
            return;
        }
        self.entries.push(Entry { fact, value: value.to_owned(), at: at.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Memory;

    fn read(text: &str) -> (Config, String) {
        let files = Memory::with([
            ("/o", text),
            ("/i", "Selector included\n"),
            ("/loop", "Include /loop\n"),
        ]);
        let mut problems = Problems::default();
        let config = Config::read(&files, "/o".as_ref(), &mut problems);
        (config, problems.to_string())
    }

    #[test]
    fn names_ignore_case_comments_end_lines_and_the_last_line_counts() {
        let (config, problems) =
            read("mode s\nMODE\tv # only\n\n#x\nUMask 007\nInclude /i\nOversignHeaders From,To\n");
        let value = |name| config.value(name).map(|entry| entry.value.as_str());
        assert_eq!(
            [value("Mode"), value("UMask"), value("Selector")],
            [Some("v"), Some("007"), Some("included")]
        );
        assert_eq!(value("OverSignHeaders"), Some("From,To"));
        assert_eq!(
            (integer("007"), integer("0x1f"), integer("12x"), integer("-3")),
            (Some(7), Some(31), None, Some(-3))
        );
        assert_eq!(problems, "");
    }

    #[test]
    fn bad_lines_are_told() {
        insta::assert_snapshot!(read("Mod sv\nSyslog maybe\nSelector\nUMask x7\nInclude /none\nInclude /loop\nMode \0\n").1, @r#"
        /o:1: unknown setting Mod; did you mean Mode?
        /o:2: Syslog: "maybe" is not a possible value; write yes or no
        /o:3: Selector has no value; write: Selector value
        /o:4: UMask: "x7" is not a possible value; write a number
        /o:5: cannot read /none: no such file; name a readable file
        /loop:1: Include nests more than 5 deep; remove the Include
        /o:7: a NUL byte in the line; write plain text
        "#);
    }
}
