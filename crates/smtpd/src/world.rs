//! The world that restrictions ask: tables, the rewrite and verify services, the DNS, and policy servers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail_types::{quote_822, unquote_822};
use neighbours::rewrite::RewriteClient;
use protocol::postfix::Dialect;
use protocol::postfix::rewrite::{Resolution, Rule};

use crate::delegates::Delegates;
use crate::hosts::Hosts;
use crate::policy::{PolicyServer, Probe, Unresolvable, World};
use crate::verify;

/// Answers that one connection remembers; a message rarely has more addresses.
const REMEMBERED: usize = 100;

/// What all connections of a service share.
#[derive(Clone)]
pub struct Shared {
    pub tables: Arc<tables::Set>,
    pub rewrite: Arc<RewriteClient>,
    pub hosts: Hosts<dns::System>,
    pub delegates: Arc<Delegates>,
    /// `private/verify`
    pub verify: PathBuf,
    pub dialect: Dialect,
    pub ipc_timeout: Duration,
}

/// What one connection asks, with its memory of what addresses mean.
pub struct Asked {
    shared: Shared,
    resolved: Mutex<HashMap<(String, String), Resolution>>,
}

impl Asked {
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared, resolved: Mutex::default() }
    }

    /// The address as mail for it would be written, in internal form.
    async fn qualified(&self, address: &str) -> Result<String, Unresolvable> {
        if address.is_empty() {
            return Ok(String::new());
        }
        let failed = |error: neighbours::attributes::AttrIoError| Unresolvable(error.to_string());
        let rewritten =
            self.shared.rewrite.rewrite(Rule::Local, &quote_822(address)).await.map_err(failed)?;
        Ok(unquote_822(&rewritten))
    }

    async fn ask(&self, sender: &str, address: &str) -> Result<Resolution, Unresolvable> {
        let (sender, address) = (self.qualified(sender).await?, self.qualified(address).await?);
        let failed = |error: neighbours::attributes::AttrIoError| Unresolvable(error.to_string());
        let mut resolution =
            self.shared.rewrite.resolve(&sender, &address).await.map_err(failed)?;
        resolution.recipient = resolution.recipient.to_lowercase();
        Ok(resolution)
    }
}

impl World for Asked {
    type Tables = tables::Set;
    type Dns = dns::System;

    fn dns(&self) -> &dns::System {
        &self.shared.hosts.dns
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, dns::Failure> {
        self.shared.hosts.addresses(host).await
    }

    async fn ask_policy(
        &self,
        server: &PolicyServer,
        request: &str,
    ) -> (Option<String>, Vec<String>) {
        let address = |host: String| async move {
            self.shared.hosts.addresses(&host).await.ok()?.into_iter().next()
        };
        self.shared.delegates.ask(server, request, address).await
    }

    async fn verify(&self, address: &str) -> Result<Probe, String> {
        let shared = &self.shared;
        let answer = verify::query(&shared.verify, shared.dialect, shared.ipc_timeout, address);
        answer.await.map_err(|error| format!("connect to verify service: {error}"))
    }

    fn tables(&self) -> &tables::Set {
        &self.shared.tables
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
