//! The restriction lists and what they depend on.

use std::collections::BTreeMap;

use config::postfix::kind::Restrictions;
use config::postfix::{self, Host, View, with_files};
use config::register::Setting;
use config::text::Word;
use config::{Place, Problems, files::Disk};
use routing::Maps;

use super::outside;
use super::service::parents;
use crate::policy::{
    AddressList, ListSet, PolicySettings, RecipientTables, RejectCodes, Restriction, Tempfails,
    Unusable, parse,
};

type Classes = BTreeMap<String, Vec<Restriction>>;

pub(super) fn read(host: &Host, view: &View<'_>, problems: &mut Problems) -> PolicySettings {
    let classes = classes(view, problems);
    let lists = lists(view, &classes, problems);
    let routing = routing::Settings::read(view, &Disk, problems);
    let destination = with_files(view.get(postfix::MYDESTINATION, problems), &Disk, problems);
    let networks = with_files(view.get(postfix::MYNETWORKS, problems), &Disk, problems);
    let overrides = view.get(postfix::RECEIVE_OVERRIDE_OPTIONS, problems);
    let known = routing.known;
    let maps = routing.maps;
    require_relay_control(host, view, &lists, &classes, problems);
    PolicySettings {
        delay_reject: view.get(postfix::SMTPD_DELAY_REJECT, problems),
        relay_before_recipient: view
            .get(postfix::SMTPD_RELAY_BEFORE_RECIPIENT_RESTRICTIONS, problems),
        reject_unlisted_recipient: view.get(postfix::SMTPD_REJECT_UNLISTED_RECIPIENT, problems),
        reject_unlisted_sender: view.get(postfix::SMTPD_REJECT_UNLISTED_SENDER, problems),
        accept_unlisted: overrides
            .iter()
            .any(|word| word.as_str() == "no_unknown_recipient_checks"),
        allow_untrusted_routing: view.get(postfix::ALLOW_UNTRUSTED_ROUTING, problems),
        show_table_name: known.show_table_name,
        soft_bounce: view.get(postfix::SOFT_BOUNCE, problems),
        access_parents: parents(view, "smtpd_access_maps", problems),
        sasl_enabled: view.get(postfix::SMTPD_SASL_AUTH_ENABLE, problems),
        null_sender_key: view.get(postfix::SMTPD_NULL_ACCESS_LOOKUP_KEY, problems),
        double_bounce_sender: known.double_bounce_sender,
        recipient_delimiter: routing.recipient_delimiter,
        origin: routing.rewriting.myorigin,
        codes: codes(view, problems),
        networks: AddressList::new(networks, parents(view, "mynetworks", problems)),
        local_rewrite_clients: local_rewrite_clients(view, problems),
        destination: AddressList::new(destination, false),
        own_addresses: routing.own_addresses,
        tables: RecipientTables {
            local: known.local,
            aliases: known.aliases,
            virtual_mailbox: known.virtual_mailbox,
            relay: known.relay,
            virtual_alias: maps.virtual_alias,
            canonical: maps.canonical,
            recipient_canonical: maps.recipient_canonical,
            sender_canonical: maps.sender_canonical,
            sender_login: Maps::of(&view.get(postfix::SMTPD_SENDER_LOGIN_MAPS, problems)),
        },
        log_permits: view
            .get(postfix::SMTPD_LOG_ACCESS_PERMIT_ACTIONS, problems)
            .into_iter()
            .map(|word| word.text)
            .collect(),
        blocklists: outside::blocklists(view, problems),
        tempfail: Tempfails {
            helo: outside::tempfail(view, postfix::UNKNOWN_HELO_HOSTNAME_TEMPFAIL_ACTION, problems),
            address: outside::tempfail(view, postfix::UNKNOWN_ADDRESS_TEMPFAIL_ACTION, problems),
        },
        verification: outside::verification(view, problems),
        mx_backup_networks: super::service::networks(
            view,
            postfix::PERMIT_MX_BACKUP_NETWORKS,
            problems,
        ),
        policy_servers: outside::policy_servers(host, view, &lists, &classes, problems),
        lists,
        classes,
    }
}

