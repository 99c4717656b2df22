//! The register: every setting of the originals by name, what it means to us, and how it is read.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

/// What we do with a setting of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Obeyed as the original does.
    Supported,
    /// Obeyed with a difference that the sentence tells.
    Differs,
    /// About internals that we do not have; the sentence begins with one of [`HARMLESS`].
    Harmless,
    /// Not obeyed; the sentence tells what happens instead.
    Unsupported,
}

/// The reasons for which a setting may be called harmless.
pub const HARMLESS: &[&str] =
    &["installation", "processes", "debugging", "libraries", "obsolete", "indexes", "commands"];

/// What to do when a file sets an unsupported setting to something else than its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ignored {
    /// A warning is enough.
    Tell,
    /// Ignoring it would change what is accepted, relayed, delivered or exposed: refuse to start.
    Refuse,
}

/// One row of a register.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub name: &'static str,
    /// The first version that has it; `-` when older than every version we replace.
    pub since: &'static str,
    /// The last version that has it; `-` when the newest still does.
    pub until: &'static str,
    pub kind: &'static str,
    /// What the kind needs: the default unit of a time, the words of a choice.
    pub detail: &'static str,
    pub default: &'static str,
    /// The original's programs that read it, `-` when not known.
    pub readers: &'static str,
    pub mark: Mark,
    pub ignored: Ignored,
    pub sentence: &'static str,
    /// The test that proves a supported or differing row.
    pub test: &'static str,
}

impl Fact {
    /// Whether the original's program `reader` reads this; settings of the common library concern all.
    pub fn is_read_by(&self, reader: &str) -> bool {
        self.readers.split(' ').any(|known| known == reader || known == "global")
    }
}

/// The row of `name` in a register sorted by name.
pub fn find(facts: &'static [Fact], name: &str) -> Option<&'static Fact> {
    facts.binary_search_by(|fact| fact.name.cmp(name)).ok().and_then(|index| facts.get(index))
}

/// A setting that we obey, with the kind of its value: the typed constants are of this type.
pub struct Setting<K> {
    pub fact: &'static Fact,
    kind: PhantomData<fn() -> K>,
}

impl<K> Setting<K> {
    pub const fn of(fact: &'static Fact) -> Self {
        Self { fact, kind: PhantomData }
    }

    pub const fn name(&self) -> &'static str {
        self.fact.name
    }
}

impl<K> Clone for Setting<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Setting<K> {}

impl<K> fmt::Debug for Setting<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fact.name)
    }
}
