//! The world that restrictions ask: tables, and the rewrite service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mail_types::{quote_822, unquote_822};
use neighbours::rewrite::RewriteClient;
use protocol::postfix::rewrite::{Resolution, Rule};

use crate::policy::{Unresolvable, World};

/// Answers that one connection remembers; a message rarely has more addresses.
const REMEMBERED: usize = 100;

/// What one connection asks, with its memory of what addresses mean.
pub struct Asked {
    tables: Arc<tables::Set>,
    rewrite: Arc<RewriteClient>,
    resolved: Mutex<HashMap<(String, String), Resolution>>,
}

impl Asked {
    #[must_use]
    pub fn new(tables: Arc<tables::Set>, rewrite: Arc<RewriteClient>) -> Self {
        Self { tables, rewrite, resolved: Mutex::default() }
    }

    /// The address as mail for it would be written, in internal form.
    async fn qualified(&self, address: &str) -> Result<String, Unresolvable> {
        if address.is_empty() {
            return Ok(String::new());
        }
        let failed = |error: neighbours::attributes::AttrIoError| Unresolvable(error.to_string());
        let rewritten =
            self.rewrite.rewrite(Rule::Local, &quote_822(address)).await.map_err(failed)?;
        Ok(unquote_822(&rewritten))
    }

    async fn ask(&self, sender: &str, address: &str) -> Result<Resolution, Unresolvable> {
        let (sender, address) = (self.qualified(sender).await?, self.qualified(address).await?);
        let failed = |error: neighbours::attributes::AttrIoError| Unresolvable(error.to_string());
        let mut resolution = self.rewrite.resolve(&sender, &address).await.map_err(failed)?;
        resolution.recipient = resolution.recipient.to_lowercase();
        Ok(resolution)
    }
}

impl World for Asked {
    type Tables = tables::Set;

    fn tables(&self) -> &tables::Set {
        &self.tables
    }

    async fn resolve(&self, sender: &str, address: &str) -> Result<Resolution, Unresolvable> {
        let key = (sender.to_owned(), address.to_owned());
        if let Some(known) = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        {
            return Ok(known.clone());
        }
        let resolution = self.ask(sender, address).await?;
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if resolved.len() >= REMEMBERED {
            resolved.clear();
        }
        resolved.insert(key, resolution.clone());
        Ok(resolution)
    }
}
