//! A line of master.cf that runs postscreen, as [`ScreenSettings`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use config::postfix::kind::{Bool, Text, Time};
use config::postfix::{self, Host, Service as Line, Table, View, with_files};
use config::register::Setting;
use config::text::{Sourced, Word};
use config::{Problems, files::Disk};
use routing::TableName;

use super::service::{networks, number};
use crate::keywords::Discarded;
use crate::policy::{AddressList, Site};
use crate::screen::settings::{Access, Deep, Dnsbl, Reaction, ScreenSettings, Weighted};

pub(super) fn read(host: &Host, line: &Line, problems: &mut Problems) -> ScreenSettings {
    let view = &host.view(line);
    let stressed = &view.under_stress();
    let syslog = view.get(postfix::SYSLOG_NAME, problems);
    let greet = Deep {
        enabled: true,
        reaction: reaction(view, postfix::POSTSCREEN_GREET_ACTION, problems),
        ttl: view.get(postfix::POSTSCREEN_GREET_TTL, problems),
    };
    let interfaces = view.get(postfix::POSTSCREEN_ALLOWLIST_INTERFACES, problems);
    let interfaces = with_files(interfaces, &Disk, problems);
    let forbidden = view.get(postfix::POSTSCREEN_FORBIDDEN_COMMANDS, problems);
    ScreenSettings {
        ident: format!("{syslog}/postscreen"),
        dnsblog_ident: format!("{syslog}/dnsblog"),
        host: view.get(postfix::MYHOSTNAME, problems),
        banner: view.get(postfix::SMTPD_BANNER, problems),
        respectful: view.get(postfix::RESPECTFUL_LOGGING, problems),
        soft_bounce: view.get(postfix::SOFT_BOUNCE, problems),
        access: access(view, problems),
        networks: networks(view, postfix::MYNETWORKS, problems),
        deny: reaction(view, postfix::POSTSCREEN_DENYLIST_ACTION, problems),
        allow_interfaces: AddressList::new(interfaces, false),
        greet_banner: view.get(postfix::POSTSCREEN_GREET_BANNER, problems),
        greet_wait: view.get(postfix::POSTSCREEN_GREET_WAIT, problems),
        greet_wait_stressed: stressed.get(postfix::POSTSCREEN_GREET_WAIT, problems),
        greet,
        sites: sites(view, problems),
        dnsbl: dnsbl(view, problems),
        pipelining: deep(
            view,
            postfix::POSTSCREEN_PIPELINING_ENABLE,
            postfix::POSTSCREEN_PIPELINING_ACTION,
            postfix::POSTSCREEN_PIPELINING_TTL,
            problems,
        ),
        non_smtp: deep(
            view,
            postfix::POSTSCREEN_NON_SMTP_COMMAND_ENABLE,
            postfix::POSTSCREEN_NON_SMTP_COMMAND_ACTION,
            postfix::POSTSCREEN_NON_SMTP_COMMAND_TTL,
            problems,
        ),
        bare_newline: deep(
            view,
            postfix::POSTSCREEN_BARE_NEWLINE_ENABLE,
            postfix::POSTSCREEN_BARE_NEWLINE_ACTION,
            postfix::POSTSCREEN_BARE_NEWLINE_TTL,
            problems,
        ),
        cache: cache(view, problems),
        retention: view.get(postfix::POSTSCREEN_CACHE_RETENTION_TIME, problems),
        queue_limit: number(view, postfix::POSTSCREEN_PRE_QUEUE_LIMIT, problems),
        client_limit: number(view, postfix::POSTSCREEN_CLIENT_CONNECTION_COUNT_LIMIT, problems),
        command_count: number(view, postfix::POSTSCREEN_COMMAND_COUNT_LIMIT, problems),
        command_time: at_least(view.get(postfix::POSTSCREEN_COMMAND_TIME_LIMIT, problems)),
        command_time_stressed: at_least(
            stressed.get(postfix::POSTSCREEN_COMMAND_TIME_LIMIT, problems),
        ),
        line: usize::try_from(view.get(postfix::LINE_LENGTH_LIMIT, problems))
            .unwrap_or(2048)
            .clamp(512, 1 << 20),
        helo_required: view.get(postfix::POSTSCREEN_HELO_REQUIRED, problems),
        disable_vrfy: view.get(postfix::POSTSCREEN_DISABLE_VRFY_COMMAND, problems),
        forbidden_commands: with_files(forbidden, &Disk, problems),
        keywords: keywords(view, problems),
    }
}

