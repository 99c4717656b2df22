//! Settings as one connection sees them: `protocol`, `local` and `remote` blocks over the global ones.

use std::net::IpAddr;

use super::kind::Kind;
use super::names::FACTS;
use super::tree::{Config, Section, Value};
use crate::postfix::Network;
use crate::register::{Setting, find};
use crate::{Place, Problems};

/// What the filter blocks ask about a connection; `None` matches no block of that kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection<'c> {
    /// `imap`, `pop3`, `lmtp`, `lda`, `sieve`.
    pub protocol: Option<&'c str>,
    pub local: Option<IpAddr>,
    /// The name the client asked for by SNI.
    pub local_name: Option<&'c str>,
    pub remote: Option<IpAddr>,
}

/// The settings for one connection.
#[derive(Clone, Debug)]
pub struct View<'c> {
    /// From the most to the least specific.
    layers: Vec<&'c Section>,
}

impl<'c> View<'c> {
    pub(super) fn new(config: &'c Config, connection: &Connection<'_>) -> Self {
        let mut found = Vec::new();
        collect(&config.root, Specific::default(), connection, &mut found);
        // Stable: of equally specific blocks the later one wins.
        found.sort_by_key(|(specific, _)| *specific);
        Self { layers: found.into_iter().rev().map(|(_, section)| section).collect() }
    }

    /// The value, read. A bad one is a problem at its place, and the default stands for it.
    pub fn get<K: Kind>(&self, setting: Setting<K>, problems: &mut Problems) -> K::Value {
        typed(self.value(setting.name()), setting, problems)
    }

    /// The value as written, `$name` replaced; `plugin/quota_rule` names one inside a block.
    pub fn value(&self, name: &str) -> Option<&'c Value> {
        match name.split_once('/') {
            None => self.layers.iter().find_map(|section| section.value(name)),
            Some((kind, inner)) => self.layers.iter().find_map(|layer| {
                layer
                    .sections
                    .iter()
                    .rev()
                    .filter(|block| block.kind == kind)
                    .find_map(|block| block.value(inner))
            }),
        }
    }

    pub fn place<K>(&self, setting: Setting<K>) -> Option<Place> {
        self.value(setting.name()).map(|value| value.at.clone())
    }

    pub fn is_set<K>(&self, setting: Setting<K>) -> bool {
        self.value(setting.name()).is_some()
    }

    /// A setting inside `plugin { }`, of any name.
    pub fn plugin(&self, name: &str) -> Option<&'c Value> {
        self.value(&format!("plugin/{name}"))
    }

    /// The names inside `plugin { }`, sorted.
    pub fn plugin_names(&self) -> Vec<&'c str> {
        let plugins = self
            .layers
            .iter()
            .flat_map(|layer| layer.sections.iter())
            .filter(|section| section.kind == "plugin");
        let mut names: Vec<&str> = plugins
            .flat_map(|section| section.settings.iter().map(|(name, _)| name.as_str()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The blocks of a kind, those of the same name merged, the more specific over the less, in the order first written.
    pub fn blocks(&self, kind: &str) -> Vec<Section> {
        let mut merged: Vec<Section> = Vec::new();
        for section in self
            .layers
            .iter()
            .rev()
            .flat_map(|layer| &layer.sections)
            .filter(|section| section.kind == kind)
        {
            let same = |known: &&mut Section| {
                known.name == section.name && (known.name.is_some() || kind == "plugin")
            };
            match merged.iter_mut().find(same) {
                Some(known) => known.merge(section),
                None => {
                    let mut block = Section::new(kind, section.name.clone(), section.at.clone());
                    block.merge(section);
                    merged.push(block);
                }
            }
        }
        merged
    }
}

/// Reads a value; the default stands for a missing or a bad one.
pub(super) fn typed<K: Kind>(
    value: Option<&Value>,
    setting: Setting<K>,
    problems: &mut Problems,
) -> K::Value {
    if let Some(value) = value {
        match K::read(&value.text, Some(value), setting.fact) {
            Ok(read) => return read,
            Err(fault) => {
                let name = setting.name().rsplit('/').next().unwrap_or_default();
                problems
                    .error(value.at.clone(), format!("{name}: {}", fault.what))
                    .instead(fault.instead);
            }
        }
    }
    let default = find(FACTS, setting.name()).map_or("", |fact| fact.default);
    K::read(default, None, setting.fact).unwrap_or_else(|_| K::nothing())
}

/// How specific a block is, in Dovecot's order: local name, local network, remote network, protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Specific {
    local_name: bool,
    local: u8,
    remote: u8,
    protocol: bool,
}

fn collect<'c>(
    section: &'c Section,
    specific: Specific,
    connection: &Connection<'_>,
    found: &mut Vec<(Specific, &'c Section)>,
) {
    found.push((specific, section));
    for inner in &section.sections {
        let name = inner.name.as_deref().unwrap_or_default();
        let more = match inner.kind.as_str() {
            "protocol" => protocol_matches(name, connection.protocol)
                .then_some(Specific { protocol: true, ..specific }),
            "local_name" => local_name_matches(name, connection.local_name)
                .then_some(Specific { local_name: true, ..specific }),
            "local" => {
                network_of(name, connection.local).map(|bits| Specific { local: bits, ..specific })
            }
            "remote" => network_of(name, connection.remote)
                .map(|bits| Specific { remote: bits, ..specific }),
            _ => None,
        };
        if let Some(more) = more {
            collect(inner, more, connection, found);
        }
    }
}

pub(super) fn protocol_matches(name: &str, protocol: Option<&str>) -> bool {
    let Some(protocol) = protocol else { return false };
    match name.strip_prefix('!') {
        Some(other) => other != protocol,
        None => name == protocol,
    }
}

/// `mx.example.com`, or `*.example.com` for one more label; several names may be given, divided by blanks.
fn local_name_matches(names: &str, asked: Option<&str>) -> bool {
    let Some(asked) = asked else { return false };
    names.split_ascii_whitespace().any(|name| match name.strip_prefix("*.") {
        Some(parent) => {
            asked.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
        }
        None => name.eq_ignore_ascii_case(asked),
    })
}

/// The length of the network's prefix plus one, when the address is in it.
fn network_of(name: &str, address: Option<IpAddr>) -> Option<u8> {
    let address = address?;
    let network = parse_network(name).filter(|network| network.contains(address))?;
    Some(network.prefix.saturating_add(1))
}

/// A network as Dovecot writes them: host bits do not matter.
pub(super) fn parse_network(text: &str) -> Option<Network> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix
        .map_or(Some(widest), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= widest))?;
    Some(Network::holding(address, prefix))
}
