//! The keys under which an address is looked for, in Postfix's order.

use mail_types::quote_822;
use routing::{Key, LookupError, Maps, Tables};

use super::{PolicySettings, Unresolvable, World};

/// Looks in `maps` for an address in internal form: `user+ext@domain`, `user@domain`, then `user+ext` and `user`
/// if the domain is ours, then `@domain`.
pub async fn find<W: World>(
    world: &W,
    settings: &PolicySettings,
    maps: &Maps,
    address: &str,
) -> Result<Option<String>, LookupError> {
    if maps.is_empty() {
        return Ok(None);
    }
    let tables = world.tables();
    let (bare, _) = without_extension(address, &settings.recipient_delimiter);
    if let Some(found) = full(tables, maps, address, bare.as_deref()).await? {
        return Ok(Some(found));
    }
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Ok(None);
    };
    if is_local(world, settings, domain).await? {
        let bare_local =
            bare.as_deref().and_then(|bare| bare.rsplit_once('@')).map(|(local, _)| local);
        for key in [Some(local), bare_local].into_iter().flatten() {
            if let Some(found) = either_form(tables, maps, key, Key::Part).await? {
                return Ok(Some(found));
            }
        }
    }
    maps.find(tables, &format!("@{domain}"), Key::Part).await
}

/// Looks in an access table: the whole address, without extension, the domain and its parents, then `user@`.
pub async fn find_access<W: World>(
    world: &W,
    settings: &PolicySettings,
    maps: &Maps,
    address: &str,
) -> Result<Option<String>, LookupError> {
    let tables = world.tables();
    let (bare, _) = without_extension(address, &settings.recipient_delimiter);
    if let Some(found) = full(tables, maps, address, bare.as_deref()).await? {
        return Ok(Some(found));
    }
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Ok(None);
    };
    for key in domain_keys(domain, settings.access_parents) {
        if let Some(found) = maps.find(tables, key, Key::Part).await? {
            return Ok(Some(found));
        }
    }
    let bare_local = bare.as_deref().and_then(|bare| bare.rsplit_once('@')).map(|(local, _)| local);
    for key in [Some(local), bare_local].into_iter().flatten() {
        if let Some(found) = either_form(tables, maps, &format!("{key}@"), Key::Part).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A domain and its parents: `a.b.c`, `b.c`, `c`, or with a dot in front of parents.
pub fn domain_keys(domain: &str, parents: bool) -> impl Iterator<Item = &str> {
    let dots = domain.char_indices().skip(1).filter(|&(_, c)| c == '.').map(|(at, _)| at);
    let skip = usize::from(parents);
    std::iter::once(domain)
        .chain(dots.filter_map(move |at| domain.get(at + skip..)))
        .filter(|key| !key.is_empty())
}

async fn full(
    tables: &impl Tables,
    maps: &Maps,
    address: &str,
    bare: Option<&str>,
) -> Result<Option<String>, LookupError> {
    if let Some(found) = either_form(tables, maps, address, Key::Whole).await? {
        return Ok(Some(found));
    }
    match bare {
        Some(bare) => either_form(tables, maps, bare, Key::Part).await,
        None => Ok(None),
    }
}

/// The quoted form first, since tables are written with it, then the bare one.
async fn either_form(
    tables: &impl Tables,
    maps: &Maps,
    key: &str,
    part: Key,
) -> Result<Option<String>, LookupError> {
    let quoted = quote_822(key);
    if let Some(found) = maps.find(tables, &quoted, part).await? {
        return Ok(Some(found));
    }
    if quoted == key { Ok(None) } else { maps.find(tables, key, part).await }
}

/// Mail for this domain stays here: it is `myorigin`, in `mydestination`, or an address of ours.
async fn is_local<W: World>(
    world: &W,
    settings: &PolicySettings,
    domain: &str,
) -> Result<bool, LookupError> {
    if domain.eq_ignore_ascii_case(&settings.origin) {
        return Ok(true);
    }
    if let Some(literal) = domain.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address = protocol::smtp::parse_mail_host_address(literal);
        return Ok(address.is_some_and(|address| settings.own_addresses.contains(&address)));
    }
    settings.destination.holds_domain(world.tables(), domain).await
}

/// `user+ext@domain` as `user@domain` and its extension. The system's own addresses have none.
pub fn without_extension(address: &str, delimiters: &str) -> (Option<String>, Option<String>) {
    let (local, domain) = match address.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    };
    let lower = local.to_ascii_lowercase();
    let exempt = matches!(lower.as_str(), "mailer-daemon" | "double-bounce")
        || (delimiters.contains('-')
            && (lower.starts_with("owner-") || lower.ends_with("-request")));
    let at = local.char_indices().skip(1).find(|&(_, c)| delimiters.contains(c)).map(|(at, _)| at);
    match at.filter(|_| !exempt) {
        Some(at) => {
            let (user, extension) = local.split_at(at);
            let bare = match domain {
                Some(domain) => format!("{user}@{domain}"),
                None => user.to_owned(),
            };
            (Some(bare), Some(extension.to_owned()))
        }
        None => (None, None),
    }
}

impl From<Unresolvable> for String {
    fn from(error: Unresolvable) -> Self {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_after_the_domain() {
        let keys = |parents| domain_keys("a.b.c", parents).collect::<Vec<_>>();
        assert_eq!(keys(true), ["a.b.c", "b.c", "c"]);
        assert_eq!(keys(false), ["a.b.c", ".b.c", ".c"]);
        assert_eq!(domain_keys("", true).count(), 0);
    }

    #[test]
    fn extensions_are_cut() {
        let bare = |address| without_extension(address, "+-").0;
        assert_eq!(bare("a+b@c").as_deref(), Some("a@c"));
        assert_eq!(bare("a-b+c@d").as_deref(), Some("a@d"));
        assert_eq!(bare("+b@c"), None);
        assert_eq!(bare("owner-list@c"), None);
        assert_eq!(bare("ab@c"), None);
        assert_eq!(without_extension("a+b@c", "").0, None);
    }
}