fn at_least(time: Duration) -> Duration {
    time.max(Duration::from_secs(1))
}

fn reaction(view: &View<'_>, setting: Setting<Text>, problems: &mut Problems) -> Reaction {
    match view.get(setting, problems).as_str() {
        "ignore" | "continue" => Reaction::Ignore,
        "enforce" => Reaction::Enforce,
        "drop" => Reaction::Drop,
        other => {
            let what = format!("{}: unknown action \"{other}\"", setting.name());
            problems.error(view.place(setting), what).instead("write ignore, enforce or drop");
            Reaction::Enforce
        }
    }
}

fn deep(
    view: &View<'_>,
    enable: Setting<Bool>,
    action: Setting<Text>,
    ttl: Setting<Time>,
    problems: &mut Problems,
) -> Deep {
    Deep {
        enabled: view.get(enable, problems),
        reaction: reaction(view, action, problems),
        ttl: view.get(ttl, problems),
    }
}

fn access(view: &View<'_>, problems: &mut Problems) -> Vec<Access> {
    let setting = postfix::POSTSCREEN_ACCESS_LIST;
    let mut steps = Vec::new();
    for word in view.get(setting, problems) {
        let step = match word.text.to_ascii_lowercase().as_str() {
            "permit_mynetworks" => Access::PermitMynetworks,
            "permit" => Access::Permit,
            "reject" => Access::Reject,
            "dunno" => Access::Dunno,
            text if text.contains(':') => Access::Table(TableName::new(&word.text)),
            _ => {
                let what = format!("{}: unknown word \"{}\"", setting.name(), word.text);
                problems
                    .error(word.at, what)
                    .instead("write permit_mynetworks, permit, reject, dunno or a table");
                continue;
            }
        };
        steps.push(step);
    }
    steps
}

fn sites(view: &View<'_>, problems: &mut Problems) -> Vec<Weighted> {
    let setting = postfix::POSTSCREEN_DNSBL_SITES;
    let mut sites = Vec::new();
    for word in view.get(setting, problems) {
        let (text, weight) = match word.text.split_once('*') {
            Some((text, weight)) => {
                (text, weight.parse::<i64>().map_err(|_| "bad weight".to_owned()))
            }
            None => (word.text.as_str(), Ok(1)),
        };
        match Site::parse(text).and_then(|site| Ok(Weighted { site, weight: weight? })) {
            Ok(site) => sites.push(site),
            Err(why) => {
                let what = format!("{}: {}: {why}", setting.name(), word.text);
                problems
                    .error(word.at, what)
                    .instead("write domain, domain*2 or domain=127.0.0.2*2");
            }
        }
    }
    sites
}

fn dnsbl(view: &View<'_>, problems: &mut Problems) -> Dnsbl {
    let max = view.get(postfix::POSTSCREEN_DNSBL_MAX_TTL, problems);
    Dnsbl {
        threshold: view.get(postfix::POSTSCREEN_DNSBL_THRESHOLD, problems),
        allow_threshold: view.get(postfix::POSTSCREEN_DNSBL_ALLOWLIST_THRESHOLD, problems),
        reaction: reaction(view, postfix::POSTSCREEN_DNSBL_ACTION, problems),
        timeout: at_least(view.get(postfix::POSTSCREEN_DNSBL_TIMEOUT, problems)),
        min_ttl: view.get(postfix::POSTSCREEN_DNSBL_MIN_TTL, problems),
        max_ttl: max,
        reply_names: reply_names(view, problems),
    }
}

