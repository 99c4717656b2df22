//! Restriction words of main.cf and of access tables, read into what they mean.

use std::collections::BTreeMap;

use routing::{TableName, tables::split_list};
use serde::{Deserialize, Serialize};

use super::blocklist::{Listed, Site};
use super::server::Servers;

/// One step of a restriction list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restriction {
    WarnIfReject,
    Permit,
    Defer,
    Reject,
    DeferIfPermit,
    DeferIfReject,
    Sleep(u64),
    RejectUnauthPipelining,
    RejectPlaintextSession,
    PermitInetInterfaces,
    PermitMynetworks,
    PermitSaslAuthenticated,
    PermitNakedIpAddress,
    /// `check_*_access`.
    Access(AccessOf, TableName),
    /// A bare table: it is asked about what the list is about.
    Table(TableName),
    RejectInvalidHeloHostname,
    RejectNonFqdnHeloHostname,
    RejectNonFqdnSender,
    RejectNonFqdnRecipient,
    RejectUnlistedSender,
    RejectUnlistedRecipient,
    RejectAuthenticatedSenderLoginMismatch,
    RejectKnownSenderLoginMismatch,
    RejectUnauthenticatedSenderLoginMismatch,
    PermitAuthDestination,
    RejectUnauthDestination,
    DeferUnauthDestination,
    RejectMultiRecipientBounce,
    RejectUnknownClientHostname,
    RejectUnknownReverseClientHostname,
    RejectUnknownHeloHostname,
    RejectUnknownSenderDomain,
    RejectUnknownRecipientDomain,
    RejectUnverifiedSender,
    RejectUnverifiedRecipient,
    PermitMxBackup,
    /// `reject_rbl_client`, `reject_rhsbl_*`
    Listed(Listed, Site),
    /// `permit_dnswl_client`, `permit_rhswl_client`
    PermitListed(Listed, Site),
    RejectMapsRbl,
    /// `check_*_mx_access` and its kin
    Servers(AccessOf, Servers, TableName),
    /// `check_policy_service`, by the word behind it.
    Policy(String),
    Class(String),
}

/// What an access table is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessOf {
    Client,
    ReverseClient,
    Helo,
    Sender,
    Recipient,
    Etrn,
    Sasl,
}

/// A word that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No restriction of this name exists.
    Unknown(String),
    /// It exists in Postfix, but not here yet.
    Unsupported {
        word: String,
        needs: &'static str,
    },
    BadArgument {
        word: String,
        wants: String,
    },
    /// A table without saying what to look up in it.
    BareTable(String),
}

/// A list as far as it can be read, with what cannot, by position of the word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub restrictions: Vec<Restriction>,
    pub unusable: Vec<(usize, Unusable)>,
}

impl Restriction {
    /// The name as `smtpd_log_access_permit_actions` and warnings have it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::WarnIfReject => "warn_if_reject",
            Self::Permit => "permit",
            Self::Defer => "defer",
            Self::Reject => "reject",
            Self::DeferIfPermit => "defer_if_permit",
            Self::DeferIfReject => "defer_if_reject",
            Self::Sleep(_) => "sleep",
            Self::RejectUnauthPipelining => "reject_unauth_pipelining",
            Self::RejectPlaintextSession => "reject_plaintext_session",
            Self::PermitInetInterfaces => "permit_inet_interfaces",
            Self::PermitMynetworks => "permit_mynetworks",
            Self::PermitSaslAuthenticated => "permit_sasl_authenticated",
            Self::PermitNakedIpAddress => "permit_naked_ip_address",
            Self::Access(of, _) => of.word(),
            Self::Table(table) => table.as_str(),
            Self::RejectInvalidHeloHostname => "reject_invalid_helo_hostname",
            Self::RejectNonFqdnHeloHostname => "reject_non_fqdn_helo_hostname",
            Self::RejectNonFqdnSender => "reject_non_fqdn_sender",
            Self::RejectNonFqdnRecipient => "reject_non_fqdn_recipient",
            Self::RejectUnlistedSender => "reject_unlisted_sender",
            Self::RejectUnlistedRecipient => "reject_unlisted_recipient",
            Self::RejectAuthenticatedSenderLoginMismatch => {
                "reject_authenticated_sender_login_mismatch"
            }
            Self::RejectKnownSenderLoginMismatch => "reject_known_sender_login_mismatch",
            Self::RejectUnauthenticatedSenderLoginMismatch => {
                "reject_unauthenticated_sender_login_mismatch"
            }
            Self::PermitAuthDestination => "permit_auth_destination",
            Self::RejectUnauthDestination => "reject_unauth_destination",
            Self::DeferUnauthDestination => "defer_unauth_destination",
            Self::RejectMultiRecipientBounce => "reject_multi_recipient_bounce",
            Self::RejectUnknownClientHostname => "reject_unknown_client_hostname",
            Self::RejectUnknownReverseClientHostname => "reject_unknown_reverse_client_hostname",
            Self::RejectUnknownHeloHostname => "reject_unknown_helo_hostname",
            Self::RejectUnknownSenderDomain => "reject_unknown_sender_domain",
            Self::RejectUnknownRecipientDomain => "reject_unknown_recipient_domain",
            Self::RejectUnverifiedSender => "reject_unverified_sender",
            Self::RejectUnverifiedRecipient => "reject_unverified_recipient",
            Self::PermitMxBackup => "permit_mx_backup",
            Self::RejectMapsRbl => "reject_maps_rbl",
            Self::Listed(of, _) => reject_word(*of),
            Self::PermitListed(Listed::Address, _) => "permit_dnswl_client",
            Self::PermitListed(..) => "permit_rhswl_client",
            Self::Servers(of, servers, _) => server_word(*of, *servers).unwrap_or("check_access"),
            Self::Policy(_) => "check_policy_service",
            Self::Class(name) => name,
        }
    }
}

