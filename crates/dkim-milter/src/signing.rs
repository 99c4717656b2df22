//! Whose mail is signed with which keys, in OpenDKIM's order of questions, and the signing itself.

use std::sync::Arc;

use bytes::Bytes;
use crypto::PrivateKey;
use protocol::milter::Reply;
use sender_authentication::dkim::Algorithm;
use sender_authentication::dkim::canonical::BodyHash;
use sender_authentication::dkim::sign::{self, Choice, Request};

use crate::author::Author;
use crate::dataset::Dataset;
use crate::hosts;
use crate::keys::KeyStore;
use crate::macros::Macros;
use crate::message::{Client, Message};
use crate::outcome::{Level, Output};
use crate::settings::{Keys, Settings};

/// One signature to make.
#[derive(Clone, Debug)]
pub struct Signer {
    pub domain: String,
    pub selector: String,
    pub key: Arc<PrivateKey>,
    pub identity: Option<String>,
}

/// No signature can be made though one is due; the message has to wait.
#[derive(Debug)]
pub struct Deferred;

/// Whether the message is one of our own: from our hosts, or from somebody who has logged in.
pub fn is_ours(
    settings: &Settings,
    client: &Client,
    macros: &Macros,
    job: &str,
    out: &mut Output,
) -> bool {
    let senders = &settings.senders;
    let mut why = |text: String| {
        if settings.log.why {
            out.log(Level::Info, format!("{job}: {text}"));
        }
    };
    if let Some(names) = &senders.mta_names {
        let name = macros.get("{daemon_name}");
        if name.as_deref().is_some_and(|name| names.contains(name)) {
            return true;
        }
        let host = macros.get("j").unwrap_or_default();
        why(format!("no MTA name match (host={host}, MTA={})", name.as_deref().unwrap_or("?")));
    }
    if let Some(wanted) = &senders.macros {
        let fits = |(name, values): (&str, &str)| {
            let value = macros.get(name)?;
            (values.is_empty() || values.split('|').any(|one| one == value)).then_some(())
        };
        if wanted.entries().find_map(fits).is_some() {
            return true;
        }
        why("no macros match".to_owned());
    }
    let internal = hosts::matches(&senders.internal, &client.host, client.address);
    let authenticated = macros.get("{auth_type}").is_some();
    if !internal && !authenticated {
        why(format!("{} [{}] not internal", client.host, client.address));
        why("not authenticated".to_owned());
    }
    internal || authenticated
}

/// The signatures that are due; none means that the message is verified instead.
///
/// # Errors
///
/// [`Deferred`], after its reason was logged.
pub fn signers(
    settings: &Settings,
    store: &KeyStore,
    author: &Author,
    ours: bool,
    message: &Message,
    client: &Client,
    out: &mut Output,
) -> Result<Vec<Signer>, Deferred> {
    let job = message.job();
    match &settings.signing.keys {
        Keys::None => Ok(Vec::new()),
        Keys::Single { path, selector, domains, subdomains } => {
            let domain = single_domain(settings, domains, *subdomains, author, job, out);
            let Some((domain, identity)) = domain else { return Ok(Vec::new()) };
            if !ours {
                warn_external(settings, client, &domain, job, out);
                return Ok(Vec::new());
            }
            let (Some(path), Some(selector)) = (path, selector) else {
                out.log(Level::Error, format!("{job}: failed to add default signing request"));
                return Err(Deferred);
            };
            let key = store.file(path).map_err(|why| {
                out.log(Level::Error, format!("{job}: can't load key from {path}: {why}"));
                Deferred
            })?;
            Ok(vec![Signer { domain, selector: selector.clone(), key, identity }])
        }
        Keys::Tables { keys, signing } => {
            if !ours {
                return Ok(Vec::new());
            }
            let hits = table_hits(signing, author, settings.signing.several);
            if hits.is_empty() && settings.log.why {
                let (user, domain) = (&author.user, &author.domain);
                out.log(
                    Level::Info,
                    format!("{job}: no signing table match for '{user}@{domain}'"),
                );
            }
            let signers = hits
                .into_iter()
                .map(|hit| table_signer(settings, store, keys, &author.domain, &hit, job, out));
            signers.collect()
        }
    }
}