/// What the lists are called to clients: looked up once, as the lists are few.
fn reply_names(view: &View<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let setting = postfix::POSTSCREEN_DNSBL_REPLY_MAP;
    let text = view.get(setting, problems);
    if text.is_empty() {
        return BTreeMap::new();
    }
    let word = Word { text, at: view.place(setting) };
    let known = Table::parse(&word)
        .filter(|table| matches!(table.kind.as_str(), "texthash" | "hash" | "btree" | "lmdb"));
    let Some(table) = known else {
        let what = format!("{}: {} is not supported here", setting.name(), word.text);
        problems.error(word.at, what).instead("write texthash:/etc/postfix/dnsbl_reply");
        return BTreeMap::new();
    };
    let content = config::Files::read(&Disk, table.name.as_ref());
    let content = content.unwrap_or_else(|error| {
        let what = format!("{}: {}: {error}", setting.name(), table.name);
        problems.error(word.at.clone(), what).instead("name a readable file");
        Vec::new()
    });
    String::from_utf8_lossy(&content)
        .lines()
        .filter(|line| !line.starts_with(['#', ' ', '\t']))
        .filter_map(|line| line.trim().split_once([' ', '\t']))
        .map(|(list, shown)| (list.to_owned(), shown.trim().to_owned()))
        .collect()
}

/// Our own file, beside Postfix's database.
fn cache(view: &View<'_>, problems: &mut Problems) -> Option<PathBuf> {
    let setting = postfix::POSTSCREEN_CACHE_MAP;
    let word = view.get(setting, problems).into_iter().next()?;
    let name = match Table::parse(&Word { text: word.to_string(), at: None }) {
        Some(table) if table.name.starts_with('/') => table.name,
        _ => format!("{}/postscreen_cache", view.get(postfix::DATA_DIRECTORY, problems)),
    };
    Some(PathBuf::from(format!("{name}.theoris")))
}

/// What EHLO says, without PIPELINING, AUTH and STARTTLS.
fn keywords(view: &View<'_>, problems: &mut Problems) -> Vec<String> {
    let discarded = view.get(postfix::POSTSCREEN_DISCARD_EHLO_KEYWORDS, problems);
    let words = config::postfix::words(&Sourced::built_in(discarded));
    let discarded = Discarded::parse(words.iter().map(Word::as_str));
    let size = match view.get(postfix::MESSAGE_SIZE_LIMIT, problems) {
        0 => "SIZE".to_owned(),
        limit => format!("SIZE {limit}"),
    };
    let mut keywords = vec![("SIZE", size)];
    let mut add = |word: &'static str, wanted: bool| {
        if wanted {
            keywords.push((word, word.to_owned()));
        }
    };
    add("VRFY", !view.get(postfix::DISABLE_VRFY_COMMAND, problems));
    for word in ["ETRN", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN"] {
        add(word, true);
    }
    add("SMTPUTF8", view.get(postfix::SMTPUTF8_ENABLE, problems));
    add("CHUNKING", true);
    keywords.into_iter().filter(|(word, _)| !discarded.has(word)).map(|(_, line)| line).collect()
}

/// The service that screened clients are passed to (`smtpd_service_name`).
pub(super) fn behind<'h>(host: &'h Host, line: &Line, problems: &mut Problems) -> Option<&'h Line> {
    let name = host.view(line).get(postfix::SMTPD_SERVICE_NAME, problems);
    let found = host
        .services()
        .find(|service| service.kind == config::postfix::ServiceType::Pass && service.name == name);
    if found.is_none() {
        problems
            .error(
                line.at.clone(),
                format!("postscreen passes clients to \"{name}\", which is no service"),
            )
            .instead("write a line: smtpd pass - - y - - smtpd");
    }
    found
}
