//! From lines to the tree: blocks, includes, `$name`.

use std::path::{Path, PathBuf};

use super::include;
use super::lexer::{Line, Written, lines};
use super::names::FACTS;
use super::tree::{Section, Value};
use crate::files::why;
use crate::register::find;
use crate::{Files, Place, Problems};

/// Which Dovecot a file is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Up to 2.3.
    #[default]
    Old,
    /// 2.4: its first setting is `dovecot_config_version`.
    Modern,
}

/// Blocks nest three deep in practice.
const DEEPEST_BLOCK: usize = 16;
/// How deep includes may nest, and how many files all in all.
const DEEPEST_INCLUDE: usize = 32;
const MOST_FILES: usize = 1000;
/// `a = $a $a` on many lines grows without end.
const LONGEST_VALUE: usize = 1 << 20;

/// The tree of `path` and all its includes, and the language that its first setting tells.
pub fn read(files: &dyn Files, path: &Path, problems: &mut Problems) -> (Section, Language) {
    let root = Section::new("", None, Place::file(path));
    let mut parser = Parser {
        files,
        problems,
        open: vec![root],
        including: Vec::new(),
        files_read: 0,
        too_deep: 0,
        language: Language::Old,
    };
    parser.file(path, &Place::file(path));
    (parser.open.swap_remove(0), parser.language)
}

/// Whether the file that a value names need not be read: the setting takes a path, or is none of this language. In that of
/// 2.3, whose names are all known with their last part, others are a slip that whoever reads the tree tells.
fn names_file(key: &str, language: Language) -> bool {
    let known = || FACTS.iter().any(|fact| fact.name.rsplit('/').next() == Some(key));
    match (find(FACTS, key), language) {
        (Some(fact), _) if fact.kind == "file" => true,
        (Some(fact), Language::Modern) => fact.until == "2.3",
        (None, Language::Old) => !known(),
        _ => false,
    }
}

struct Parser<'f> {
    files: &'f dyn Files,
    problems: &'f mut Problems,
    /// The blocks that are open; the first, which never closes, is the whole.
    open: Vec<Section>,
    including: Vec<PathBuf>,
    files_read: usize,
    /// Blocks opened beyond the limit, whose ends must be skipped too.
    too_deep: usize,
    language: Language,
}

