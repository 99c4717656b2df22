//! opendkim.conf into the settings of the worker.

use config::opendkim::{Config, names};
use config::register::Setting;
use config::{Files, Problems};
use sender_authentication::dkim::canonical::Canonicalization;
use sender_authentication::dkim::sign::{OMITTED, SIGNED};

use super::words;
use crate::dataset::{Case, Dataset};
use crate::settings::{
    Action, Keys, Log, On, Resolver, Role, Senders, Settings, Signing, Verifying,
};

/// Reads what the worker needs. Faults become problems.
pub fn settings(
    files: &dyn Files,
    config: &Config,
    resolver: Resolver,
    problems: &mut Problems,
) -> Settings {
    let authserv_id = config.text(names::AUTHSERVID).map(|name| match name {
        "HOSTNAME" => files.host_name(),
        name => name.to_owned(),
    });
    Settings {
        role: role(config, problems),
        signing: signing(files, config, problems),
        verifying: verifying(files, config, problems),
        senders: senders(files, config, problems),
        on: on(config, problems),
        log: Log {
            syslog: config.switch(names::SYSLOG),
            success: config.switch(names::SYSLOGSUCCESS),
            why: config.switch(names::LOGWHY),
            results: config.switch(names::LOGRESULTS),
            name: config.text(names::SYSLOGNAME).unwrap_or("opendkim").to_owned(),
        },
        authserv_id,
        authserv_id_with_job_id: config.switch(names::AUTHSERVIDWITHJOBID),
        software_header: config.switch(names::SOFTWAREHEADER),
        pass_malformed: config.switch(names::IGNOREMALFORMEDMAIL),
        maximum_headers: usize::try_from(config.number(names::MAXIMUMHEADERS)).unwrap_or_default(),
        resolver,
    }
}

fn role(config: &Config, problems: &mut Problems) -> Role {
    let mode = config.text(names::MODE).unwrap_or("sv");
    if mode.contains(|letter| !matches!(letter, 's' | 'v')) {
        problems
            .error(config.place(names::MODE), format!("Mode: unknown mode in \"{mode}\""))
            .instead("write s, v or sv");
    }
    Role { sign: mode.contains('s'), verify: mode.contains('v') }
}

fn set(
    files: &dyn Files,
    config: &Config,
    setting: Setting<names::kind::List>,
    case: Case,
    problems: &mut Problems,
) -> Option<Dataset> {
    let text = config.list(setting)?;
    Some(Dataset::read(files, text, config.place(setting), case, problems))
}

