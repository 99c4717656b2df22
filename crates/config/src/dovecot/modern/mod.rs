//! dovecot.conf in the language of Dovecot 2.4, read into what the same host would write for 2.3.
//!
//! First every name is completed and checked ([`resolve`]): `passdb pam { service_name = x }` sets
//! `passdb_pam_service_name`. Then what we obey is put in the words of 2.3 ([`translate`]), so that whoever asks a
//! [`View`](super::View) need not know which language the file is in. What has no word there stays in the completed tree,
//! where `report_unsupported` finds it.
//!
//! Read: dovecot, on behalf of the daemons.

mod blocks;
mod lists;
mod mail;
pub mod renamed;
pub mod report;
mod resolve;
mod scope;
mod translate;
mod variables;

use super::names::FACTS;
use super::tree::Section;
use crate::Problems;
use crate::forget::is_forgotten;
use crate::register::{Fact, find};

/// A file of 2.4, completed and translated.
pub struct Modern {
    /// As written, every name in full.
    pub written: Section,
    /// What it would be in 2.3.
    pub translated: Section,
}

/// Reads the tree of a file that begins with `dovecot_config_version`.
pub fn read(parsed: &Section, problems: &mut Problems) -> Modern {
    check_version(parsed, problems);
    let mut written = resolve::resolve(parsed, problems);
    forget(&mut written);
    let translated = translate::translate(&written, problems);
    Modern { written, translated }
}

/// Leaves out what a proof leaves out: here every name is whole, and a row may be a block.
fn forget(section: &mut Section) {
    section.settings.retain(|(name, _)| !is_forgotten("dovecot", name));
    section.sections.retain(|inner| !is_forgotten("dovecot", &inner.kind));
    section.sections.iter_mut().for_each(forget);
}

/// The row of a name in the language of 2.4.
fn fact_of(name: &str) -> Option<&'static Fact> {
    find(FACTS, name).filter(|fact| is_modern(fact))
}

fn is_modern(fact: &Fact) -> bool {
    fact.until != "2.3" && !fact.name.contains('/')
}

fn check_version(root: &Section, problems: &mut Problems) {
    let Some(version) = root.value("dovecot_config_version") else { return };
    if !version.text.starts_with("2.4.") {
        let what = format!("dovecot_config_version: \"{}\" is no version of 2.4", version.text);
        problems.error(version.at.clone(), what).instead("write 2.4.1");
    }
    let first = root.settings.iter().find(|(name, _)| name == "dovecot_config_version");
    if first.is_some_and(|(_, first)| first.text != version.text) {
        problems
            .error(
                version.at.clone(),
                "dovecot_config_version is said before, with another version",
            )
            .instead("remove one of the two");
    }
    if root.value("dovecot_storage_version").is_none() {
        problems
            .error(version.at.clone(), "dovecot_storage_version is missing")
            .instead("write dovecot_storage_version = 2.4.1");
    }
}

#[cfg(test)]
mod tests;
