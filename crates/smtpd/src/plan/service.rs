//! One service of master.cf with its overrides, as [`Service`].

use std::time::Duration;

use config::postfix::kind::{Integer, Networks};
use config::postfix::{self, Host, Match, Pattern, Service as Line, View, with_files};
use config::register::Setting;
use config::text::Word;
use config::{Problems, files::Disk};
use daemon::tls;
use neighbours::milter;
use neighbours::postmaster::Postmaster;
use routing::Maps;

use super::policy;
use crate::keywords::Discarded;
use crate::policy::AddressList;
use crate::session::Dialogue;
use crate::settings::{
    BareNewline, Limits, Milters, Queue, Rates, Received, Sasl, Service, Tls, TlsLevel,
};

pub(super) fn read(
    host: &Host,
    line: &Line,
    identities: Option<&tls::Plan>,
    problems: &mut Problems,
) -> Service {
    let view = &host.view(line);
    let processes = view.get(postfix::DEFAULT_PROCESS_LIMIT, problems);
    let most = line.limit.map_or(processes, i64::from);
    let exclusions = networks(view, postfix::SMTPD_FORBID_BARE_NEWLINE_EXCLUSIONS, problems);
    let bare_newline = view.get(postfix::SMTPD_FORBID_BARE_NEWLINE, problems);
    let forbidden = view.get(postfix::SMTPD_FORBIDDEN_COMMANDS, problems);
    Service {
        name: line.name.clone(),
        listener: line.name.clone(),
        screen: None,
        ident: format!("{}/smtpd", view.get(postfix::SYSLOG_NAME, problems)),
        banner: view.get(postfix::SMTPD_BANNER, problems),
        dialogue: dialogue(view, problems),
        limits: limits(view, problems),
        stressed: limits(&view.under_stress(), problems),
        stress_at: match usize::try_from(most) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(most) => most,
        },
        rates: rates(view, problems),
        policy: policy::read(host, view, problems),
        tls: tls_settings(view, identities, problems),
        sasl: sasl(host, line, view, problems),
        queue: queue(host, line, view, problems),
        milters: milters(view, problems),
        postmaster: Postmaster::read(view, true, problems),
        history_threshold: number(view, postfix::SMTPD_HISTORY_FLUSH_THRESHOLD, problems),
        received: Received {
            mail_name: view.get(postfix::MAIL_NAME, problems),
            tls: view.get(postfix::SMTPD_TLS_RECEIVED_HEADER, problems),
            login: view.get(postfix::SMTPD_SASL_AUTHENTICATED_HEADER, problems),
        },
        xclient_hosts: networks(view, postfix::SMTPD_AUTHORIZED_XCLIENT_HOSTS, problems),
        xforward_hosts: networks(view, postfix::SMTPD_AUTHORIZED_XFORWARD_HOSTS, problems),
        discard_keywords: Discarded::parse(
            view.get(postfix::SMTPD_DISCARD_EHLO_KEYWORDS, problems).iter().map(Word::as_str),
        ),
        discard_keyword_maps: Maps::of(
            &view.get(postfix::SMTPD_DISCARD_EHLO_KEYWORD_ADDRESS_MAPS, problems),
        ),
        noop_commands: texts(view.get(postfix::SMTPD_NOOP_COMMANDS, problems)),
        forbidden_commands: with_files(forbidden, &Disk, problems),
        bare_newline: BareNewline {
            reject: bare_newline == "reject",
            code: number(view, postfix::SMTPD_FORBID_BARE_NEWLINE_REJECT_CODE, problems),
            exclusions,
        },
        forbid_unauth_pipelining: view.get(postfix::SMTPD_FORBID_UNAUTH_PIPELINING, problems),
        peername_lookup: view.get(postfix::SMTPD_PEERNAME_LOOKUP, problems),
        log_client_port: view.get(postfix::SMTPD_CLIENT_PORT_LOGGING, problems),
    }
}

fn dialogue(view: &View<'_>, problems: &mut Problems) -> Dialogue {
    Dialogue {
        host: view.get(postfix::MYHOSTNAME, problems),
        helo_required: view.get(postfix::SMTPD_HELO_REQUIRED, problems),
        delay_reject: view.get(postfix::SMTPD_DELAY_REJECT, problems),
        disable_vrfy: view.get(postfix::DISABLE_VRFY_COMMAND, problems),
        strict_envelopes: view.get(postfix::STRICT_RFC821_ENVELOPES, problems),
        smtputf8: view.get(postfix::SMTPUTF8_ENABLE, problems),
        strict_smtputf8: view.get(postfix::STRICT_SMTPUTF8, problems),
        broken_sasl_clients: view.get(postfix::BROKEN_SASL_AUTH_CLIENTS, problems),
        size_limit: view.get(postfix::MESSAGE_SIZE_LIMIT, problems),
        recipient_limit: number(view, postfix::SMTPD_RECIPIENT_LIMIT, problems),
        recipient_overshoot: number(view, postfix::SMTPD_RECIPIENT_OVERSHOOT_LIMIT, problems),
    }
}