/// The administrator's own names for lists, each a setting of its own.
fn classes(view: &View<'_>, problems: &mut Problems) -> Classes {
    let names = view.get(postfix::SMTPD_RESTRICTION_CLASSES, problems);
    let mut known: BTreeMap<String, ()> = BTreeMap::new();
    known.extend(names.iter().map(|word| (word.text.clone(), ())));
    let mut classes = Classes::new();
    for name in names {
        let Some(text) = view.text(&name.text, problems) else {
            let what = format!("smtpd_restriction_classes: {} is not defined", name.text);
            problems.error(name.at, what).instead(format!("write {} = …", name.text));
            continue;
        };
        let words = postfix::words(&text);
        let list = restrictions(&name.text, &words, true, &known, problems);
        classes.insert(name.text, list);
    }
    classes
}

fn lists(view: &View<'_>, classes: &Classes, problems: &mut Problems) -> ListSet {
    let mut list = |setting: Setting<Restrictions>, bare: bool| {
        let words = view.get(setting, problems);
        restrictions(setting.name(), &words, bare, classes, problems)
    };
    ListSet {
        client: list(postfix::SMTPD_CLIENT_RESTRICTIONS, true),
        helo: list(postfix::SMTPD_HELO_RESTRICTIONS, true),
        sender: list(postfix::SMTPD_SENDER_RESTRICTIONS, true),
        relay: list(postfix::SMTPD_RELAY_RESTRICTIONS, true),
        recipient: list(postfix::SMTPD_RECIPIENT_RESTRICTIONS, true),
        data: list(postfix::SMTPD_DATA_RESTRICTIONS, false),
        end_of_data: list(postfix::SMTPD_END_OF_DATA_RESTRICTIONS, false),
        etrn: list(postfix::SMTPD_ETRN_RESTRICTIONS, true),
    }
}

fn restrictions<T>(
    setting: &str,
    words: &[Word],
    bare: bool,
    classes: &BTreeMap<String, T>,
    problems: &mut Problems,
) -> Vec<Restriction> {
    let texts: Vec<&str> = words.iter().map(Word::as_str).collect();
    let parsed = parse(&texts, bare, classes);
    for (at, unusable) in parsed.unusable {
        let place = words.get(at).and_then(|word| word.at.clone());
        refuse(setting, place, unusable, problems);
    }
    parsed.restrictions
}

