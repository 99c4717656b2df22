//! The lines of main.cf and master.cf that set something.

use std::collections::BTreeMap;

use super::host::Host;
use super::names::FACTS;
use super::unknown::{Used, same, transport_of, used_names};
use super::view::View;
use crate::inventory::{Standing, Written};
use crate::register::find;
use crate::text::Sourced;
use crate::unsupported::holds_anyway;

impl Host {
    /// Every setting of main.cf and of `-o` in master.cf, in the order of files and lines.
    #[must_use]
    pub fn inventory(&self) -> Vec<Written> {
        let used = used_names(self);
        let services: BTreeMap<&str, &str> = self
            .services()
            .map(|service| (service.name.as_str(), service.command.as_str()))
            .collect();
        let main = self.main();
        let mut written = Vec::new();
        for (name, entry) in &self.main {
            let standing = standing(name, &used, &services);
            written.push(Written {
                name: name.clone(),
                of: String::new(),
                at: entry.at.clone(),
                standing,
                is_default: is_default(standing, main, &entry.value),
            });
        }
        for service in self.services() {
            let view = self.view(service);
            let of = format!("{}/{}", service.name, service.kind.name());
            for known in &service.overrides {
                let standing = standing(&known.name, &used, &services);
                written.push(Written {
                    name: known.name.clone(),
                    of: of.clone(),
                    at: known.at.clone(),
                    standing,
                    is_default: is_default(standing, view, &known.value),
                });
            }
        }
        written.sort_by(|one, other| one.at.cmp(&other.at));
        written
    }
}

/// `services`: the command of each.
fn standing(name: &str, used: &Used, services: &BTreeMap<&str, &str>) -> Standing {
    if let Some(fact) = find(FACTS, name) {
        return Standing::Known(fact);
    }
    if used.has(name) {
        return Standing::Own;
    }
    let known = transport_of(name).and_then(|transport| services.get_key_value(transport));
    let Some((transport, command)) = known else { return Standing::Unknown };
    let of_all = match name.strip_prefix(transport).unwrap_or(name).trim_start_matches('_') {
        // Of pipe(8) and spawn(8), whose defaults have a name of their own.
        "time_limit" if matches!(*command, "pipe" | "spawn") => "command_time_limit",
        of_all => of_all,
    };
    find(FACTS, &format!("default_{of_all}"))
        .or_else(|| find(FACTS, of_all))
        .map_or(Standing::Unknown, Standing::Known)
}

fn is_default(standing: Standing, view: View<'_>, value: &Sourced) -> bool {
    let Standing::Known(fact) = standing else { return false };
    let written = view.expand(value).unwrap_or_default();
    let is = |value: &str| same(written.as_str(), value);
    holds_anyway(fact, view.default_of(fact).as_str(), is)
}

#[cfg(test)]
mod tests {
    use crate::Problems;
    use crate::files::Memory;
    use crate::inventory::Meaning;
    use crate::postfix::Host;

    #[test]
    fn every_line_has_a_meaning() {
        let files = Memory::with([
            (
                "/p/main.cf",
                "smtpd_banner = x\nsmtp_min_data_rate = 500\nlock_stale_time = 1h\nrules = permit\nsmtpd_client_restrictions = $rules\n\
                 slow_destination_rate_delay = 2s\nmulti_instance_directories = /etc/postfix-2\nfoo = bar\nldap_x = 1\nalias_maps = hash:/a\n\
                 policy_time_limit = 1h\nslow_time_limit = 1h\n",
            ),
            (
                "/p/master.cf",
                "slow unix - - n - - smtp\n -o smtp_helo_timeout=5s\n -o mynetworks_style=host\n\
                 policy unix - n n - 0 spawn user=nobody argv=/bin/true\n",
            ),
        ]);
        let host = Host::read(&files, "/p".as_ref(), &mut Problems::default());
        let found: Vec<(String, Meaning)> = host
            .inventory()
            .iter()
            .map(|one| (format!("{} {}{}", one.at.line, one.of, one.name), one.meaning()))
            .collect();
        let meaning =
            |line: &str| found.iter().find(|(name, _)| name == line).map(|(_, meaning)| *meaning);
        assert_eq!(meaning("1 smtpd_banner"), Some(Meaning::Obeyed));
        assert_eq!(meaning("2 smtp_min_data_rate"), Some(Meaning::Default), "{found:?}");
        assert_eq!(meaning("4 rules"), Some(Meaning::Obeyed));
        assert_eq!(meaning("6 slow_destination_rate_delay"), Some(Meaning::Obeyed));
        assert_eq!(meaning("7 multi_instance_directories"), Some(Meaning::Refused));
        assert_eq!(meaning("8 foo"), Some(Meaning::Unknown));
        assert_eq!(meaning("2 slow/unixsmtp_helo_timeout"), Some(Meaning::Obeyed));
        assert_eq!(meaning("11 policy_time_limit"), Some(Meaning::Obeyed));
        assert_eq!(meaning("12 slow_time_limit"), Some(Meaning::Unknown));
        assert_eq!(found.len(), 14);
    }
}