/// The signing domain of single-key mode, and `i=` when it is the parent's.
fn single_domain(
    settings: &Settings,
    domains: &Dataset,
    subdomains: bool,
    author: &Author,
    job: &str,
    out: &mut Output,
) -> Option<(String, Option<String>)> {
    let domain = &author.domain;
    if domains.contains(domain) || domains.contains("*") {
        return Some((domain.clone(), None));
    }
    if settings.log.why {
        out.log(Level::Info, format!("{job}: no signing domain match for '{domain}'"));
    }
    if subdomains {
        let parents = domain.match_indices('.').filter_map(|(at, _)| domain.get(at + 1..));
        if let Some(parent) = parents.into_iter().find(|parent| domains.contains(parent)) {
            return Some((parent.to_owned(), Some(format!("@{parent}"))));
        }
    }
    if settings.log.why {
        out.log(Level::Info, format!("{job}: no signing subdomain match for '{domain}'"));
    }
    None
}

/// A stranger uses our domain.
fn warn_external(settings: &Settings, client: &Client, domain: &str, job: &str, out: &mut Output) {
    if !hosts::matches(&settings.senders.ignored_externals, &client.host, client.address) {
        let host = &client.host;
        out.log(
            Level::Notice,
            format!("{job}: external host {host} attempted to send as {domain}"),
        );
    }
}

/// The entries of the signing table that the author hits, each `keyname[:signer]`.
fn table_hits(table: &Dataset, author: &Author, several: bool) -> Vec<String> {
    let (user, domain) = (author.user.to_lowercase(), &author.domain);
    let address = format!("{user}@{domain}");
    if !address.is_ascii() {
        return Vec::new();
    }
    let most = if several { usize::MAX } else { 1 };
    if let Dataset::Patterns(patterns) = table {
        let hits = patterns.iter().filter(|(pattern, _)| crate::dataset::fits(pattern, &address));
        return hits.map(|(_, value)| value.clone()).take(most).collect();
    }
    let parents = domain.match_indices('.').filter_map(|(at, _)| domain.get(at..));
    let parents = parents.flat_map(|parent| [format!("{user}@{parent}"), parent.to_owned()]);
    let keys = [address, domain.clone()]
        .into_iter()
        .chain(parents)
        .chain([format!("{user}@*"), "*".to_owned()]);
    keys.filter_map(|key| table.get(&key).map(str::to_owned)).take(most).collect()
}

fn table_signer(
    settings: &Settings,
    store: &KeyStore,
    keys: &Dataset,
    author_domain: &str,
    hit: &str,
    job: &str,
    out: &mut Output,
) -> Result<Signer, Deferred> {
    let (name, signer) = hit.split_once(':').unwrap_or((hit, ""));
    let name = if name == "%" { author_domain } else { name };
    let Some(entry) = keys.get(name) else {
        out.log(Level::Error, format!("{job}: signing table references unknown key '{name}'"));
        return Err(Deferred);
    };
    let mut parts = entry.splitn(3, ':').map(str::trim);
    let parts = (parts.next(), parts.next(), parts.next());
    let (Some(domain @ "%" | domain), Some(selector), Some(key)) = parts else {
        return Err(unusable(name, format!("KeyTable entry for '{name}' corrupt"), job, out));
    };
    if domain.is_empty() || selector.is_empty() || key.is_empty() {
        return Err(unusable(name, format!("KeyTable entry for '{name}' corrupt"), job, out));
    }
    let domain = if domain == "%" { author_domain } else { domain };
    let loaded = match key_path(key, domain) {
        Some(path) => match settings.signing.unsafe_keys.get(&path) {
            Some(fault) => {
                let text = format!("{name}: key data is not secure: {fault}");
                return Err(unusable(name, text, job, out));
            }
            None => store.file(&path).map_err(|why| format!("can't load key from {path}: {why}")),
        },
        None => store.inline(key).map_err(|why| format!("can't load key from {name}: {why}")),
    };
    let key = loaded.map_err(|text| unusable(name, text, job, out))?;
    let identity = Some(signer.trim().replace('%', author_domain))
        .filter(|identity| belongs(identity, domain));
    Ok(Signer { domain: domain.to_owned(), selector: selector.to_owned(), key, identity })
}

