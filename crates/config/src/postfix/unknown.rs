//! Names that Postfix would not know, and settings that we do not obey.

use std::collections::BTreeSet;

use super::expand::references;
use super::host::Host;
use super::kind;
use super::names::FACTS;
use super::view::View;
use super::words::words;
use crate::register::{Fact, Mark, find};
use crate::suggest::nearest;
use crate::text::Sourced;
use crate::{Place, Problems, unsupported};

/// `<transport>_…` settings, made from the name of a service in master.cf.
const OF_TRANSPORTS: &[&str] = &[
    "delivery_slot_cost",
    "delivery_slot_discount",
    "delivery_slot_loan",
    "destination_concurrency_failed_cohort_limit",
    "destination_concurrency_limit",
    "destination_concurrency_negative_feedback",
    "destination_concurrency_positive_feedback",
    "destination_rate_delay",
    "destination_recipient_limit",
    "extra_recipient_limit",
    "initial_destination_concurrency",
    "minimum_delivery_slots",
    "recipient_limit",
    "recipient_refill_delay",
    "recipient_refill_limit",
    "time_limit",
    "transport_rate_delay",
];

/// Warns of each name in main.cf and in `-o` that nothing reads, as postconf does, with what may be meant.
pub fn report(host: &Host, problems: &mut Problems) {
    let used = used_names(host);
    let services: BTreeSet<&str> = host.services().map(|service| service.name.as_str()).collect();
    let of_services: Vec<String> = services
        .iter()
        .flat_map(|service| OF_TRANSPORTS.iter().map(move |setting| format!("{service}_{setting}")))
        .collect();
    let mut written: Vec<(&str, &Place)> =
        host.main.iter().map(|(name, entry)| (name.as_str(), &entry.at)).collect();
    for service in host.services() {
        written.extend(service.overrides.iter().map(|known| (known.name.as_str(), &known.at)));
    }
    written.sort_by_key(|(_, at)| *at);
    for (name, at) in written {
        if find(FACTS, name).is_some() || used.has(name) {
            continue;
        }
        match transport_of(name) {
            Some(transport) if services.contains(transport) => {}
            Some(transport) => {
                let what = format!("{name}: master.cf has no service \"{transport}\"");
                let known = nearest(transport, services.iter().copied());
                problems
                    .warning(at.clone(), what)
                    .instead(meant(known, "name a service of master.cf"));
            }
            None => {
                let names =
                    FACTS.iter().map(|fact| fact.name).chain(used.names.iter().map(String::as_str));
                let known = nearest(name, names.chain(of_services.iter().map(String::as_str)));
                problems
                    .warning(at.clone(), format!("unknown setting {name}, which nothing reads"))
                    .instead(meant(known, "remove it"));
            }
        }
    }
}

fn meant(known: Option<&str>, else_do: &str) -> String {
    known.map_or_else(|| else_do.to_owned(), |known| format!("did you mean {known}?"))
}

pub(super) fn transport_of(name: &str) -> Option<&str> {
    OF_TRANSPORTS
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix)?.strip_suffix('_'))
        .filter(|transport| !transport.is_empty())
}

/// The names of the operator's own that some value refers to.
pub(super) struct Used {
    names: BTreeSet<String>,
    /// Names of `ldap:name`, `mysql:name` … tables, whose settings are `name_server_host` and so on.
    prefixes: BTreeSet<String>,
}

impl Used {
    /// Whether some value reads it.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.has_prefix_of(name)
    }

    fn has_prefix_of(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| {
            name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('_'))
        })
    }
}

pub(super) fn used_names(host: &Host) -> Used {
    let mut used = Used { names: BTreeSet::new(), prefixes: BTreeSet::new() };
    let mut look = |value: &Sourced| {
        used.names.extend(references(value.as_str()));
        for word in words(value) {
            let mut table = word.as_str();
            while let Some((kind, name)) = table.split_once(':') {
                if matches!(kind, "ldap" | "mysql" | "pgsql" | "sqlite" | "memcache")
                    && !name.starts_with(['/', '.'])
                {
                    used.prefixes.insert(name.to_owned());
                }
                table = name;
            }
        }
    };
    host.main.values().for_each(|entry| look(&entry.value));
    host.services().flat_map(|service| &service.overrides).for_each(|known| look(&known.value));
    for service in host.services() {
        for operand in &service.operands {
            used.names.extend(references(operand.as_str()));
        }
        let classes = host.view(service).expanded("smtpd_restriction_classes").unwrap_or_default();
        used.names.extend(words(&classes).into_iter().map(|word| word.text));
    }
    let classes = host.main().expanded("smtpd_restriction_classes").unwrap_or_default();
    used.names.extend(words(&classes).into_iter().map(|word| word.text));
    used
}

/// Reports each value that cannot be expanded or read: an error when we obey the setting, else a warning, since no
/// daemon of ours stumbles over it.
pub fn report_values(host: &Host, problems: &mut Problems) {
    for (name, entry) in &host.main {
        report_value(name, host.main(), &entry.value, &entry.at, problems);
    }
    for service in host.services() {
        for known in &service.overrides {
            report_value(&known.name, host.view(service), &known.value, &known.at, problems);
        }
    }
}

fn report_value(name: &str, view: View<'_>, value: &Sourced, at: &Place, problems: &mut Problems) {
    let Some(fact) = find(FACTS, name).filter(|fact| fact.kind != "raw") else { return };
    let (at, what, instead) = match view.expand(value) {
        Ok(text) => match kind::check(&text, fact) {
            Ok(()) => return,
            Err(fault) => (fault.at.unwrap_or_else(|| at.clone()), fault.what, fault.instead),
        },
        Err(error) => (at.clone(), error.to_string(), error.instead().to_owned()),
    };
    let what = format!("{name}: {what}");
    match fact.mark {
        Mark::Supported | Mark::Differs => problems.error(at, what).instead(instead),
        Mark::Harmless | Mark::Unsupported => problems.warning(at, what).instead(instead),
    }
}

/// See [`Host::report_unsupported`].
pub fn report_unsupported(host: &Host, commands: &[&str], problems: &mut Problems) {
    let concerns = |fact: &Fact| commands.iter().any(|command| fact.is_read_by(command));
    let main = host.main();
    for (name, entry) in &host.main {
        if let Some(fact) = find(FACTS, name)
            && concerns(fact)
        {
            report_one(fact, main, &entry.value, &entry.at, problems);
        }
    }
    for service in host.services().filter(|service| commands.contains(&service.command.as_str())) {
        let view = host.view(service);
        for known in &service.overrides {
            if let Some(fact) = find(FACTS, &known.name)
                && concerns(fact)
            {
                report_one(fact, view, &known.value, &known.at, problems);
            }
        }
    }
}

fn report_one(fact: &Fact, view: View<'_>, value: &Sourced, at: &Place, problems: &mut Problems) {
    if fact.mark != Mark::Unsupported {
        return;
    }
    let written = view.expand(value).unwrap_or_default();
    let is = |value: &str| same(written.as_str(), value);
    if unsupported::holds_anyway(fact, view.default_of(fact).as_str(), is) {
        return;
    }
    unsupported::tell(fact.name, fact, at, "Postfix", problems);
}

/// Whether two values are the same apart from blanks, commas and letters' case.
pub(super) fn same(left: &str, right: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| c.is_ascii_whitespace() || c == ',')
            .filter(|w| !w.is_empty())
            .map(str::to_ascii_lowercase)
            .collect()
    };
    words(left) == words(right)
}