fn limits(view: &View<'_>, problems: &mut Problems) -> Limits {
    let line = view.get(postfix::LINE_LENGTH_LIMIT, problems);
    Limits {
        timeout: at_least_a_second(view.get(postfix::SMTPD_TIMEOUT, problems)),
        starttls_timeout: at_least_a_second(view.get(postfix::SMTPD_STARTTLS_TIMEOUT, problems)),
        soft_errors: number(view, postfix::SMTPD_SOFT_ERROR_LIMIT, problems),
        hard_errors: number(view, postfix::SMTPD_HARD_ERROR_LIMIT, problems),
        junk_commands: number(view, postfix::SMTPD_JUNK_COMMAND_LIMIT, problems),
        error_sleep: view.get(postfix::SMTPD_ERROR_SLEEP_TIME, problems),
        line: usize::try_from(line).unwrap_or(2048).clamp(512, 1 << 20),
    }
}

fn at_least_a_second(time: Duration) -> Duration {
    time.max(Duration::from_secs(1))
}

fn rates(view: &View<'_>, problems: &mut Problems) -> Rates {
    Rates {
        window: at_least_a_second(view.get(postfix::ANVIL_RATE_TIME_UNIT, problems)),
        connection_count: number(view, postfix::SMTPD_CLIENT_CONNECTION_COUNT_LIMIT, problems),
        connection_rate: number(view, postfix::SMTPD_CLIENT_CONNECTION_RATE_LIMIT, problems),
        message_rate: number(view, postfix::SMTPD_CLIENT_MESSAGE_RATE_LIMIT, problems),
        recipient_rate: number(view, postfix::SMTPD_CLIENT_RECIPIENT_RATE_LIMIT, problems),
        new_tls_rate: number(view, postfix::SMTPD_CLIENT_NEW_TLS_SESSION_RATE_LIMIT, problems),
        auth_rate: number(view, postfix::SMTPD_CLIENT_AUTH_RATE_LIMIT, problems),
        exceptions: networks(view, postfix::SMTPD_CLIENT_EVENT_LIMIT_EXCEPTIONS, problems),
    }
}

/// `smtpd_tls_security_level`, or the two older settings where it is empty.
pub(super) fn level(view: &View<'_>, problems: &mut Problems) -> TlsLevel {
    let wrapper = view.get(postfix::SMTPD_TLS_WRAPPERMODE, problems);
    match view.get(postfix::SMTPD_TLS_SECURITY_LEVEL, problems).as_str() {
        "encrypt" => TlsLevel::Encrypt,
        _ if wrapper => TlsLevel::Encrypt,
        "may" => TlsLevel::May,
        "none" => TlsLevel::None,
        _ if view.get(postfix::SMTPD_ENFORCE_TLS, problems) => TlsLevel::Encrypt,
        _ if view.get(postfix::SMTPD_USE_TLS, problems) => TlsLevel::May,
        _ => TlsLevel::None,
    }
}

fn tls_settings(view: &View<'_>, identities: Option<&tls::Plan>, problems: &mut Problems) -> Tls {
    let level = level(view, problems);
    let wrapper = view.get(postfix::SMTPD_TLS_WRAPPERMODE, problems);
    if level != TlsLevel::None && identities.is_none() {
        let place = view.place(postfix::SMTPD_TLS_SECURITY_LEVEL);
        let what = "TLS is asked for, but there is no certificate: STARTTLS will be answered 454";
        problems.warning(place, what).instead("set smtpd_tls_cert_file and smtpd_tls_key_file");
    }
    Tls {
        level,
        wrapper,
        auth_only: view.get(postfix::SMTPD_TLS_AUTH_ONLY, problems),
        log_level: view.get(postfix::SMTPD_TLS_LOGLEVEL, problems).trim().parse().unwrap_or(0),
        identities: identities.filter(|_| level != TlsLevel::None).map(|plan| plan.name.clone()),
    }
}

