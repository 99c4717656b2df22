//! Under which keys an address is looked up, and what becomes of its extension.

use crate::domains::{Subdomains, parents};
use crate::resolve::Routing;
use crate::tables::{Key, LookupError, Maps, Tables};

/// An answer for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub answer: String,
    /// `+ext` when the key had none: what may be put back behind the answer's user names.
    pub extension: Option<String>,
}

/// Cuts `user+ext` at the first delimiter. Names such as `owner-list` and `list-request` keep their
/// dash, and `double-bounce` and `mailer-daemon` are whole names.
#[must_use]
pub fn split_extension<'a>(local: &'a str, delimiters: &str) -> Option<(&'a str, &'a str)> {
    if delimiters.is_empty() {
        return None;
    }
    let lower = local.to_ascii_lowercase();
    if matches!(lower.as_str(), "postmaster" | "mailer-daemon" | "double-bounce") {
        return None;
    }
    if delimiters.contains('-') && (lower.starts_with("owner-") || lower.ends_with("-request")) {
        return None;
    }
    let at = local.find(|c| delimiters.contains(c)).filter(|&at| at > 0)?;
    Some(local.split_at(at))
}

impl<T: Tables> Routing<T> {
    /// Looks an address in internal form up as `user+ext@domain`, `user@domain`, `user+ext` and
    /// `user` (both only when the domain is ours), `@domain`: virtual and canonical maps, and the
    /// tables of known recipients.
    ///
    /// # Errors
    ///
    /// [`LookupError`] of a table that had to be asked.
    pub async fn find_address(
        &self,
        maps: &Maps,
        address: &str,
    ) -> Result<Option<Found>, LookupError> {
        let answer = |answer| Some(Found { answer, extension: None });
        if maps.is_empty() {
            return Ok(None);
        }
        if let Some(found) = maps.find(&self.tables, address, Key::Whole).await? {
            return Ok(answer(found));
        }
        let (local, domain) = parted(address);
        let split = split_extension(local, &self.settings.recipient_delimiter);
        if let Some((user, extension)) = split {
            let key = match domain {
                Some(domain) => format!("{user}@{domain}"),
                None => user.to_owned(),
            };
            if let Some(answer) = maps.find(&self.tables, &key, Key::Part).await? {
                return Ok(Some(Found { answer, extension: Some(extension.to_owned()) }));
            }
        }
        let Some(domain) = domain else { return Ok(None) };
        if domain.eq_ignore_ascii_case(&self.settings.rewriting.myorigin)
            || self.is_local(domain).await?
        {
            if let Some(found) = maps.find(&self.tables, local, Key::Part).await? {
                return Ok(answer(found));
            }
            if let Some((user, extension)) = split
                && let Some(answer) = maps.find(&self.tables, user, Key::Part).await?
            {
                return Ok(Some(Found { answer, extension: Some(extension.to_owned()) }));
            }
        }
        Ok(maps.find(&self.tables, &format!("@{domain}"), Key::Part).await?.and_then(answer))
    }

    /// Looks an address up as `user+ext@domain`, `user@domain`, `domain` and its parents:
    /// `transport_maps`.
    ///
    /// # Errors
    ///
    /// [`LookupError`] of a table that had to be asked.
    pub async fn find_route(
        &self,
        maps: &Maps,
        address: &str,
        subdomains: Subdomains,
    ) -> Result<Option<String>, LookupError> {
        if let Some(found) = maps.find(&self.tables, address, Key::Whole).await? {
            return Ok(Some(found));
        }
        let (local, domain) = parted(address);
        let Some(domain) = domain else { return Ok(None) };
        if let Some((user, _)) = split_extension(local, &self.settings.recipient_delimiter)
            && let Some(found) =
                maps.find(&self.tables, &format!("{user}@{domain}"), Key::Part).await?
        {
            return Ok(Some(found));
        }
        if let Some(found) = maps.find(&self.tables, domain, Key::Part).await? {
            return Ok(Some(found));
        }
        for parent in parents(domain, subdomains) {
            if let Some(found) = maps.find(&self.tables, parent, Key::Part).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Local part and domain, at the last `@`.
pub fn parted(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::split_extension;

    #[test]
    fn an_extension_begins_at_the_first_delimiter() {
        for (local, delimiters, split) in [
            ("user+ext", "+", Some(("user", "+ext"))),
            ("user+a+b", "+", Some(("user", "+a+b"))),
            ("user-a+b", "+-", Some(("user", "-a+b"))),
            ("owner-list", "-", None),
            ("list-request", "-", None),
            ("mailer-daemon", "-", None),
            ("+ext", "+", None),
            ("user+ext", "", None),
        ] {
            assert_eq!(split_extension(local, delimiters), split, "{local}");
        }
    }
}
