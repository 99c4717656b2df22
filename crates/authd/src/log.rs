//! Dovecot's log lines of the auth service. Failures are told only with `auth_verbose`.

use crate::login::Login;
use crate::scheme::hex;
use crate::settings::{LogLevel, PasswordLog};

/// Says something about a login, if this database or service is verbose.
pub fn info(verbose: bool, login: &Login, driver: &str, text: &str) {
    if verbose {
        tracing::info!(target: "mail", ident = "dovecot", "auth: {}{text}", login.prefix(driver));
    }
}

/// Tells a fault that the operator has to mend.
pub fn error(login: &Login, driver: &str, text: &str) {
    tracing::error!(target: "mail", ident = "dovecot", "auth: Error: {}{text}", login.prefix(driver));
}

/// As [`info`] and [`error`], from a backend worker; in Dovecot's words, which fail2ban knows.
pub fn from_worker(fault: bool, login: &Login, driver: &str, worker: u32, id: u64, text: &str) {
    let pid = std::process::id();
    let uid = nix::unistd::geteuid();
    let prefix = login.prefix(driver);
    let said =
        format!("conn unix:auth-worker (pid={pid},uid={uid}): auth-worker<{id}>: {prefix}{text}");
    if fault {
        tracing::error!(target: "mail", ident = "dovecot", "auth-worker({worker}): Error: {said}");
    } else {
        tracing::info!(target: "mail", ident = "dovecot", "auth-worker({worker}): {said}");
    }
}

/// Steps of a login, with `auth_debug`.
pub fn debug(level: &LogLevel, login: &Login, driver: &str, text: &str) {
    if level.debug {
        tracing::info!(target: "mail", ident = "dovecot", "auth: Debug: {}{text}", login.prefix(driver));
    }
}

/// What `auth_verbose_passwords` adds to a mismatch.
#[must_use]
pub fn given_password(level: &LogLevel, password: &[u8]) -> String {
    let cut = |text: String, length: Option<usize>| -> String {
        text.chars().take(length.unwrap_or(usize::MAX)).collect()
    };
    match level.passwords {
        PasswordLog::No => String::new(),
        PasswordLog::Plain(length) => {
            let text = crate::login::clean(&String::from_utf8_lossy(password));
            format!(" (given password: {})", cut(text, length))
        }
        PasswordLog::Sha1(length) => {
            format!(" (SHA1 of given password: {})", cut(hex(&crypto::sha1(password)), length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_passwords_show_only_as_asked_for() {
        let level = |passwords| LogLevel { passwords, ..LogLevel::default() };
        assert_eq!(given_password(&level(PasswordLog::No), b"x"), "");
        assert_eq!(
            given_password(&level(PasswordLog::Plain(None)), b"a\nb"),
            " (given password: a?b)"
        );
        assert_eq!(
            given_password(&level(PasswordLog::Sha1(Some(6))), b"secret"),
            " (SHA1 of given password: e5e9fa)"
        );
    }
}
