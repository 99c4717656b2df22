//! [`Settings`] from main.cf.

use std::net::IpAddr;

use config::postfix::{self, Match, Table, View, with_files};
use config::{Files, Problems};

use crate::domains::{DomainList, Subdomains};
use crate::rewrite::Rewriting;
use crate::settings::{
    AddressMaps, Classes, ExpansionLimits, KnownRecipients, Settings, Transports,
};
use crate::tables::{Maps, TableName};

impl Maps {
    /// The tables of a setting that the configuration has already read.
    #[must_use]
    pub fn of(tables: &[Table]) -> Self {
        tables.iter().map(|table| TableName::new(table.to_string())).collect()
    }
}

impl Settings {
    /// Reads what routing obeys, as the service of `view` sees it.
    pub fn read(view: &View<'_>, files: &dyn Files, problems: &mut Problems) -> Self {
        let transports = transports(view, problems);
        Self {
            myhostname: view.get(postfix::MYHOSTNAME, problems),
            rewriting: rewriting(view, problems),
            recipient_delimiter: view.get(postfix::RECIPIENT_DELIMITER, problems),
            empty_address_recipient: view.get(postfix::EMPTY_ADDRESS_RECIPIENT, problems),
            resolve_dequoted_address: view.get(postfix::RESOLVE_DEQUOTED_ADDRESS, problems),
            resolve_null_domain: view.get(postfix::RESOLVE_NULL_DOMAIN, problems),
            own_addresses: own_addresses(view, files, problems),
            classes: classes(view, files, problems),
            probe_transports: probe_transports(view, &transports, problems),
            transports,
            maps: address_maps(view, files, problems),
            known: known(view, problems),
        }
    }
}

fn rewriting(view: &View<'_>, problems: &mut Problems) -> Rewriting {
    Rewriting {
        myorigin: view.get(postfix::MYORIGIN, problems),
        mydomain: view.get(postfix::MYDOMAIN, problems),
        remote_header_rewrite_domain: view.get(postfix::REMOTE_HEADER_REWRITE_DOMAIN, problems),
        append_at_myorigin: view.get(postfix::APPEND_AT_MYORIGIN, problems),
        append_dot_mydomain: view.get(postfix::APPEND_DOT_MYDOMAIN, problems),
        swap_bangpath: view.get(postfix::SWAP_BANGPATH, problems),
        percent_hack: view.get(postfix::ALLOW_PERCENT_HACK, problems),
    }
}

/// Whether the lists named here take a parent domain for its subdomains.
fn parents_match(view: &View<'_>, setting: &str, problems: &mut Problems) -> Subdomains {
    let list = view.get(postfix::PARENT_DOMAIN_MATCHES_SUBDOMAINS, problems);
    match list.iter().any(|word| word.as_str() == setting) {
        true => Subdomains::WithParent,
        false => Subdomains::WithDot,
    }
}

fn classes(view: &View<'_>, files: &dyn Files, problems: &mut Problems) -> Classes {
    let relay_style = parents_match(view, "relay_domains", problems);
    let mut list =
        |list: Vec<Match>, style| DomainList::new(with_files(list, files, problems), style);
    let mut none = Problems::default();
    let classes = Classes {
        mydestination: list(view.get(postfix::MYDESTINATION, &mut none), Subdomains::No),
        virtual_alias_domains: list(
            view.get(postfix::VIRTUAL_ALIAS_DOMAINS, &mut none),
            Subdomains::No,
        ),
        virtual_mailbox_domains: list(
            view.get(postfix::VIRTUAL_MAILBOX_DOMAINS, &mut none),
            Subdomains::No,
        ),
        relay_domains: list(view.get(postfix::RELAY_DOMAINS, &mut none), relay_style),
    };
    problems.extend(none);
    classes
}

