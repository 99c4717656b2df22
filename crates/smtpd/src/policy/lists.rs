//! Match lists of clients (`mynetworks` and its like) and of domains.

use std::net::IpAddr;

use config::postfix::{Match, Pattern};
use routing::{Key, LookupError, TableName, Tables};
use serde::{Deserialize, Serialize};

/// A list of networks, addresses, host names and tables, asked in order; the first hit decides, `!` negates it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressList {
    items: Vec<Match>,
    /// `example.com` also means its subdomains (the list is in `parent_domain_matches_subdomains`).
    parents: bool,
}

impl AddressList {
    #[must_use]
    pub fn new(items: Vec<Match>, parents: bool) -> Self {
        Self { items, parents }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The tables it names.
    pub fn tables(&self) -> impl Iterator<Item = TableName> {
        self.items.iter().filter_map(|item| match &item.pattern {
            Pattern::Table(table) => Some(TableName::new(table.to_string())),
            _ => None,
        })
    }

    /// Does it hold this client? An unknown address or name matches nothing.
    ///
    /// # Errors
    ///
    /// [`LookupError`]: the answer is not known, so neither trust nor distrust.
    pub async fn holds(
        &self,
        tables: &impl Tables,
        name: &str,
        address: Option<IpAddr>,
    ) -> Result<bool, LookupError> {
        for item in &self.items {
            let hit = match &item.pattern {
                Pattern::Network(network) => {
                    address.is_some_and(|address| network.contains(address))
                }
                Pattern::Text(pattern) => {
                    name_matches(pattern, name, self.parents)
                        || address.is_some_and(|address| *pattern == address.to_string())
                }
                Pattern::Table(table) => {
                    let table = TableName::new(table.to_string());
                    let mut hit = tables.lookup(&table, name, Key::Whole).await?.is_some();
                    if let Some(address) = address.filter(|_| !hit) {
                        let key = address.to_string();
                        hit = tables.lookup(&table, &key, Key::Whole).await?.is_some();
                    }
                    hit
                }
                Pattern::File(_) => false, // read in when the configuration was
            };
            if hit {
                return Ok(!item.negated);
            }
        }
        Ok(false)
    }

    /// Does it hold this domain (`mydestination`, `relay_domains`)?
    ///
    /// # Errors
    ///
    /// [`LookupError`].
    pub async fn holds_domain(
        &self,
        tables: &impl Tables,
        domain: &str,
    ) -> Result<bool, LookupError> {
        self.holds(tables, domain, None).await
    }
}

fn name_matches(pattern: &str, name: &str, parents: bool) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let Some(head) = name.len().checked_sub(pattern.len()).and_then(|at| name.split_at_checked(at))
    else {
        return false;
    };
    let (front, tail) = head;
    tail.eq_ignore_ascii_case(pattern)
        && if parents { front.ends_with('.') } else { pattern.starts_with('.') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_or_without_their_subdomains() {
        assert!(name_matches("example.com", "Example.COM", false));
        assert!(!name_matches("example.com", "a.example.com", false));
        assert!(name_matches(".example.com", "a.example.com", false));
        assert!(name_matches("example.com", "a.example.com", true));
        assert!(!name_matches("example.com", "badexample.com", true));
    }
}
