//! Address maps applied: canonical, virtual aliases, masquerading (what cleanup(8) does to a message).

use std::collections::HashSet;

use crate::keys::{Found, parted};
use crate::resolve::Routing;
use crate::rewrite::Context;
use crate::tables::{LookupError, Maps, Tables};
use crate::tokens::{addresses, internal};

/// Why addresses could not be mapped. The message is not accepted now; the sender tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// More results than `virtual_alias_expansion_limit`.
    #[error("unreasonable {map} map expansion size for {address}")]
    Size { map: &'static str, address: String },
    /// Deeper than `virtual_alias_recursion_limit`.
    #[error("unreasonable {map} map nesting for {address}")]
    Nesting { map: &'static str, address: String },
    /// A result longer than `virtual_alias_address_length_limit`.
    #[error("unreasonable {map} result {address}...")]
    Length { map: &'static str, address: String },
}

/// Whose address a canonical map is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Sender,
    Recipient,
}

const DEEPEST_CANONICAL: usize = 1000;

impl<T: Tables> Routing<T> {
    /// The recipients, in internal form, that mail to `recipient` really goes to. An address that no
    /// map knows gives itself.
    ///
    /// # Errors
    ///
    /// [`ExpandError`]: nothing was expanded, and the message must wait.
    pub async fn virtual_aliases(&self, recipient: &str) -> Result<Vec<String>, ExpandError> {
        const MAP: &str = "virtual_alias_maps";
        let maps = &self.settings.maps;
        let limits = maps.limits;
        let mut found = vec![recipient.to_owned()];
        let mut final_ones: HashSet<String> = HashSet::new();
        let mut at = 0;
        while at < found.len() {
            if found.len() > limits.addresses {
                return Err(ExpandError::Size { map: MAP, address: recipient.to_owned() });
            }
            let mut nesting = 0;
            while let Some(address) = found.get(at).cloned() {
                if final_ones.contains(&address.to_lowercase()) {
                    break;
                }
                if nesting >= limits.nesting {
                    return Err(ExpandError::Nesting { map: MAP, address: recipient.to_owned() });
                }
                nesting += 1;
                let propagate = maps.propagate_in_virtual;
                let Some(results) = self.map(&maps.virtual_alias, &address, propagate).await?
                else {
                    break;
                };
                for (index, result) in results.into_iter().enumerate() {
                    if result.len() > limits.address_length {
                        let address = result.chars().take(300).collect();
                        return Err(ExpandError::Length { map: MAP, address });
                    }
                    // An address may expand into itself, once.
                    if result.to_lowercase() == address.to_lowercase() {
                        final_ones.insert(result.to_lowercase());
                    }
                    match (index, found.get_mut(at)) {
                        (0, Some(first)) => *first = result,
                        _ => found.push(result),
                    }
                }
            }
            at += 1;
        }
        Ok(found)
    }

    /// The canonical form of an address in internal form: first the map of its role, then
    /// `canonical_maps`.
    ///
    /// # Errors
    ///
    /// [`ExpandError`]
    pub async fn canonical(&self, role: Role, address: &str) -> Result<String, ExpandError> {
        let maps = &self.settings.maps;
        let own = match role {
            Role::Sender => &maps.sender_canonical,
            Role::Recipient => &maps.recipient_canonical,
        };
        let address = self.canonical_by(own, address).await?;
        self.canonical_by(&maps.canonical, &address).await
    }

    /// As [`Self::canonical`], with only those maps whose `*_canonical_classes` name the address's place:
    /// the role's own, the common one.
    ///
    /// # Errors
    ///
    /// [`ExpandError`]
    pub async fn canonical_where(
        &self,
        role: Role,
        own: bool,
        common: bool,
        address: &str,
    ) -> Result<String, ExpandError> {
        let (maps, none) = (&self.settings.maps, Maps::default());
        let own_map = match role {
            Role::Sender => &maps.sender_canonical,
            Role::Recipient => &maps.recipient_canonical,
        };
        let address = self.canonical_by(if own { own_map } else { &none }, address).await?;
        self.canonical_by(if common { &maps.canonical } else { &none }, &address).await
    }

    /// What `smtp_generic_maps` make of an address that leaves for other hosts; once, not again and again.
    ///
    /// # Errors
    ///
    /// [`ExpandError`]
    pub async fn generic(
        &self,
        maps: &Maps,
        propagate: bool,
        address: &str,
    ) -> Result<Option<String>, ExpandError> {
        let results = self.map(maps, address, propagate).await?;
        Ok(results.into_iter().flatten().next())
    }

    async fn canonical_by(&self, maps: &Maps, address: &str) -> Result<String, ExpandError> {
        let mut address = address.to_owned();
        if maps.is_empty() {
            return Ok(address);
        }
        for _ in 0..DEEPEST_CANONICAL {
            let propagate = self.settings.maps.propagate_in_canonical;
            let results = self.map(maps, &address, propagate).await?;
            let Some(result) = results.into_iter().flatten().next() else { return Ok(address) };
            let to_itself = result.eq_ignore_ascii_case(&address);
            address = result;
            if to_itself {
                return Ok(address);
            }
        }
        Err(ExpandError::Nesting { map: "canonical_maps", address })
    }

    /// Hides the host part below a masqueraded domain: `user@host.example.com` becomes
    /// `user@example.com`.
    #[must_use]
    pub fn masquerade(&self, address: &str) -> String {
        let maps = &self.settings.maps;
        let (user, Some(domain)) = parted(address) else { return address.to_owned() };
        if maps.masquerade_exceptions.iter().any(|name| name.eq_ignore_ascii_case(user)) {
            return address.to_owned();
        }
        let lower = domain.to_lowercase();
        for pattern in &maps.masquerade_domains {
            let parent = pattern.trim_start_matches('!');
            let hide = (pattern.len() - parent.len()) % 2 == 0;
            let below = lower
                .strip_suffix(&parent.to_lowercase())
                .is_some_and(|above| above.is_empty() || above.ends_with('.'));
            if below {
                return if hide { format!("{user}@{parent}") } else { address.to_owned() };
            }
        }
        address.to_owned()
    }

    /// One lookup of an address in internal form, its answers rewritten, with the extension put back.
    async fn map(
        &self,
        maps: &Maps,
        address: &str,
        propagate: bool,
    ) -> Result<Option<Vec<String>>, LookupError> {
        let quoted = mail_types::quote_822(address);
        let mut found = self.find_address(maps, &quoted).await?;
        if found.is_none() && quoted != address {
            found = self.find_address(maps, address).await?;
        }
        let Some(Found { mut answer, extension }) = found else { return Ok(None) };
        if answer.starts_with('@') {
            let user = parted(&quoted).0;
            let user = extension.as_deref().and_then(|e| user.strip_suffix(e)).unwrap_or(user);
            answer.insert_str(0, user);
        }
        let extension = extension.filter(|_| propagate);
        let mut results = Vec::new();
        for mut tokens in addresses(&answer) {
            self.settings.rewriting.rewrite_tokens(Context::Local, &mut tokens);
            let result = mail_types::quote_822(&internal(&tokens));
            let result = match (&extension, result.rsplit_once('@')) {
                (None, _) => result,
                (Some(extension), None) => result + extension,
                (Some(extension), Some((user, domain))) => format!("{user}{extension}@{domain}"),
            };
            results.push(mail_types::unquote_822(&result));
        }
        Ok((!results.is_empty()).then_some(results))
    }
}