fn reject_word(of: Listed) -> &'static str {
    match of {
        Listed::Address => "reject_rbl_client",
        Listed::Client => "reject_rhsbl_client",
        Listed::ReverseClient => "reject_rhsbl_reverse_client",
        Listed::Helo => "reject_rhsbl_helo",
        Listed::Sender => "reject_rhsbl_sender",
        Listed::Recipient => "reject_rhsbl_recipient",
    }
}

fn server_word(of: AccessOf, servers: Servers) -> Option<&'static str> {
    use AccessOf::{Client, Helo, Recipient, ReverseClient, Sender};
    use Servers::{A, Mx, Ns};
    Some(match (of, servers) {
        (Client, A) => "check_client_a_access",
        (Client, Mx) => "check_client_mx_access",
        (Client, Ns) => "check_client_ns_access",
        (ReverseClient, A) => "check_reverse_client_hostname_a_access",
        (ReverseClient, Mx) => "check_reverse_client_hostname_mx_access",
        (ReverseClient, Ns) => "check_reverse_client_hostname_ns_access",
        (Helo, A) => "check_helo_a_access",
        (Helo, Mx) => "check_helo_mx_access",
        (Helo, Ns) => "check_helo_ns_access",
        (Sender, A) => "check_sender_a_access",
        (Sender, Mx) => "check_sender_mx_access",
        (Sender, Ns) => "check_sender_ns_access",
        (Recipient, A) => "check_recipient_a_access",
        (Recipient, Mx) => "check_recipient_mx_access",
        (Recipient, Ns) => "check_recipient_ns_access",
        _ => return None,
    })
}

impl AccessOf {
    const ALL: [Self; 7] = [
        Self::Client,
        Self::ReverseClient,
        Self::Helo,
        Self::Sender,
        Self::Recipient,
        Self::Etrn,
        Self::Sasl,
    ];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "check_client_access",
            Self::ReverseClient => "check_reverse_client_hostname_access",
            Self::Helo => "check_helo_access",
            Self::Sender => "check_sender_access",
            Self::Recipient => "check_recipient_access",
            Self::Etrn => "check_etrn_access",
            Self::Sasl => "check_sasl_access",
        }
    }
}

/// Reads a list. `bare_tables`: a `type:table` without a word in front has a meaning in it. `classes` are the
/// names of `smtpd_restriction_classes`.
#[must_use]
pub fn parse<T>(words: &[&str], bare_tables: bool, classes: &BTreeMap<String, T>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let position = at;
        at += 1;
        let lower = word.to_ascii_lowercase();
        if let Some(found) = simple(&lower) {
            parsed.restrictions.extend(found);
        } else if let Some(found) = with_argument(&lower, words.get(at).copied()) {
            match found {
                Ok(restriction) => {
                    at += 1;
                    parsed.restrictions.push(restriction);
                }
                Err((wants, skip)) => {
                    at += skip;
                    parsed.unusable.push((position, Unusable::BadArgument { word: lower, wants }));
                }
            }
        } else if let Some((needs, arguments)) = unsupported(&lower) {
            at += arguments;
            parsed.unusable.push((position, Unusable::Unsupported { word: lower, needs }));
        } else if word.contains(':') {
            if bare_tables {
                parsed.restrictions.push(Restriction::Table(table_name(word)));
            } else {
                parsed.unusable.push((position, Unusable::BareTable(word.to_owned())));
            }
        } else if classes.contains_key(word) {
            parsed.restrictions.push(Restriction::Class(word.to_owned()));
        } else {
            parsed.unusable.push((position, Unusable::Unknown(word.to_owned())));
        }
    }
    parsed
}

