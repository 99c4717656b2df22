//! dovecot.conf as a tree: settings in order, blocks in blocks.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::parser::Language;
use super::view::{Connection, View};
use super::{check, legacy, modern, parser};
use crate::forget::is_forgotten;
use crate::{Files, Place, Problems};

/// A setting's value with `$name` replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    pub text: String,
    /// `<path`: the value is that file's content, which the program that needs it reads.
    pub file: Option<PathBuf>,
    pub at: Place,
}

/// One block, or the whole file as the block that holds all.
#[derive(Clone, Debug)]
pub struct Section {
    pub kind: String,
    pub name: Option<String>,
    pub at: Place,
    /// In the order written; a later one of the same name wins.
    pub settings: Vec<(String, Value)>,
    pub sections: Vec<Section>,
}

impl Section {
    pub(super) fn new(kind: impl Into<String>, name: Option<String>, at: Place) -> Self {
        Self { kind: kind.into(), name, at, settings: Vec::new(), sections: Vec::new() }
    }

    /// The last value written.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.settings.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn sections_of<'s>(&'s self, kind: &'s str) -> impl Iterator<Item = &'s Section> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    /// Puts another block of the same kind and name over this one.
    pub(super) fn merge(&mut self, other: &Section) {
        if self.at.line == 0 {
            self.at = other.at.clone();
        }
        self.settings.extend(other.settings.iter().cloned());
        for section in &other.sections {
            let same = |known: &&mut Section| {
                known.name.is_some() && known.kind == section.kind && known.name == section.name
            };
            match self.sections.iter_mut().find(same) {
                Some(known) => known.merge(section),
                None => self.sections.push(section.clone()),
            }
        }
    }
}

/// dovecot.conf with everything it includes.
#[derive(Clone, Debug)]
pub struct Config {
    /// In the language of 2.3, whatever the file is written in.
    pub(super) root: Section,
    /// A file in the language of 2.4, as written, with full names.
    written: Option<Section>,
    path: PathBuf,
}

impl Config {
    /// Reads `path` and its includes, and checks every name and value in them.
    pub fn read(files: &dyn Files, path: &Path, problems: &mut Problems) -> Self {
        let mut found = Problems::default();
        let (mut root, language) = parser::read(files, path, &mut found);
        let mut written = None;
        match language {
            Language::Modern if !is_forgotten("dovecot", "dovecot_config_version") => {
                let modern = modern::read(&root, &mut found);
                root = modern.translated;
                forget(&mut root, "");
                written = Some(modern.written);
            }
            _ => {
                forget(&mut root, "");
                legacy::translate(&mut root, &mut found);
                check::names_and_values(&root, &mut found);
            }
        }
        problems.extend(found.by_place());
        Self { root, written, path: path.to_owned() }
    }

    /// Whether the file is in the language of Dovecot 2.4.
    pub fn is_modern(&self) -> bool {
        self.written.is_some()
    }

    /// The file as it is written; in the language of 2.4 with every name in full
    /// (`passdb_pam_service_name`) and without paths, so that each is a row of the register.
    pub fn written(&self) -> &Section {
        self.written.as_ref().unwrap_or(&self.root)
    }

    /// The settings outside any `protocol`, `local` or `remote` block.
    pub fn global(&self) -> View<'_> {
        self.filter(&Connection::default())
    }

    /// The settings for a connection.
    pub fn filter<'c>(&'c self, connection: &Connection<'_>) -> View<'c> {
        View::new(self, connection)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In the language of 2.3, whatever the file is written in.
    pub fn root(&self) -> &Section {
        &self.root
    }

    /// Tells each setting that one of the programs (`imap`, `auth`, `mail` for what all mail programs read, …)
    /// would read, that has another value than its default, and that we do not obey: an error where
    /// ignoring it would change what is accepted, delivered or exposed.
    pub fn report_unsupported(&self, readers: &[&str], problems: &mut Problems) {
        if let Some(written) = &self.written {
            return modern::report::report_unsupported(written, readers, problems);
        }
        check::report_unsupported(&self.root, readers, problems);
    }
}

/// Leaves out what a proof leaves out: `service/unix_listener/mode` is the setting in those blocks.
fn forget(section: &mut Section, path: &str) {
    section.settings.retain(|(name, _)| {
        let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
        ![name.as_str(), numbered]
            .iter()
            .any(|name| is_forgotten("dovecot", &format!("{path}{name}")))
    });
    for inner in &mut section.sections {
        let filter = ["protocol", "local", "remote", "local_name"].contains(&inner.kind.as_str());
        let path = if filter { path.to_owned() } else { format!("{path}{}/", inner.kind) };
        forget(inner, &path);
    }
}