fn refuse(setting: &str, place: Option<Place>, unusable: Unusable, problems: &mut Problems) {
    let (what, instead) = match unusable {
        Unusable::Unknown(word) => {
            let near = config::suggest::nearest(&word, NAMES.iter().copied());
            let instead = near.map_or_else(
                || "remove it, or name it in smtpd_restriction_classes".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            (format!("unknown restriction \"{word}\""), instead)
        }
        Unusable::Unsupported { word, needs } => (
            format!(
                "{word} needs {needs}, which is not supported yet: without it more mail would pass"
            ),
            format!("remove {word}, or leave this service to Postfix"),
        ),
        Unusable::BadArgument { word, wants } => {
            (format!("{word} needs {wants} behind it"), format!("write {word} and {wants}"))
        }
        Unusable::BareTable(word) => (
            format!("\"{word}\" does not say what is looked up"),
            format!("write check_client_access {word}, or another check_…_access"),
        ),
    };
    problems.error(place, format!("{setting}: {what}")).instead(instead);
}

/// Names to suggest for a misspelt restriction.
const NAMES: &[&str] = &[
    "permit_mynetworks",
    "permit_sasl_authenticated",
    "permit_auth_destination",
    "permit_inet_interfaces",
    "permit",
    "reject",
    "defer",
    "reject_unauth_destination",
    "defer_unauth_destination",
    "reject_unauth_pipelining",
    "reject_invalid_helo_hostname",
    "reject_non_fqdn_helo_hostname",
    "reject_unknown_helo_hostname",
    "reject_unknown_client_hostname",
    "reject_unknown_reverse_client_hostname",
    "reject_unknown_sender_domain",
    "reject_unknown_recipient_domain",
    "reject_unverified_sender",
    "reject_unverified_recipient",
    "reject_rbl_client",
    "reject_rhsbl_client",
    "reject_rhsbl_helo",
    "reject_rhsbl_sender",
    "reject_rhsbl_recipient",
    "permit_dnswl_client",
    "check_policy_service",
    "reject_non_fqdn_sender",
    "reject_non_fqdn_recipient",
    "reject_unlisted_sender",
    "reject_unlisted_recipient",
    "reject_sender_login_mismatch",
    "reject_multi_recipient_bounce",
    "check_client_access",
    "check_helo_access",
    "check_sender_access",
    "check_recipient_access",
    "warn_if_reject",
];

/// As Postfix: a server that would relay for everybody does not start.
fn require_relay_control(
    host: &Host,
    view: &View<'_>,
    lists: &ListSet,
    classes: &Classes,
    problems: &mut Problems,
) {
    let controlled = controls(&lists.relay, classes, 0) || controls(&lists.recipient, classes, 0);
    if controlled || problems.has_errors() {
        return;
    }
    let place = view
        .place(postfix::SMTPD_RELAY_RESTRICTIONS)
        .or_else(|| view.place(postfix::SMTPD_RECIPIENT_RESTRICTIONS))
        .unwrap_or_else(|| Place::file(host.directory().join("main.cf")));
    problems
        .error(
            place,
            "in smtpd_relay_restrictions or smtpd_recipient_restrictions nothing forbids relaying",
        )
        .instead("add reject_unauth_destination, defer_unauth_destination, reject or defer");
}

fn controls(list: &[Restriction], classes: &Classes, depth: usize) -> bool {
    let mut warn_only = false;
    for restriction in list {
        match restriction {
            Restriction::WarnIfReject => {
                warn_only = true;
                continue;
            }
            Restriction::Permit => return false,
            Restriction::Reject
            | Restriction::Defer
            | Restriction::DeferIfPermit
            | Restriction::RejectUnauthDestination
            | Restriction::DeferUnauthDestination
                if !warn_only =>
            {
                return true;
            }
            Restriction::Class(name)
                if depth < 10
                    && !warn_only
                    && classes.get(name).is_some_and(|list| controls(list, classes, depth + 1)) =>
            {
                return true;
            }
            _ => {}
        }
        warn_only = false;
    }
    false
}

fn local_rewrite_clients(view: &View<'_>, problems: &mut Problems) -> Vec<Restriction> {
    let setting = postfix::LOCAL_HEADER_REWRITE_CLIENTS;
    let mut words = view.get(setting, problems);
    for word in &mut words {
        if word.text.eq_ignore_ascii_case("check_address_map") {
            word.text = "check_client_access".to_owned();
        }
    }
    let list = restrictions(setting.name(), &words, true, &BTreeMap::<String, ()>::new(), problems);
    list.into_iter()
        .filter(|restriction| {
            matches!(
                restriction,
                Restriction::PermitInetInterfaces
                    | Restriction::PermitMynetworks
                    | Restriction::PermitSaslAuthenticated
                    | Restriction::Table(_)
                    | Restriction::Access(..)
            )
        })
        .collect()
}

fn codes(view: &View<'_>, problems: &mut Problems) -> RejectCodes {
    let mut code = |setting: Setting<postfix::kind::Integer>| {
        let value = view.get(setting, problems);
        match u16::try_from(value) {
            Ok(code) if (400..600).contains(&code) => code,
            _ => {
                let what = format!("{}: {value} is no reply code of a rejection", setting.name());
                problems.error(view.place(setting), what).instead("write a number from 400 to 599");
                450
            }
        }
    };
    RejectCodes {
        access_map_reject: code(postfix::ACCESS_MAP_REJECT_CODE),
        access_map_defer: code(postfix::ACCESS_MAP_DEFER_CODE),
        defer: code(postfix::DEFER_CODE),
        reject: code(postfix::REJECT_CODE),
        relay_domains: code(postfix::RELAY_DOMAINS_REJECT_CODE),
        invalid_hostname: code(postfix::INVALID_HOSTNAME_REJECT_CODE),
        non_fqdn: code(postfix::NON_FQDN_REJECT_CODE),
        unknown_local: code(postfix::UNKNOWN_LOCAL_RECIPIENT_REJECT_CODE),
        unknown_relay: code(postfix::UNKNOWN_RELAY_RECIPIENT_REJECT_CODE),
        unknown_virtual_alias: code(postfix::UNKNOWN_VIRTUAL_ALIAS_REJECT_CODE),
        unknown_virtual_mailbox: code(postfix::UNKNOWN_VIRTUAL_MAILBOX_REJECT_CODE),
        multi_recipient_bounce: code(postfix::MULTI_RECIPIENT_BOUNCE_REJECT_CODE),
        plaintext: code(postfix::PLAINTEXT_REJECT_CODE),
        maps_rbl: code(postfix::MAPS_RBL_REJECT_CODE),
        unknown_client: code(postfix::UNKNOWN_CLIENT_REJECT_CODE),
        unknown_hostname: code(postfix::UNKNOWN_HOSTNAME_REJECT_CODE),
        unknown_address: code(postfix::UNKNOWN_ADDRESS_REJECT_CODE),
    }
}