fn unusable(name: &str, text: String, job: &str, out: &mut Output) -> Deferred {
    out.log(Level::Error, text);
    out.log(Level::Error, format!("{job}: error loading key '{name}'"));
    Deferred
}

/// The file of a key entry; `None` for a key that stands in the table. `%` in an absolute path is the domain.
pub fn key_path(key: &str, domain: &str) -> Option<String> {
    if key.starts_with("./") || key.starts_with("../") {
        return Some(key.to_owned());
    }
    if !key.starts_with('/') {
        return None;
    }
    Some(key.replace('%', domain))
}

/// `i=` of another domain than `d=` is left out (RFC 6376 section 3.5).
fn belongs(identity: &str, domain: &str) -> bool {
    let Some((_, host)) = identity.rsplit_once('@') else { return false };
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether mail to these recipients gets `l=`, and up to how many octets.
pub fn length_limit(settings: &Settings, message: &Message) -> (bool, Option<u64>) {
    let list = &settings.signing.body_length_recipients;
    let listed = message.recipients.iter().any(|address| list.contains(address));
    (listed || settings.signing.maximum_bytes.is_some(), settings.signing.maximum_bytes)
}

/// Makes the signatures of a message whose body has been read.
///
/// # Errors
///
/// [`Deferred`] when the computation fails.
pub fn sign(
    settings: &Settings,
    message: &Message,
    signers: &[Signer],
    body: BodyHash,
    time: u64,
    lead: &str,
    out: &mut Output,
) -> Result<(), Deferred> {
    let rules = &settings.signing;
    if rules.remove_old {
        let old = message.fields.iter().filter(|field| field.is("DKIM-Signature"));
        out.replies.extend(old.map(|field| Reply::ChangeHeader {
            index: 0,
            name: Bytes::copy_from_slice(field.name()),
            value: Bytes::new(),
        }));
    }
    let (partial, limit) = length_limit(settings, message);
    let (body_hash, length) = body.finish();
    let length = partial.then(|| limit.map_or(length, |limit| length.min(limit)));
    for signer in signers {
        let request = Request {
            domain: signer.domain.clone(),
            selector: signer.selector.clone(),
            algorithm: if signer.key.rsa_public().is_some() {
                Algorithm::RsaSha256
            } else {
                Algorithm::Ed25519Sha256
            },
            header: message.header,
            body: message.body,
            time,
            valid_for: rules.valid_for,
            identity: signer.identity.clone(),
            reports: rules.reports,
            length,
            copies: rules.copies,
            choice: Choice {
                signed: rules.signed.clone(),
                omitted: rules.omitted.clone(),
                oversigned: rules.oversigned.clone(),
            },
        };
        let job = message.job();
        let Ok(value) = sign::sign(&request, &message.fields, &body_hash, &signer.key) else {
            out.log(Level::Error, format!("{job}: dkim_eom(): resource unavailable"));
            return Err(Deferred);
        };
        out.replies.push(Reply::InsertHeader {
            index: 0,
            name: Bytes::from_static(b"DKIM-Signature"),
            value: format!("{lead}{}", value.replace("\r\n", "\n")).into(),
        });
        if settings.log.success {
            let (selector, domain) = (&signer.selector, &signer.domain);
            out.log(
                Level::Info,
                format!("{job}: DKIM-Signature field added (s={selector}, d={domain})"),
            );
        }
    }
    Ok(())
}