impl Parser<'_> {
    fn file(&mut self, path: &Path, from: &Place) {
        self.files_read += 1;
        if self.including.len() >= DEEPEST_INCLUDE
            || self.including.iter().any(|known| known == path)
        {
            let what = format!(
                "{} includes itself, or includes nest more than {DEEPEST_INCLUDE} deep",
                path.display()
            );
            self.problems.error(from.clone(), what).instead("remove the !include");
            return;
        }
        if self.files_read > MOST_FILES {
            self.problems
                .error(from.clone(), format!("more than {MOST_FILES} files are included"))
                .instead("remove an !include");
            return;
        }
        let content = match self.files.read(path) {
            Ok(content) => content,
            Err(error) => {
                let what = format!("cannot read {}: {}", path.display(), why(&error));
                self.problems.error(from.clone(), what).instead("name a readable file");
                return;
            }
        };
        self.including.push(path.to_owned());
        let depth = self.open.len();
        for (at, line) in lines(&Place::file(path), &content, self.problems) {
            self.line(path, at, line, depth);
        }
        self.close_all(depth);
        self.including.pop();
    }

    fn line(&mut self, path: &Path, at: Place, line: Line, depth: usize) {
        match line {
            Line::Setting { key, value } => self.setting(path, at, key, value),
            Line::Open { kind, name } => self.open(kind, name, at),
            Line::Close if self.too_deep > 0 => self.too_deep -= 1,
            Line::Close if self.open.len() > depth => self.close(),
            Line::Close => {
                self.problems.error(at, "a } without its {").instead("remove it");
            }
            Line::Include { pattern, must_exist } => self.include(path, &at, &pattern, must_exist),
        }
    }

    fn open(&mut self, kind: String, name: Option<String>, at: Place) {
        if self.open.len() >= DEEPEST_BLOCK {
            if self.too_deep == 0 {
                self.problems
                    .error(at, format!("blocks nest more than {DEEPEST_BLOCK} deep"))
                    .instead("close a block");
            }
            self.too_deep += 1;
            return;
        }
        self.open.push(Section::new(kind, name, at));
    }

    fn close(&mut self) {
        if self.open.len() > 1
            && let Some(section) = self.open.pop()
            && let Some(parent) = self.open.last_mut()
        {
            parent.sections.push(section);
        }
    }

    /// Closes the blocks that a file left open.
    fn close_all(&mut self, depth: usize) {
        self.too_deep = 0;
        while self.open.len() > depth {
            if let Some(section) = self.open.last() {
                let what = format!("the block \"{}\" has no }}", section.kind);
                self.problems.error(section.at.clone(), what).instead("close it in the same file");
            }
            self.close();
        }
    }

    fn include(&mut self, path: &Path, at: &Place, pattern: &str, must_exist: bool) {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let found = include::matching(self.files, &directory.join(pattern));
        if found.is_empty() && must_exist {
            self.problems
                .error(at.clone(), format!("!include {pattern}: no file matches"))
                .instead("name existing files, or write !include_try");
        }
        for file in found {
            self.file(&file, at);
        }
    }

    fn setting(&mut self, path: &Path, at: Place, key: String, written: Written) {
        if self.too_deep > 0 {
            return;
        }
        if key == "dovecot_config_version" {
            self.version(&at);
        }
        let value = match written {
            Written::File(name) if !names_file(&key, self.language) => {
                // What cannot be read is told; the line is one of the host's all the same.
                let text = self.content(path, &name, &at).unwrap_or_default();
                Value { text, file: Some(path.parent().unwrap_or(Path::new("/")).join(&name)), at }
            }
            Written::Quoted(text) => Value { text, file: None, at },
            Written::Plain(text) => Value { text: self.expanded(&text, &at), file: None, at },
            Written::File(name) => {
                let file = path.parent().unwrap_or(Path::new("/")).join(&name);
                Value { text: format!("<{}", file.display()), file: Some(file), at }
            }
        };
        if let Some(section) = self.open.last_mut() {
            section.settings.push((key, value));
        }
    }

    /// `dovecot_config_version` comes before all else.
    fn version(&mut self, at: &Place) {
        let first = self.language == Language::Old
            && matches!(self.open.as_slice(), [root] if root.settings.is_empty() && root.sections.is_empty());
        if first {
            self.language = Language::Modern;
        } else if self.language == Language::Old {
            self.problems
                .error(at.clone(), "dovecot_config_version must be the first setting")
                .instead("move it to the top of the file");
            self.language = Language::Modern;
        }
    }

    /// `= <path`: the value is the file's content, all of it.
    fn content(&mut self, path: &Path, name: &str, at: &Place) -> Option<String> {
        let file = path.parent().unwrap_or(Path::new("/")).join(name);
        let fault = match self.files.read(&file) {
            Ok(content) if content.len() > LONGEST_VALUE => {
                format!("{} has more than {} KiB", file.display(), LONGEST_VALUE >> 10)
            }
            Ok(content) => match String::from_utf8(content) {
                Ok(text) => return Some(text),
                Err(_) => format!("{} is not UTF-8", file.display()),
            },
            Err(error) => format!("cannot read {}: {}", file.display(), why(&error)),
        };
        self.problems.error(at.clone(), fault).instead("name a readable text file after <");
        None
    }

    /// Replaces each word `$name` by the setting's value so far.
    fn expanded(&mut self, text: &str, at: &Place) -> String {
        if !text.contains('$') {
            return text.to_owned();
        }
        let mut words = Vec::new();
        for word in text.split_ascii_whitespace() {
            let name = match self.language {
                Language::Old => word.strip_prefix('$'),
                Language::Modern => word
                    .strip_prefix("$SET:")
                    .or_else(|| word.strip_prefix('$').filter(|name| name.starts_with("ENV:"))),
            };
            words.push(match name {
                None => word.to_owned(),
                Some(name) => self.variable(name).unwrap_or_else(|| {
                    self.problems
                        .error(at.clone(), format!("unknown setting ${name}"))
                        .instead("name a setting, or quote the value to keep the $");
                    String::new()
                }),
            });
        }
        let expanded = words.join(" ");
        if expanded.len() > LONGEST_VALUE {
            self.problems
                .error(at.clone(), format!("a value of more than {} KiB", LONGEST_VALUE >> 10))
                .instead("shorten it");
            return String::new();
        }
        expanded
    }

    fn variable(&self, name: &str) -> Option<String> {
        if let Some(variable) = name.strip_prefix("ENV:") {
            return Some(self.files.environment(variable).unwrap_or_default());
        }
        let inner = self.open.iter().rev().find_map(|section| {
            let short = || name.strip_prefix(section.kind.as_str())?.strip_prefix('_');
            section
                .value(name)
                .or_else(|| section.value(short().filter(|_| self.language == Language::Modern)?))
        });
        inner
            .map(|value| value.text.clone())
            .or_else(|| find(FACTS, name).map(|fact| fact.default.to_owned()))
    }
}