fn transports(view: &View<'_>, problems: &mut Problems) -> Transports {
    let relayhosts = view.get(postfix::RELAYHOST, problems);
    let relayhosts: Vec<&str> = relayhosts.iter().map(|word| word.as_str()).collect();
    Transports {
        local: view.get(postfix::LOCAL_TRANSPORT, problems),
        virtual_mailbox: view.get(postfix::VIRTUAL_TRANSPORT, problems),
        relay: view.get(postfix::RELAY_TRANSPORT, problems),
        default: view.get(postfix::DEFAULT_TRANSPORT, problems),
        relayhost: relayhosts.join(", "),
        transport_maps: Maps::of(&view.get(postfix::TRANSPORT_MAPS, problems)),
        transport_subdomains: parents_match(view, "transport_maps", problems),
        sender_dependent_default_transport_maps: Maps::of(
            &view.get(postfix::SENDER_DEPENDENT_DEFAULT_TRANSPORT_MAPS, problems),
        ),
        sender_dependent_relayhost_maps: Maps::of(
            &view.get(postfix::SENDER_DEPENDENT_RELAYHOST_MAPS, problems),
        ),
        null_sender_transport_key: view
            .get(postfix::EMPTY_ADDRESS_DEFAULT_TRANSPORT_MAPS_LOOKUP_KEY, problems),
        null_sender_relayhost_key: view
            .get(postfix::EMPTY_ADDRESS_RELAYHOST_MAPS_LOOKUP_KEY, problems),
    }
}

/// The same for address probes; each setting's default is its ordinary twin.
fn probe_transports(view: &View<'_>, ordinary: &Transports, problems: &mut Problems) -> Transports {
    Transports {
        local: view.get(postfix::ADDRESS_VERIFY_LOCAL_TRANSPORT, problems),
        virtual_mailbox: view.get(postfix::ADDRESS_VERIFY_VIRTUAL_TRANSPORT, problems),
        relay: view.get(postfix::ADDRESS_VERIFY_RELAY_TRANSPORT, problems),
        default: view.get(postfix::ADDRESS_VERIFY_DEFAULT_TRANSPORT, problems),
        relayhost: view.get(postfix::ADDRESS_VERIFY_RELAYHOST, problems),
        transport_maps: Maps::of(&view.get(postfix::ADDRESS_VERIFY_TRANSPORT_MAPS, problems)),
        sender_dependent_default_transport_maps: Maps::of(
            &view.get(postfix::ADDRESS_VERIFY_SENDER_DEPENDENT_DEFAULT_TRANSPORT_MAPS, problems),
        ),
        sender_dependent_relayhost_maps: Maps::of(
            &view.get(postfix::ADDRESS_VERIFY_SENDER_DEPENDENT_RELAYHOST_MAPS, problems),
        ),
        ..ordinary.clone()
    }
}

fn address_maps(view: &View<'_>, files: &dyn Files, problems: &mut Problems) -> AddressMaps {
    let propagate = view.get(postfix::PROPAGATE_UNMATCHED_EXTENSIONS, problems);
    let propagates = |name: &str| propagate.iter().any(|word| word.as_str() == name);
    let exceptions = view.get(postfix::MASQUERADE_EXCEPTIONS, problems);
    let exceptions = exceptions.iter().map(|word| word.as_str().to_owned()).collect();
    let number = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
    AddressMaps {
        canonical: Maps::of(&view.get(postfix::CANONICAL_MAPS, problems)),
        sender_canonical: Maps::of(&view.get(postfix::SENDER_CANONICAL_MAPS, problems)),
        recipient_canonical: Maps::of(&view.get(postfix::RECIPIENT_CANONICAL_MAPS, problems)),
        virtual_alias: Maps::of(&view.get(postfix::VIRTUAL_ALIAS_MAPS, problems)),
        relocated: Maps::of(&view.get(postfix::RELOCATED_MAPS, problems)),
        propagate_in_canonical: propagates("canonical"),
        propagate_in_virtual: propagates("virtual"),
        limits: ExpansionLimits {
            addresses: number(view.get(postfix::VIRTUAL_ALIAS_EXPANSION_LIMIT, problems)),
            nesting: number(view.get(postfix::VIRTUAL_ALIAS_RECURSION_LIMIT, problems)),
            address_length: number(view.get(postfix::VIRTUAL_ALIAS_ADDRESS_LENGTH_LIMIT, problems)),
        },
        masquerade_domains: names(view.get(postfix::MASQUERADE_DOMAINS, problems), files, problems),
        masquerade_exceptions: exceptions,
    }
}

