//! Settings as one service sees them.
//!
//! Read: postfix, for all that daemons read.

use super::expand::{self, ExpandError, Names};
use super::host::Host;
use super::kind::{Kind, Raw};
use super::master_cf::Service;
use super::names::FACTS;
use crate::forget::is_forgotten;
use crate::register::{Fact, Setting, find};
use crate::text::Sourced;
use crate::{Place, Problems};

/// main.cf with the `-o` overrides of a service over it.
#[derive(Clone, Copy, Debug)]
pub struct View<'h> {
    host: &'h Host,
    service: Option<&'h Service>,
    stressed: bool,
}

impl<'h> View<'h> {
    pub(super) fn new(host: &'h Host, service: Option<&'h Service>) -> Self {
        Self { host, service, stressed: false }
    }

    /// The same view while the service is overloaded (`stress` is `yes`).
    #[must_use]
    pub fn under_stress(self) -> Self {
        Self { stressed: true, ..self }
    }

    /// The value, expanded and read. A bad one is a problem at its place, and the default stands for it.
    pub fn get<K: Kind>(&self, setting: Setting<K>, problems: &mut Problems) -> K::Value {
        self.named(setting.name(), setting, problems)
    }

    /// The value for a transport: `smtp_destination_rate_delay`, else `default_destination_rate_delay`.
    pub fn for_transport<K: Kind>(
        &self,
        transport: &str,
        setting: Setting<K>,
        problems: &mut Problems,
    ) -> K::Value {
        let own = format!("{transport}_{}", setting.name().trim_start_matches("default_"));
        if self.written(&own).is_some() || find(FACTS, &own).is_some() {
            return self.named(&own, setting, problems);
        }
        self.get(setting, problems)
    }

    /// Where the setting is written; nowhere when the default counts.
    pub fn place(&self, setting: Setting<impl Kind>) -> Option<Place> {
        self.written(setting.name()).and_then(|raw| raw.place().cloned())
    }

    pub fn is_set<K>(&self, setting: Setting<K>) -> bool {
        self.written(setting.name()).is_some()
    }

    /// The expanded text of any name, also one of the operator's own (`smtpd_restriction_classes`, `ldap:name`'s
    /// settings); `None` when nothing defines it.
    pub fn text(&self, name: &str, problems: &mut Problems) -> Option<Sourced> {
        let raw = self.raw(name)?;
        match expand::expand(&raw, self) {
            Ok(text) => Some(text),
            Err(error) => {
                problems
                    .error(raw.place().cloned(), format!("{name}: {error}"))
                    .instead(error.instead());
                None
            }
        }
    }

    /// Expands `$name` in a text of the caller's own.
    ///
    /// # Errors
    ///
    /// [`ExpandError`]
    pub fn expand(&self, text: &Sourced) -> Result<Sourced, ExpandError> {
        expand::expand(text, self)
    }

    /// The names of all settings written for this view, sorted.
    pub fn names(&self) -> Vec<&'h str> {
        let mut names: Vec<&str> = self.host.main.keys().map(String::as_str).collect();
        names.extend(
            self.service
                .iter()
                .flat_map(|service| service.overrides.iter().map(|known| known.name.as_str())),
        );
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The value as written, without expansion.
    pub fn written(&self, name: &str) -> Option<&'h Sourced> {
        let own =
            self.service.and_then(|service| service.override_of(name)).map(|known| &known.value);
        own.or_else(|| self.host.main.get(name).map(|entry| &entry.value))
    }

    pub(super) fn expanded(&self, name: &str) -> Result<Sourced, ExpandError> {
        expand::expand(&self.raw(name).unwrap_or_default(), self)
    }

    /// A built-in default with the macros of this view; empty when it cannot be expanded.
    pub(super) fn default_of(&self, fact: &Fact) -> Sourced {
        expand::expand(&self.built_in(fact.name).unwrap_or_default(), self).unwrap_or_default()
    }

    fn named<K: Kind>(&self, name: &str, setting: Setting<K>, problems: &mut Problems) -> K::Value {
        let raw = self.raw(name).unwrap_or_default();
        let text = if is_raw::<K>() { Ok(raw.clone()) } else { expand::expand(&raw, self) };
        match text {
            Ok(text) => match K::read(&text, setting.fact) {
                Ok(value) => return value,
                Err(fault) => {
                    let at = fault.at.or_else(|| raw.place().cloned());
                    problems.error(at, format!("{name}: {}", fault.what)).instead(fault.instead);
                }
            },
            Err(error) => {
                problems
                    .error(raw.place().cloned(), format!("{name}: {error}"))
                    .instead(error.instead());
            }
        }
        K::read(&self.default_of(setting.fact), setting.fact).unwrap_or_else(|_| K::nothing())
    }

    /// The defaults that the register cannot hold, and those that it does.
    fn built_in(&self, name: &str) -> Option<Sourced> {
        let computed = match name {
            "myhostname" => self.default_host_name(),
            "mydomain" => {
                let host = self.expanded("myhostname").unwrap_or_default();
                host.as_str().split_once('.').map_or("localdomain", |(_, domain)| domain).to_owned()
            }
            "mynetworks" => {
                let style = self.expanded("mynetworks_style").unwrap_or_default();
                self.host.machine.networks(style.as_str())
            }
            "mail_version" if self.host.machine.version.is_some() => {
                self.host.machine.version.clone().unwrap_or_default()
            }
            name if is_forgotten("postfix", name) && COMPUTED.contains(&name) => String::new(),
            "stress" => if self.stressed { "yes" } else { "" }.to_owned(),
            "service_name" => self.service.map(|service| service.name.clone()).unwrap_or_default(),
            "process_name" => {
                self.service.map(|service| service.command.clone()).unwrap_or_default()
            }
            "process_id" => std::process::id().to_string(),
            "config_directory" => self.host.directory().to_string_lossy().into_owned(),
            _ => return find(FACTS, name).map(|fact| Sourced::built_in(fact.default)),
        };
        Some(Sourced::built_in(computed))
    }

    /// gethostname(), with a domain: main.cf's own, or `localdomain`.
    fn default_host_name(&self) -> String {
        let name = &self.host.machine.host_name;
        if name.contains('.') {
            return name.clone();
        }
        match self.written("mydomain").map(|raw| expand::expand(raw, self)) {
            Some(Ok(domain)) => format!("{name}.{domain}"),
            _ => format!("{name}.localdomain"),
        }
    }
}

/// What no file sets.
const COMPUTED: &[&str] =
    &["stress", "service_name", "process_name", "process_id", "config_directory"];

fn is_raw<K: 'static>() -> bool {
    std::any::TypeId::of::<K>() == std::any::TypeId::of::<Raw>()
}

impl View<'_> {
    fn raw(&self, name: &str) -> Option<Sourced> {
        self.written(name).cloned().or_else(|| self.built_in(name))
    }
}

impl Names for View<'_> {
    fn raw(&self, name: &str) -> Option<Sourced> {
        View::raw(self, name)
    }
}
