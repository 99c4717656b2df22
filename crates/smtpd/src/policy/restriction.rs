//! Restriction words of main.cf and of access tables, read into what they mean.

use std::collections::BTreeMap;

use routing::{TableName, tables::split_list};
use serde::{Deserialize, Serialize};

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
        wants: &'static str,
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
            Self::Class(name) => name,
        }
    }
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
        let simple = simple(&lower);
        if let Some(found) = simple {
            parsed.restrictions.extend(found);
        } else if let Some(of) = AccessOf::ALL.into_iter().find(|of| of.word() == lower) {
            match words.get(at).filter(|table| table.contains(':')) {
                Some(table) => {
                    at += 1;
                    parsed.restrictions.push(Restriction::Access(of, table_name(table)));
                }
                None => {
                    let wants = "a lookup table, such as hash:/etc/postfix/access";
                    parsed.unusable.push((position, Unusable::BadArgument { word: lower, wants }));
                }
            }
        } else if lower == "sleep" {
            match words.get(at).and_then(|seconds| seconds.parse().ok()) {
                Some(seconds) => {
                    at += 1;
                    parsed.restrictions.push(Restriction::Sleep(seconds));
                }
                None => {
                    let wants = "a number of seconds";
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
        _ => return None,
    }])
}

/// What Postfix has and we do not yet: what it needs, and how many arguments it takes.
fn unsupported(word: &str) -> Option<(&'static str, usize)> {
    const DNS: &str = "DNS lookups";
    const CERTIFICATES: &str = "client certificates";
    Some(match word {
        "reject_unknown_client_hostname"
        | "reject_unknown_client"
        | "reject_unknown_reverse_client_hostname"
        | "reject_unknown_helo_hostname"
        | "reject_unknown_hostname"
        | "reject_unknown_sender_domain"
        | "reject_unknown_address"
        | "reject_unknown_recipient_domain"
        | "reject_maps_rbl"
        | "permit_mx_backup" => (DNS, 0),
        "reject_rbl_client"
        | "reject_rbl"
        | "permit_dnswl_client"
        | "reject_rhsbl_client"
        | "permit_rhswl_client"
        | "reject_rhsbl_reverse_client"
        | "reject_rhsbl_helo"
        | "reject_rhsbl_sender"
        | "reject_rhsbl_recipient" => (DNS, 1),
        "reject_unverified_sender" | "reject_unverified_recipient" => ("address verification", 0),
        "check_policy_service" => ("policy services", 1),
        "permit_tls_clientcerts" | "permit_tls_all_clientcerts" => (CERTIFICATES, 0),
        "check_ccert_access" => (CERTIFICATES, 1),
        "check_relay_domains" => ("relay_domains as a list of clients", 0),
        _ => {
            let server =
                word.strip_prefix("check_").and_then(|word| word.strip_suffix("_access"))?;
            let (what, by) = server.rsplit_once('_')?;
            let known = matches!(
                what,
                "client" | "reverse_client_hostname" | "helo" | "sender" | "recipient"
            );
            if known && matches!(by, "a" | "mx" | "ns") {
                return Some((DNS, 1));
            }
            return None;
        }
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
    fn what_cannot_be_obeyed_is_named() {
        let parsed = parse(
            &[
                "reject_rbl_client",
                "zen.example",
                "check_sender_mx_access",
                "hash:/x",
                "check_helo_access",
                "permit",
                "hash:/bare",
                "perimt",
                "check_policy_service",
                "unix:private/policy",
            ],
            false,
            &classes(),
        );
        assert_eq!(parsed.restrictions, [Restriction::Permit]);
        let at: Vec<usize> = parsed.unusable.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [0, 2, 4, 6, 7, 8]);
        assert_eq!(parsed.unusable[4].1, Unusable::Unknown("perimt".into()));
    }
}