/// A list of plain names, with `!` where it was written.
fn names(list: Vec<Match>, files: &dyn Files, problems: &mut Problems) -> Vec<String> {
    let name = |item: Match| match item.pattern {
        postfix::Pattern::Text(name) if item.negated => Some(format!("!{name}")),
        postfix::Pattern::Text(name) => Some(name),
        _ => None,
    };
    with_files(list, files, problems).into_iter().filter_map(name).collect()
}

fn known(view: &View<'_>, problems: &mut Problems) -> KnownRecipients {
    let code = |value: i64| u16::try_from(value).unwrap_or(550);
    KnownRecipients {
        local: Maps::of(&view.get(postfix::LOCAL_RECIPIENT_MAPS, problems)),
        aliases: Maps::of(&view.get(postfix::ALIAS_MAPS, problems)),
        virtual_mailbox: Maps::of(&view.get(postfix::VIRTUAL_MAILBOX_MAPS, problems)),
        relay: Maps::of(&view.get(postfix::RELAY_RECIPIENT_MAPS, problems)),
        show_table_name: view.get(postfix::SHOW_USER_UNKNOWN_TABLE_NAME, problems),
        double_bounce_sender: view.get(postfix::DOUBLE_BOUNCE_SENDER, problems),
        local_code: code(view.get(postfix::UNKNOWN_LOCAL_RECIPIENT_REJECT_CODE, problems)),
        virtual_alias_code: code(view.get(postfix::UNKNOWN_VIRTUAL_ALIAS_REJECT_CODE, problems)),
        virtual_mailbox_code: code(
            view.get(postfix::UNKNOWN_VIRTUAL_MAILBOX_REJECT_CODE, problems),
        ),
        relay_code: code(view.get(postfix::UNKNOWN_RELAY_RECIPIENT_REJECT_CODE, problems)),
    }
}

