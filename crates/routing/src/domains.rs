//! Lists of domains such as `mydestination`: names, files, tables, and `!` in front of any of them.

use config::postfix::{self, Match};
use serde::{Deserialize, Serialize};

use crate::tables::{Key, LookupError, TableName, Tables, split_list};

/// Which subdomains a name in the list stands for (`parent_domain_matches_subdomains`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subdomains {
    /// None: `mydestination` and the lists of virtual domains.
    No,
    /// All: `example.com` is also `a.example.com`.
    WithParent,
    /// `.example.com` stands for them.
    WithDot,
}

/// A domain list, matched in its order: the first fitting pattern decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomainList {
    patterns: Vec<Pattern>,
    subdomains: Subdomains,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pattern {
    wanted: bool,
    what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    Name(String),
    Table(TableName),
}

impl DomainList {
    /// From a setting's value, its files already read ([`config::postfix::with_files`]).
    #[must_use]
    pub fn new(list: Vec<Match>, subdomains: Subdomains) -> Self {
        let patterns = list.into_iter().map(|item| Pattern {
            wanted: !item.negated,
            what: match item.pattern {
                postfix::Pattern::Table(table) => What::Table(TableName::new(table.to_string())),
                postfix::Pattern::Text(name) => What::Name(name),
                postfix::Pattern::Network(network) => What::Name(network.to_string()),
                postfix::Pattern::File(path) => What::Name(path.to_string_lossy().into_owned()),
            },
        });
        Self { patterns: patterns.collect(), subdomains }
    }

    /// From the text of a list without files.
    #[must_use]
    pub fn parse(list: &str, subdomains: Subdomains) -> Self {
        let patterns = split_list(list).into_iter().map(|item| {
            let bare = item.trim_start_matches('!');
            let what = match bare.contains(':') && !bare.starts_with('[') {
                true => What::Table(TableName::new(bare)),
                false => What::Name(bare.to_owned()),
            };
            Pattern { wanted: (item.len() - bare.len()) % 2 == 0, what }
        });
        Self { patterns: patterns.collect(), subdomains }
    }

    /// The tables in the list, to be opened.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.patterns.iter().filter_map(|pattern| match &pattern.what {
            What::Table(name) => Some(name),
            What::Name(_) => None,
        })
    }

    /// Whether `domain` is in the list.
    ///
    /// # Errors
    ///
    /// [`LookupError`] of a table that had to be asked.
    pub async fn holds(&self, tables: &impl Tables, domain: &str) -> Result<bool, LookupError> {
        for pattern in &self.patterns {
            let fits = match &pattern.what {
                What::Name(name) => self.names(name, domain),
                What::Table(table) => self.table_holds(tables, table, domain).await?,
            };
            if fits {
                return Ok(pattern.wanted);
            }
        }
        Ok(false)
    }

    fn names(&self, name: &str, domain: &str) -> bool {
        if name.eq_ignore_ascii_case(domain) {
            return true;
        }
        let parent = match self.subdomains {
            Subdomains::No => return false,
            Subdomains::WithParent => name,
            Subdomains::WithDot => match name.strip_prefix('.') {
                Some(parent) => parent,
                None => return false,
            },
        };
        let Some(start) = domain.len().checked_sub(parent.len()).filter(|&at| at > 0) else {
            return false;
        };
        domain.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(parent))
            && domain.as_bytes().get(start - 1) == Some(&b'.')
    }

    async fn table_holds(
        &self,
        tables: &impl Tables,
        table: &TableName,
        domain: &str,
    ) -> Result<bool, LookupError> {
        if tables.lookup(table, domain, Key::Whole).await?.is_some() {
            return Ok(true);
        }
        for parent in parents(domain, self.subdomains) {
            if tables.lookup(table, parent, Key::Part).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The names above `domain`, nearest first: `b.c`, `c`, or `.b.c`, `.c`.
pub fn parents(domain: &str, subdomains: Subdomains) -> impl Iterator<Item = &str> {
    let skip = usize::from(subdomains == Subdomains::WithParent);
    let dots = domain.char_indices().skip(1).filter(|&(_, c)| c == '.');
    dots.filter(move |_| subdomains != Subdomains::No)
        .filter_map(move |(at, _)| domain.get(at + skip..))
        .filter(|parent| !parent.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{DomainList, Subdomains, parents};
    use crate::testing::Memory;

    #[tokio::test]
    async fn the_first_fitting_pattern_decides() {
        let tables = Memory::default().with("hash:/d", &[("t.test", "x")]);
        for (list, style, domain, held) in [
            ("a.test, b.test", Subdomains::No, "B.test", true),
            ("a.test", Subdomains::No, "sub.a.test", false),
            ("a.test", Subdomains::WithParent, "sub.a.test", true),
            ("a.test", Subdomains::WithParent, "xa.test", false),
            (".a.test", Subdomains::WithDot, "sub.a.test", true),
            (".a.test", Subdomains::WithDot, "a.test", false),
            ("!no.a.test a.test", Subdomains::WithParent, "no.a.test", false),
            ("hash:/d", Subdomains::No, "t.test", true),
            ("hash:/d", Subdomains::No, "s.t.test", false),
            ("hash:/d", Subdomains::WithParent, "s.t.test", true),
        ] {
            let list = DomainList::parse(list, style);
            assert_eq!(list.holds(&tables, domain).await, Ok(held), "{list:?} {domain}");
        }
        let gone = DomainList::parse("hash:/gone", Subdomains::No);
        assert!(gone.holds(&tables, "a").await.is_err());
    }

    #[test]
    fn parents_are_named_with_or_without_their_dot() {
        let names = |style| parents("a.b.c", style).collect::<Vec<_>>();
        assert_eq!(names(Subdomains::WithParent), ["b.c", "c"]);
        assert_eq!(names(Subdomains::WithDot), [".b.c", ".c"]);
    }
}
