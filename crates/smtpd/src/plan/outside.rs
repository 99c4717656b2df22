//! What restrictions ask outside: DNS lists, policy servers, and address verification.

use std::collections::BTreeMap;
use std::time::Duration;

use config::postfix::kind::{Integer, Text};
use config::postfix::{self, Host, View, words};
use config::register::Setting;
use config::text::Sourced;
use config::{Place, Problems};
use routing::Maps;

use super::service::number;
use crate::policy::{
    Blocklists, Endpoint, ListSet, PolicyServer, Restriction, Site, Tempfail, Unverified,
    Verification,
};

type Classes = BTreeMap<String, Vec<Restriction>>;

pub(super) fn blocklists(view: &View<'_>, problems: &mut Problems) -> Blocklists {
    let mut sites = Vec::new();
    for word in view.get(postfix::MAPS_RBL_DOMAINS, problems) {
        match Site::parse(&word.text) {
            Ok(site) => sites.push(site),
            Err(why) => {
                problems
                    .error(word.at, format!("maps_rbl_domains: {why}"))
                    .instead("write the domain of a DNS list");
            }
        }
    }
    Blocklists {
        sites,
        reply_maps: Maps::of(&view.get(postfix::RBL_REPLY_MAPS, problems)),
        default_reply: view.get(postfix::DEFAULT_RBL_REPLY, problems),
        expansion_filter: unescaped(&view.get(postfix::SMTPD_EXPANSION_FILTER, problems)),
    }
}

/// C escapes: `\t`, `\40`, `\\`.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        let mut octal = String::new();
        while let Some(digit) = rest.next_if(|c| octal.len() < 3 && c.is_digit(8)) {
            octal.push(digit);
        }
        if let Ok(code) = u8::from_str_radix(&octal, 8) {
            plain.push(char::from(code));
            continue;
        }
        match rest.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

pub(super) fn tempfail(
    view: &View<'_>,
    setting: Setting<Text>,
    problems: &mut Problems,
) -> Tempfail {
    match view.get(setting, problems).as_str() {
        "defer_if_permit" => Tempfail::DeferIfPermit,
        "defer" => Tempfail::Defer,
        other => {
            let what = format!("{}: unknown action \"{other}\"", setting.name());
            problems.error(view.place(setting), what).instead("write defer_if_permit or defer");
            Tempfail::Defer
        }
    }
}

pub(super) fn verification(view: &View<'_>, problems: &mut Problems) -> Verification {
    Verification {
        poll_count: number::<u32>(view, postfix::ADDRESS_VERIFY_POLL_COUNT, problems).max(1),
        poll_delay: view.get(postfix::ADDRESS_VERIFY_POLL_DELAY, problems),
        sender: Unverified {
            defer_code: code(view, postfix::UNVERIFIED_SENDER_DEFER_CODE, problems),
            reject_code: code(view, postfix::UNVERIFIED_SENDER_REJECT_CODE, problems),
            reason: view.get(postfix::UNVERIFIED_SENDER_REJECT_REASON, problems),
            tempfail: tempfail(view, postfix::UNVERIFIED_SENDER_TEMPFAIL_ACTION, problems),
        },
        recipient: Unverified {
            defer_code: code(view, postfix::UNVERIFIED_RECIPIENT_DEFER_CODE, problems),
            reject_code: code(view, postfix::UNVERIFIED_RECIPIENT_REJECT_CODE, problems),
            reason: view.get(postfix::UNVERIFIED_RECIPIENT_REJECT_REASON, problems),
            tempfail: tempfail(view, postfix::UNVERIFIED_RECIPIENT_TEMPFAIL_ACTION, problems),
        },
    }
}

/// A reply code; 2xx means that the address passes.
fn code(view: &View<'_>, setting: Setting<Integer>, problems: &mut Problems) -> u16 {
    let value = view.get(setting, problems);
    u16::try_from(value).ok().filter(|code| (200..600).contains(code)).unwrap_or_else(|| {
        let what = format!("{}: {value} is no reply code", setting.name());
        problems.error(view.place(setting), what).instead("write a number from 400 to 599");
        450
    })
}