/// What a word wants behind it, and how many words have been used up in its place.
type Wanting = (String, usize);

/// A word that takes the next one with it; nothing if it is none.
fn with_argument(word: &str, argument: Option<&str>) -> Option<Result<Restriction, Wanting>> {
    const TABLE: &str = "a lookup table, such as hash:/etc/postfix/access";
    let want = |wants: &str| Err((wants.to_owned(), 0));
    let table = argument.filter(|argument| argument.contains(':'));
    if let Some(of) = AccessOf::ALL.into_iter().find(|of| of.word() == word) {
        return Some(match table {
            Some(table) => Ok(Restriction::Access(of, table_name(table))),
            None => want(TABLE),
        });
    }
    let all = AccessOf::ALL.into_iter().flat_map(|of| Servers::ALL.map(|servers| (of, servers)));
    if let Some((of, servers)) =
        all.into_iter().find(|&(of, servers)| server_word(of, servers) == Some(word))
    {
        return Some(match table {
            Some(table) => Ok(Restriction::Servers(of, servers, table_name(table))),
            None => want(TABLE),
        });
    }
    if let Some((permits, of)) = listed(word) {
        return Some(match argument.map(Site::parse) {
            None => want("the domain of a DNS list, such as zen.spamhaus.org"),
            Some(Err(why)) => Err((format!("the domain of a DNS list ({why})"), 1)),
            Some(Ok(site)) if permits => Ok(Restriction::PermitListed(of, site)),
            Some(Ok(site)) => Ok(Restriction::Listed(of, site)),
        });
    }
    Some(match word {
        "check_policy_service" => match table {
            Some(server) => Ok(Restriction::Policy(server.to_owned())),
            None => want("a server, such as unix:private/policy or inet:127.0.0.1:10023"),
        },
        "sleep" => match argument.and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => Ok(Restriction::Sleep(seconds)),
            None => want("a number of seconds"),
        },
        _ => return None,
    })
}

fn listed(word: &str) -> Option<(bool, Listed)> {
    Some(match word {
        "reject_rbl_client" | "reject_rbl" => (false, Listed::Address),
        "reject_rhsbl_client" => (false, Listed::Client),
        "reject_rhsbl_reverse_client" => (false, Listed::ReverseClient),
        "reject_rhsbl_helo" => (false, Listed::Helo),
        "reject_rhsbl_sender" => (false, Listed::Sender),
        "reject_rhsbl_recipient" => (false, Listed::Recipient),
        "permit_dnswl_client" => (true, Listed::Address),
        "permit_rhswl_client" => (true, Listed::Client),
        _ => return None,
    })
}

/// Splits the right-hand side of an access table, which may hold a list.
#[must_use]
pub fn words(text: &str) -> Vec<&str> {
    split_list(text)
}

fn table_name(word: &str) -> TableName {
    TableName::new(routing::tables::unbraced(word))
}