fn sasl(host: &Host, line: &Line, view: &View<'_>, problems: &mut Problems) -> Option<Sasl> {
    if !view.get(postfix::SMTPD_SASL_AUTH_ENABLE, problems) {
        return None;
    }
    if view.get(postfix::SMTPD_SASL_TYPE, problems) != "dovecot" {
        let place = view
            .place(postfix::SMTPD_SASL_TYPE)
            .or_else(|| view.place(postfix::SMTPD_SASL_AUTH_ENABLE));
        problems
            .error(place, "smtpd_sasl_type: Cyrus SASL is not supported")
            .instead("smtpd_sasl_type = dovecot, smtpd_sasl_path = private/auth");
        return None;
    }
    let path = view.get(postfix::SMTPD_SASL_PATH, problems);
    if path.starts_with("inet:") {
        problems
            .error(view.place(postfix::SMTPD_SASL_PATH), "an auth server over TCP is not supported")
            .instead("smtpd_sasl_path = private/auth");
    }
    let filter = view.get(postfix::SMTPD_SASL_MECHANISM_FILTER, problems);
    Some(Sasl {
        socket: host.path(line, path.strip_prefix("unix:").unwrap_or(&path)),
        service: view.get(postfix::SMTPD_SASL_SERVICE, problems),
        plain_options: texts(view.get(postfix::SMTPD_SASL_SECURITY_OPTIONS, problems)),
        tls_options: texts(view.get(postfix::SMTPD_SASL_TLS_SECURITY_OPTIONS, problems)),
        mechanism_filter: filter.iter().map(as_match).collect(),
        response_limit: number(view, postfix::SMTPD_SASL_RESPONSE_LIMIT, problems),
        exceptions: networks(view, postfix::SMTPD_SASL_EXCEPTIONS_NETWORKS, problems),
        shown: path,
    })
}

/// `!external`, `static:rest`, `plain`.
fn as_match(word: &Word) -> Match {
    let bare = word.text.trim_start_matches('!');
    let table = postfix::Table::parse(&Word { text: bare.to_owned(), at: word.at.clone() });
    let pattern = table.map_or_else(|| Pattern::Text(bare.to_owned()), Pattern::Table);
    Match { negated: (word.text.len() - bare.len()) % 2 == 1, pattern, at: word.at.clone() }
}

fn queue(host: &Host, line: &Line, view: &View<'_>, problems: &mut Problems) -> Queue {
    let directory = std::path::PathBuf::from(view.get(postfix::QUEUE_DIRECTORY, problems));
    let socket = |class: &str, name: String| directory.join(class).join(name);
    let overrides = texts(view.get(postfix::RECEIVE_OVERRIDE_OPTIONS, problems));
    let off = |option: &str| overrides.iter().any(|word| word == option);
    let _ = (host, line);
    Queue {
        cleanup: socket("public", view.get(postfix::CLEANUP_SERVICE_NAME, problems)),
        rewrite: socket("private", view.get(postfix::REWRITE_SERVICE_NAME, problems)),
        flush: socket("public", view.get(postfix::FLUSH_SERVICE_NAME, problems)),
        verify: socket("private", view.get(postfix::ADDRESS_VERIFY_SERVICE_NAME, problems)),
        version: view.get(postfix::MAIL_VERSION, problems),
        ipc_timeout: at_least_a_second(view.get(postfix::IPC_TIMEOUT, problems)),
        checks: !off("no_header_body_checks"),
        mappings: !off("no_address_mappings"),
        delay_open: view.get(postfix::SMTPD_DELAY_OPEN_UNTIL_VALID_RCPT, problems),
        size_limit: view.get(postfix::MESSAGE_SIZE_LIMIT, problems),
        min_free: view.get(postfix::QUEUE_MINFREE, problems),
        directory,
    }
}

fn milters(view: &View<'_>, problems: &mut Problems) -> Milters {
    let texts = milter::Texts::read(view, problems);
    let filters = texts.listed(view, postfix::SMTPD_MILTERS, problems);
    let overrides = view.get(postfix::RECEIVE_OVERRIDE_OPTIONS, problems);
    Milters {
        filters,
        maps: Maps::of(&view.get(postfix::SMTPD_MILTER_MAPS, problems)),
        texts,
        off: overrides.iter().any(|word| word.text == "no_milters"),
        daemon_name: view.get(postfix::MILTER_MACRO_DAEMON_NAME, problems),
        version: view.get(postfix::MILTER_MACRO_V, problems),
    }
}

pub(super) fn networks(
    view: &View<'_>,
    setting: Setting<Networks>,
    problems: &mut Problems,
) -> AddressList {
    let list = with_files(view.get(setting, problems), &Disk, problems);
    AddressList::new(list, parents(view, setting.name(), problems))
}

/// Whether a name in this list stands for its subdomains too.
pub(super) fn parents(view: &View<'_>, list: &str, problems: &mut Problems) -> bool {
    let lists = view.get(postfix::PARENT_DOMAIN_MATCHES_SUBDOMAINS, problems);
    lists.iter().any(|word| word.as_str() == list)
}

fn texts(words: Vec<Word>) -> Vec<String> {
    words.into_iter().map(|word| word.text).collect()
}

/// A number that cannot be negative.
pub(super) fn number<T: TryFrom<i64> + Default>(
    view: &View<'_>,
    setting: Setting<Integer>,
    problems: &mut Problems,
) -> T {
    let value = view.get(setting, problems);
    T::try_from(value).unwrap_or_else(|_| {
        let what = format!("{}: {value} is out of range", setting.name());
        problems.error(view.place(setting), what).instead("write a number of zero or more");
        T::default()
    })
}