/// Every server behind a `check_policy_service`, by its word.
pub(super) fn policy_servers(
    host: &Host,
    view: &View<'_>,
    lists: &ListSet,
    classes: &Classes,
    problems: &mut Problems,
) -> BTreeMap<String, PolicyServer> {
    let mut servers = BTreeMap::new();
    let place = view
        .place(postfix::SMTPD_RECIPIENT_RESTRICTIONS)
        .or_else(|| view.place(postfix::SMTPD_RELAY_RESTRICTIONS))
        .unwrap_or_else(|| Place::file(host.directory().join("main.cf")));
    let restrictions = lists.all().into_iter().chain(classes.values()).flatten();
    for restriction in restrictions {
        let Restriction::Policy(word) = restriction else { continue };
        if servers.contains_key(word) {
            continue;
        }
        match server(view, word, problems) {
            Ok(server) => drop(servers.insert(word.clone(), server)),
            Err(why) => {
                problems
                    .error(place.clone(), format!("check_policy_service {word}: {why}"))
                    .instead("write unix:private/policy or inet:127.0.0.1:10023");
            }
        }
    }
    servers
}

/// `inet:host:port`, or the same in braces with settings of its own behind it.
fn server(view: &View<'_>, word: &str, problems: &mut Problems) -> Result<PolicyServer, String> {
    let bare = word.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let list = words(&Sourced::built_in(bare.unwrap_or(word)));
    let mut rest = list.iter();
    let name = rest.next().map(|word| word.text.clone()).unwrap_or_default();
    let (kind, shown) = name.split_once(':').ok_or("no transport:endpoint")?;
    let endpoint = match kind {
        "unix" => {
            let queue = std::path::PathBuf::from(view.get(postfix::QUEUE_DIRECTORY, problems));
            Endpoint::Unix(queue.join(shown))
        }
        "inet" => {
            let (host, port) = match shown.rsplit_once(':') {
                Some((host, port)) => (host, port),
                None => ("localhost", shown),
            };
            let port = postfix::listen::port(port).ok_or_else(|| format!("unknown port {port}"))?;
            Endpoint::Inet { host: host.to_owned(), port }
        }
        other => return Err(format!("{other} is neither unix nor inet")),
    };
    let mut server = PolicyServer {
        endpoint,
        shown: shown.to_owned(),
        timeout: view.get(postfix::SMTPD_POLICY_SERVICE_TIMEOUT, problems),
        max_idle: view.get(postfix::SMTPD_POLICY_SERVICE_MAX_IDLE, problems),
        max_ttl: view.get(postfix::SMTPD_POLICY_SERVICE_MAX_TTL, problems),
        request_limit: number(view, postfix::SMTPD_POLICY_SERVICE_REQUEST_LIMIT, problems),
        retry_delay: view.get(postfix::SMTPD_POLICY_SERVICE_RETRY_DELAY, problems),
        try_limit: number(view, postfix::SMTPD_POLICY_SERVICE_TRY_LIMIT, problems),
        default_action: view.get(postfix::SMTPD_POLICY_SERVICE_DEFAULT_ACTION, problems),
        context: view.get(postfix::SMTPD_POLICY_SERVICE_POLICY_CONTEXT, problems),
    };
    for word in rest {
        let text = postfix::without_braces(&word.text);
        let (name, value) = text.split_once('=').ok_or_else(|| format!("no value in {text}"))?;
        own_setting(&mut server, name.trim(), value.trim())?;
    }
    Ok(server)
}

fn own_setting(server: &mut PolicyServer, name: &str, value: &str) -> Result<(), String> {
    let bad = || format!("{name}={value} is no good value");
    let count = || value.parse::<u32>().map_err(|_| bad());
    let time = || seconds(value).ok_or_else(bad);
    match name {
        "timeout" => server.timeout = time()?,
        "max_idle" => server.max_idle = time()?,
        "max_ttl" => server.max_ttl = time()?,
        "retry_delay" => server.retry_delay = time()?,
        "request_limit" => server.request_limit = count()?,
        "try_limit" => server.try_limit = count()?,
        "default_action" => value.clone_into(&mut server.default_action),
        "policy_context" => value.clone_into(&mut server.context),
        other => return Err(format!("unknown setting {other}")),
    }
    Ok(())
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_times_are_read() {
        assert_eq!(unescaped(r"\t\40!\\]"), "\t !\\]");
        assert_eq!(seconds("3m"), Some(Duration::from_secs(180)));
        assert_eq!((seconds("x"), seconds("3y")), (None, None));
    }
}