/// The names in a list, in its order.
fn list(config: &Config, setting: Setting<names::kind::List>) -> Vec<String> {
    let text = config.list(setting).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn signing(files: &dyn Files, config: &Config, problems: &mut Problems) -> Signing {
    let (header_relaxed, body_relaxed) = canonicalization(config, problems);
    algorithm(config, problems);
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let mut recipients =
        |setting| set(files, config, setting, Case::Ignored, problems).unwrap_or_default();
    let (body_length_recipients, never_to) =
        (recipients(names::BODYLENGTHDB), recipients(names::DONTSIGNMAILTO));
    Signing {
        keys: keys(files, config, problems),
        unsafe_keys: Default::default(),
        header_relaxed,
        body_relaxed,
        signed: edited(SIGNED, &list(config, names::SIGNHEADERS)),
        omitted: edited(OMITTED, &list(config, names::OMITHEADERS)),
        oversigned: list(config, names::OVERSIGNHEADERS),
        valid_for: positive(config.number(names::SIGNATURETTL)),
        copies: config.switch(names::DIAGNOSTICS),
        reports: config.switch(names::REQUESTREPORTS),
        maximum_bytes: positive(config.number(names::MAXIMUMSIGNEDBYTES)),
        body_length_recipients,
        never_to,
        remove_old: config.switch(names::REMOVEOLDSIGNATURES),
        several: config.switch(names::MULTIPLESIGNATURES),
    }
}

/// `*,+name,-name` changes the default, other lists replace it. Lower case.
fn edited(default: &[&str], words: &[String]) -> Vec<String> {
    let usual = || default.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    if words.is_empty() {
        return usual();
    }
    let changes = |word: &String| word.starts_with(['*', '+', '-']);
    let mut names = if words.iter().any(changes) { usual() } else { Vec::new() };
    for word in words {
        let word = word.to_ascii_lowercase();
        match (word.strip_prefix('-'), word.strip_prefix('+').unwrap_or(&word)) {
            (Some(less), _) => names.retain(|name| name != less),
            (None, "*") => {}
            (None, more) if names.iter().all(|name| name != more) => names.push(more.to_owned()),
            (None, _) => {}
        }
    }
    names
}

fn canonicalization(config: &Config, problems: &mut Problems) -> (bool, bool) {
    let text = config.text(names::CANONICALIZATION).unwrap_or("simple/simple");
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    let mut relaxed = |name: &str| match Canonicalization::named(name.trim()) {
        Some(found) => found == Canonicalization::Relaxed,
        None => {
            problems
                .error(
                    config.place(names::CANONICALIZATION),
                    format!("unknown canonicalization algorithm \"{name}\""),
                )
                .instead("write relaxed/simple");
            false
        }
    };
    (relaxed(header), relaxed(body))
}

fn algorithm(config: &Config, problems: &mut Problems) {
    let name = config.text(names::SIGNATUREALGORITHM).unwrap_or("rsa-sha256");
    if !matches!(name.to_ascii_lowercase().as_str(), "rsa-sha256" | "ed25519-sha256") {
        problems
            .error(
                config.place(names::SIGNATUREALGORITHM),
                format!("SignatureAlgorithm: nobody accepts signatures with {name}"),
            )
            .instead("write rsa-sha256");
    }
}

fn keys(files: &dyn Files, config: &Config, problems: &mut Problems) -> Keys {
    let table = set(files, config, names::KEYTABLE, Case::Counts, problems);
    let signing = set(files, config, names::SIGNINGTABLE, Case::Ignored, problems);
    match (table, signing) {
        (Some(keys), Some(signing)) => Keys::Tables { keys, signing },
        (Some(_), None) => {
            problems
                .error(config.place(names::KEYTABLE), "KeyTable requires SigningTable")
                .instead("write SigningTable refile:PATH");
            Keys::None
        }
        (None, Some(_)) => {
            problems
                .error(config.place(names::SIGNINGTABLE), "SigningTable requires KeyTable")
                .instead("write KeyTable file:PATH");
            Keys::None
        }
        (None, None) => {
            let domains = set(files, config, names::DOMAIN, Case::Ignored, problems);
            match domains {
                None => Keys::None,
                Some(domains) => Keys::Single {
                    path: config.text(names::KEYFILE).map(str::to_owned),
                    selector: config.text(names::SELECTOR).map(str::to_owned),
                    domains,
                    subdomains: config.switch(names::SUBDOMAINS),
                },
            }
        }
    }
}

fn verifying(files: &dyn Files, config: &Config, problems: &mut Problems) -> Verifying {
    let number = |setting| usize::try_from(config.number(setting)).unwrap_or_default();
    Verifying {
        always_add_results: config.switch(names::ALWAYSADDARHEADER),
        keep_results: config.switch(names::KEEPAUTHRESULTS),
        remove_all_methods: config.switch(names::REMOVEARALL),
        remove_from: set(files, config, names::REMOVEARFROM, Case::Ignored, problems),
        no_header_b: config.switch(names::NOHEADERB),
        most_signatures: match number(names::MAXIMUMSIGNATURESTOVERIFY) {
            0 => 50, // OpenDKIM's "no limit"
            most => most.min(50),
        },
        least_key_bits: number(names::MINIMUMKEYBITS).max(1024),
        must_be_signed: list(config, names::MUSTBESIGNED),
        clock_drift: u64::try_from(config.number(names::CLOCKDRIFT)).unwrap_or_default(),
    }
}

fn senders(files: &dyn Files, config: &Config, problems: &mut Problems) -> Senders {
    let mut set = |setting, case| set(files, config, setting, case, problems);
    Senders {
        headers: list(config, names::SENDERHEADERS),
        internal: set(names::INTERNALHOSTS, Case::Ignored).unwrap_or_default(),
        ignored_externals: set(names::EXTERNALIGNORELIST, Case::Ignored).unwrap_or_default(),
        peers: set(names::PEERLIST, Case::Ignored),
        exempt_domains: set(names::EXEMPTDOMAINS, Case::Ignored),
        mta_names: set(names::MTA, Case::Counts),
        macros: set(names::MACROLIST, Case::Counts),
    }
}

fn on(config: &Config, problems: &mut Problems) -> On {
    let mut action = |setting: Setting<names::kind::Text>| {
        let (word, at) = words(config.value(setting.name()))?;
        let action = Action::named(word);
        if action.is_none() {
            problems
                .error(at, format!("{}: \"{word}\" is no action", setting.name()))
                .instead("write accept, discard, quarantine, reject or tempfail");
        }
        action
    };
    let all = action(names::ON_DEFAULT);
    let mut of = |setting, usual| action(setting).or(all).unwrap_or(usual);
    On {
        bad_signature: of(names::ON_BADSIGNATURE, Action::Accept),
        key_not_found: of(names::ON_KEYNOTFOUND, Action::Accept),
        no_signature: of(names::ON_NOSIGNATURE, Action::Accept),
        dns_error: of(names::ON_DNSERROR, Action::Accept),
        security: of(names::ON_SECURITY, Action::Tempfail),
    }
}