/// The addresses that `inet_interfaces` and `proxy_interfaces` stand for.
fn own_addresses(view: &View<'_>, files: &dyn Files, problems: &mut Problems) -> Vec<IpAddr> {
    let machine = || files.addresses().into_iter().map(|(address, _)| address);
    let mut own: Vec<IpAddr> = Vec::new();
    let lists = [
        view.get(postfix::INET_INTERFACES, problems),
        view.get(postfix::PROXY_INTERFACES, problems),
    ];
    for word in lists.iter().flatten() {
        let name = word.as_str();
        match name.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => own.push(address),
            Err(_) if name == "all" => own.extend(machine()),
            Err(_) if name == "loopback-only" || name == "localhost" => {
                own.extend(machine().filter(IpAddr::is_loopback));
            }
            Err(_) => {
                problems
                    .warning(
                        word.at.clone(),
                        format!(
                            "{name} is not an address: mail for [its address] is not taken as ours"
                        ),
                    )
                    .instead("write the address itself");
            }
        }
    }
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests {
    use config::files::Memory;
    use config::{Problems, postfix::Host};

    use crate::settings::Settings;

    #[tokio::test]
    async fn settings_come_from_main_cf() {
        let main = "mydomain = example.com\nmyorigin = $mydomain\nmydestination = $myhostname, /p/more\n\
                    virtual_alias_maps = hash:/p/virtual\ntransport_maps = inline:{x=y:}\n\
                    inet_interfaces = 127.0.0.1, [::1]\nalias_maps = hash:/p/aliases\nrelayhost = [a]:587\n\
                    recipient_delimiter = +\n";
        let files = Memory::with([
            ("/p/main.cf", main),
            ("/p/master.cf", ""),
            ("/p/more", "more.example.com\n"),
        ]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let settings = Settings::read(&host.main(), &files, &mut problems);
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(settings.rewriting.myorigin, "example.com");
        assert_eq!(settings.transports.relayhost, "[a]:587");
        assert_eq!(settings.transports.local, "local:host.example.com");
        assert_eq!(settings.own_addresses.len(), 2);
        let tables: Vec<_> = settings.tables().iter().map(ToString::to_string).collect();
        assert!(tables.contains(&"hash:/p/aliases".to_owned()), "{tables:?}");
        assert!(tables.contains(&"proxy:unix:passwd.byname".to_owned()), "{tables:?}");
        let own = &settings.classes.mydestination;
        let tables = crate::testing::Memory::default();
        assert_eq!(own.holds(&tables, "more.example.com").await, Ok(true));
        assert_eq!(own.holds(&tables, "other.example.com").await, Ok(false));
    }

    fn read(line: &str) -> String {
        let files = Memory::with([("/p/main.cf", line), ("/p/master.cf", "")]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let settings = Settings::read(&host.main(), &files, &mut problems);
        assert!(!problems.has_errors(), "{problems:?}");
        format!("{settings:?}")
    }

    #[test]
    fn every_setting_changes_what_is_decided() {
        let plain = read("");
        for line in [
            "myhostname = h.x",
            "mydomain = d.x",
            "myorigin = o.x",
            "remote_header_rewrite_domain = r.x",
            "append_at_myorigin = no",
            "append_dot_mydomain = no",
            "swap_bangpath = no",
            "allow_percent_hack = no",
            "recipient_delimiter = -",
            "empty_address_recipient = nobody",
            "resolve_dequoted_address = no",
            "resolve_null_domain = yes",
            "inet_interfaces = 192.0.2.1",
            "proxy_interfaces = 192.0.2.2",
            "parent_domain_matches_subdomains = transport_maps",
            "mydestination = x",
            "virtual_alias_domains = x",
            "virtual_mailbox_domains = x",
            "relay_domains = x",
            "local_transport = x:",
            "virtual_transport = x",
            "relay_transport = x",
            "default_transport = x",
            "relayhost = x",
            "transport_maps = hash:/x",
            "sender_dependent_default_transport_maps = hash:/x",
            "sender_dependent_relayhost_maps = hash:/x",
            "empty_address_default_transport_maps_lookup_key = x",
            "empty_address_relayhost_maps_lookup_key = x",
            "propagate_unmatched_extensions = canonical",
            "canonical_maps = hash:/x",
            "sender_canonical_maps = hash:/x",
            "recipient_canonical_maps = hash:/x",
            "virtual_alias_maps = hash:/x",
            "relocated_maps = hash:/x",
            "virtual_alias_expansion_limit = 7",
            "virtual_alias_recursion_limit = 7",
            "virtual_alias_address_length_limit = 7",
            "masquerade_domains = x",
            "masquerade_exceptions = x",
            "local_recipient_maps = hash:/x",
            "virtual_mailbox_maps = hash:/x",
            "relay_recipient_maps = hash:/x",
            "show_user_unknown_table_name = no",
            "double_bounce_sender = x",
            "unknown_local_recipient_reject_code = 450",
            "unknown_virtual_alias_reject_code = 450",
            "unknown_virtual_mailbox_reject_code = 450",
            "unknown_relay_recipient_reject_code = 450",
            "address_verify_local_transport = x",
            "address_verify_virtual_transport = x",
            "address_verify_relay_transport = x",
            "address_verify_default_transport = x",
            "address_verify_relayhost = x",
            "address_verify_transport_maps = hash:/x",
            "address_verify_sender_dependent_default_transport_maps = hash:/x",
            "address_verify_sender_dependent_relayhost_maps = hash:/x",
        ] {
            assert!(read(line) != plain, "{line}");
        }
    }
}