fn simple(word: &str) -> Option<Vec<Restriction>> {
    use Restriction as R;
    Some(vec![match word {
        "warn_if_reject" => R::WarnIfReject,
        "permit" => R::Permit,
        "defer" => R::Defer,
        "reject" => R::Reject,
        "defer_if_permit" => R::DeferIfPermit,
        "defer_if_reject" => R::DeferIfReject,
        "reject_unauth_pipelining" => R::RejectUnauthPipelining,
        "reject_plaintext_session" => R::RejectPlaintextSession,
        "permit_inet_interfaces" => R::PermitInetInterfaces,
        "permit_mynetworks" => R::PermitMynetworks,
        "permit_sasl_authenticated" => R::PermitSaslAuthenticated,
        "permit_naked_ip_address" => R::PermitNakedIpAddress,
        "reject_invalid_helo_hostname" | "reject_invalid_hostname" => R::RejectInvalidHeloHostname,
        "reject_non_fqdn_helo_hostname" | "reject_non_fqdn_hostname" => {
            R::RejectNonFqdnHeloHostname
        }
        "reject_non_fqdn_sender" => R::RejectNonFqdnSender,
        "reject_non_fqdn_recipient" => R::RejectNonFqdnRecipient,
        "reject_unlisted_sender" => R::RejectUnlistedSender,
        "reject_unlisted_recipient" | "check_recipient_maps" => R::RejectUnlistedRecipient,
        "reject_authenticated_sender_login_mismatch" => R::RejectAuthenticatedSenderLoginMismatch,
        "reject_known_sender_login_mismatch" => R::RejectKnownSenderLoginMismatch,
        "reject_unauthenticated_sender_login_mismatch" => {
            R::RejectUnauthenticatedSenderLoginMismatch
        }
        "reject_sender_login_mismatch" => {
            return Some(vec![
                R::RejectAuthenticatedSenderLoginMismatch,
                R::RejectUnauthenticatedSenderLoginMismatch,
            ]);
        }
        "permit_auth_destination" => R::PermitAuthDestination,
        "reject_unauth_destination" => R::RejectUnauthDestination,
        "defer_unauth_destination" => R::DeferUnauthDestination,
        "reject_multi_recipient_bounce" => R::RejectMultiRecipientBounce,
        "reject_unknown_client_hostname" | "reject_unknown_client" => {
            R::RejectUnknownClientHostname
        }
        "reject_unknown_reverse_client_hostname" => R::RejectUnknownReverseClientHostname,
        "reject_unknown_helo_hostname" | "reject_unknown_hostname" => R::RejectUnknownHeloHostname,
        "reject_unknown_sender_domain" | "reject_unknown_address" => R::RejectUnknownSenderDomain,
        "reject_unknown_recipient_domain" => R::RejectUnknownRecipientDomain,
        "reject_unverified_sender" => R::RejectUnverifiedSender,
        "reject_unverified_recipient" => R::RejectUnverifiedRecipient,
        "permit_mx_backup" => R::PermitMxBackup,
        "reject_maps_rbl" => R::RejectMapsRbl,
        _ => return None,
    }])
}

/// What Postfix has and we do not yet: what it needs, and how many arguments it takes.
fn unsupported(word: &str) -> Option<(&'static str, usize)> {
    Some(match word {
        "permit_tls_clientcerts" | "permit_tls_all_clientcerts" => ("client certificates", 0),
        "check_ccert_access" => ("client certificates", 1),
        "check_relay_domains" => ("relay_domains as a list of clients", 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> BTreeMap<String, ()> {
        BTreeMap::from([("strict".to_owned(), ())])
    }

    #[test]
    fn lists_are_read() {
        let parsed = parse(
            &[
                "permit_mynetworks",
                "check_sender_access",
                "hash:/etc/postfix/s",
                "cidr:/etc/postfix/c",
                "REJECT_INVALID_HOSTNAME",
                "strict",
                "sleep",
                "3",
                "reject",
            ],
            true,
            &classes(),
        );
        assert_eq!(parsed.unusable, []);
        assert_eq!(
            parsed.restrictions,
            [
                Restriction::PermitMynetworks,
                Restriction::Access(AccessOf::Sender, TableName::new("hash:/etc/postfix/s")),
                Restriction::Table(TableName::new("cidr:/etc/postfix/c")),
                Restriction::RejectInvalidHeloHostname,
                Restriction::Class("strict".into()),
                Restriction::Sleep(3),
                Restriction::Reject,
            ]
        );
    }

    #[test]
    fn words_with_arguments_are_read() {
        let words = [
            "reject_rbl_client",
            "zen.example=127.0.0.[2..11]",
            "permit_dnswl_client",
            "list.example",
            "check_helo_ns_access",
            "hash:/x",
            "check_policy_service",
            "{ unix:private/policy, timeout=1s }",
            "reject_unknown_address",
        ];
        let parsed = parse(&words, false, &classes());
        assert_eq!(parsed.unusable, []);
        let names: Vec<&str> = parsed.restrictions.iter().map(Restriction::name).collect();
        assert_eq!(
            names,
            [
                "reject_rbl_client",
                "permit_dnswl_client",
                "check_helo_ns_access",
                "check_policy_service",
                "reject_unknown_sender_domain",
            ]
        );
    }

    #[test]
    fn what_cannot_be_obeyed_is_named() {
        let parsed = parse(
            &[
                "permit_tls_clientcerts",
                "reject_rbl_client",
                "zen.example=127",
                "check_sender_mx_access",
                "check_helo_access",
                "permit",
                "hash:/bare",
                "perimt",
                "check_policy_service",
            ],
            false,
            &classes(),
        );
        assert_eq!(parsed.restrictions, [Restriction::Permit]);
        let at: Vec<usize> = parsed.unusable.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [0, 1, 3, 4, 6, 7, 8]);
        assert_eq!(parsed.unusable[5].1, Unusable::Unknown("perimt".into()));
    }
}
