//! dovecot.conf becomes the worker's settings.

mod drivers;
mod fields;

use crate::settings::{
    Kind, Listed, LogLevel, MechanismName, PassDriver, PasswordLog, Realm, Settings,
};
use crate::template::Template;
use ::config::dovecot::{self, Config, Connection, View};
use ::config::{Place, Problems};
use std::collections::BTreeMap;

/// The services that ask, of those that a `protocol NAME { }` may give settings of their own.
const SERVICES: &[&str] =
    &["imap", "pop3", "lmtp", "lda", "smtp", "submission", "sieve", "doveadm"];

/// Backend processes at most; PAM's own delay keeps each busy for two seconds per wrong password.
const MOST_BACKENDS: u64 = 12;

/// Reads everything that the auth daemon obeys. Listeners come with the plan.
pub fn read(config: &Config, problems: &mut Problems) -> Settings {
    let global = config.global();
    let realm = realm(&global, problems);
    let mut services = BTreeMap::new();
    if config.root().sections.iter().any(|section| section.kind == "protocol") {
        for &service in SERVICES {
            let connection = Connection { protocol: Some(service), ..Connection::default() };
            let own = self::realm(&config.filter(&connection), problems);
            services.insert(service.to_owned(), own);
        }
    }
    let anvil = config.service("anvil", problems);
    let penalty = anvil.is_some_and(|anvil| {
        anvil.listeners.iter().any(|listener| listener.name == "anvil-auth-penalty")
    });
    let id = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let listed = Listed {
        first_uid: id(global.get(dovecot::FIRST_VALID_UID, problems)),
        last_uid: id(global.get(dovecot::LAST_VALID_UID, problems)),
        first_gid: id(global.get(dovecot::FIRST_VALID_GID, problems)),
        last_gid: id(global.get(dovecot::LAST_VALID_GID, problems)),
    };
    let backends = global.get(dovecot::AUTH_WORKER_MAX_COUNT, problems).clamp(1, MOST_BACKENDS);
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    Settings {
        hostname: hostname.to_string_lossy().into_owned(),
        listeners: Vec::new(),
        realm,
        services,
        failure_delay: global.get(dovecot::AUTH_FAILURE_DELAY, problems),
        penalty,
        backend_questions: usize::try_from(backends).unwrap_or(1),
        files_by_backend: false,
        listed,
    }
}

/// What a socket speaks; `None` for one that only Dovecot's own defaults ask for and that we do not
/// serve.
pub fn kind_of(name: &str, at: Option<&Place>, problems: &mut Problems) -> Option<Kind> {
    match Kind::of(name) {
        Ok(kind) => Some(kind),
        Err(why) => {
            if let Some(at) = at {
                problems.warning(at.clone(), format!("unix_listener {name}: {why}"));
            }
            None
        }
    }
}

fn realm(view: &View<'_>, problems: &mut Problems) -> Realm {
    let passdbs = drivers::passdbs(view, problems);
    let userdbs = drivers::userdbs(view, problems);
    let format = view.get(dovecot::AUTH_USERNAME_FORMAT, problems);
    let username_format = template(
        &format,
        view.place(dovecot::AUTH_USERNAME_FORMAT),
        "auth_username_format",
        problems,
    );
    let separator = view.get(dovecot::AUTH_MASTER_USER_SEPARATOR, problems);
    let realm = Realm {
        mechanisms: mechanisms(view, problems),
        default_realm: view.get(dovecot::AUTH_DEFAULT_REALM, problems),
        username_chars: view.get(dovecot::AUTH_USERNAME_CHARS, problems),
        username_translation: view.get(dovecot::AUTH_USERNAME_TRANSLATION, problems),
        username_format: username_format.filter(|format| !format.text().is_empty()),
        master_user_separator: separator.chars().next(),
        require_client_cert: view.get(dovecot::AUTH_SSL_REQUIRE_CLIENT_CERT, problems),
        passdbs,
        userdbs,
        log: LogLevel {
            verbose: view.get(dovecot::AUTH_VERBOSE, problems)
                || view.get(dovecot::AUTH_DEBUG, problems),
            debug: view.get(dovecot::AUTH_DEBUG, problems),
            passwords: passwords(view, problems),
        },
    };
    let answers = |passdb: &crate::settings::Passdb| {
        matches!(passdb.driver, PassDriver::PasswdFile { .. } | PassDriver::Static { .. })
    };
    if realm.mechanisms.contains(&MechanismName::CramMd5) && !realm.passdbs.iter().any(answers) {
        let place = view.place(dovecot::AUTH_MECHANISMS);
        problems.error(place, "CRAM-MD5 mechanism can't be supported with given passdbs").instead(
            "leave cram-md5 out of auth_mechanisms, or add a passwd-file with {PLAIN} passwords",
        );
    }
    realm
}

fn mechanisms(view: &View<'_>, problems: &mut Problems) -> Vec<MechanismName> {
    let mut mechanisms = Vec::new();
    for word in view.get(dovecot::AUTH_MECHANISMS, problems) {
        match MechanismName::parse(word.as_str()) {
            Some(name) if !mechanisms.contains(&name) => mechanisms.push(name),
            Some(_) => {}
            None => {
                let place = view.place(dovecot::AUTH_MECHANISMS);
                let text = format!("auth_mechanisms: {} is not supported", word.as_str());
                problems.error(place, text).instead("use plain, login and cram-md5");
            }
        }
    }
    mechanisms
}

/// `no`, `plain`, `sha1`, and a length after a colon.
fn passwords(view: &View<'_>, problems: &mut Problems) -> PasswordLog {
    let text = view.get(dovecot::AUTH_VERBOSE_PASSWORDS, problems);
    let (word, length) = match text.split_once(':') {
        Some((word, length)) => (word, length.parse().ok().map(Some)),
        None => (text.as_str(), Some(None)),
    };
    match (word, length) {
        ("" | "no", _) => PasswordLog::No,
        ("plain" | "yes", Some(length)) => PasswordLog::Plain(length),
        ("sha1", Some(length)) => PasswordLog::Sha1(length),
        _ => {
            let place = view.place(dovecot::AUTH_VERBOSE_PASSWORDS);
            problems
                .error(place, format!("auth_verbose_passwords: {text}"))
                .instead("write no, plain or sha1, with :LENGTH if you like");
            PasswordLog::No
        }
    }
}

/// Reads a text with variables; a problem names the setting.
fn template(
    text: &str,
    place: Option<Place>,
    setting: &str,
    problems: &mut Problems,
) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(why) => {
            problems.error(place, format!("{setting}: {why}"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
