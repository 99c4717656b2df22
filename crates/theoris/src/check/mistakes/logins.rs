//! Passwords that may cross the network in the clear.

use config::postfix::{self, Host};
use config::{Place, Problems, dovecot};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    if let Some(config) = &files.dovecot {
        of_dovecot(config, found);
    }
    if let Some(host) = &files.postfix {
        of_clients(host, found);
        to_relay(host, found);
    }
}

fn of_dovecot(config: &dovecot::Config, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let view = config.global();
    let protocols = view.get(dovecot::PROTOCOLS, &mut quiet);
    if !protocols.iter().any(|word| matches!(word.text.as_str(), "imap" | "pop3")) {
        return;
    }
    let ssl = view.get(dovecot::SSL, &mut quiet);
    let both = |finding: Finding| finding.of(Plank::Pop3).of(Plank::Imap);
    if ssl == "no" {
        let text = "ssl = no: passwords and mail cross the network in the clear";
        found.push(both(Finding::warning(view.place(dovecot::SSL), text).mend(super::words(
            config,
            "write ssl = required, with ssl_cert and ssl_key",
            "write ssl = required, with ssl_server_cert_file and ssl_server_key_file",
        ))));
    } else if ssl != "required" && !view.get(dovecot::DISABLE_PLAINTEXT_AUTH, &mut quiet) {
        let text = "logins are allowed without TLS: a password can be read on its way";
        found.push(both(Finding::warning(view.place(dovecot::DISABLE_PLAINTEXT_AUTH), text).mend(
            super::words(
                config,
                "write disable_plaintext_auth = yes, or ssl = required",
                "write auth_allow_cleartext = no, or ssl = required",
            ),
        )));
    }
}

fn of_clients(host: &Host, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let mut named: Vec<(Place, Vec<&str>)> = Vec::new();
    for service in super::smtp_servers(host) {
        let view = host.view(service);
        let level = view.get(postfix::SMTPD_TLS_SECURITY_LEVEL, &mut quiet);
        let encrypted = view.get(postfix::SMTPD_TLS_WRAPPERMODE, &mut quiet) || level == "encrypt";
        if !view.get(postfix::SMTPD_SASL_AUTH_ENABLE, &mut quiet)
            || view.get(postfix::SMTPD_TLS_AUTH_ONLY, &mut quiet)
            || encrypted
        {
            continue;
        }
        let place =
            view.place(postfix::SMTPD_SASL_AUTH_ENABLE).unwrap_or_else(|| service.at.clone());
        match named.iter_mut().find(|(known, _)| *known == place) {
            Some((_, names)) => names.push(&service.name),
            None => named.push((place, vec![&service.name])),
        }
    }
    for (place, names) in named {
        let text = format!(
            "{} takes logins without TLS: a password can be read on its way",
            names.join(" and ")
        );
        found.push(
            Finding::warning(place, text).mend("write smtpd_tls_auth_only = yes").of(Plank::SmtpIn),
        );
    }
}

/// Our own password at the relay host.
fn to_relay(host: &Host, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let main = host.main();
    let level = main.get(postfix::SMTP_TLS_SECURITY_LEVEL, &mut quiet);
    let options = main.get(postfix::SMTP_SASL_SECURITY_OPTIONS, &mut quiet);
    let plain = !options.iter().any(|word| word.text == "noplaintext");
    let certain =
        matches!(level.as_str(), "encrypt" | "dane-only" | "fingerprint" | "verify" | "secure")
            || main.get(postfix::SMTP_TLS_WRAPPERMODE, &mut quiet);
    if main.get(postfix::SMTP_SASL_AUTH_ENABLE, &mut quiet) && plain && !certain {
        let text = "the password for the relay host is sent without TLS when the relay host does not offer it";
        found.push(
            Finding::warning(super::place(host, "smtp_sasl_auth_enable"), text)
                .mend("write smtp_tls_security_level = encrypt")
                .of(Plank::SmtpOut),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::say;
    use super::*;

    #[test]
    fn logins_in_the_clear_are_told() {
        let dovecot = |text: &str| say(&[("dovecot.conf", text)], find);
        insta::assert_snapshot!(dovecot("protocols = imap\ndisable_plaintext_auth = no\n"), @"Warning /dovecot.conf:2: logins are allowed without TLS: a password can be read on its way; write disable_plaintext_auth = yes, or ssl = required");
        insta::assert_snapshot!(dovecot("protocols = pop3\nssl = no\n"), @"Warning /dovecot.conf:2: ssl = no: passwords and mail cross the network in the clear; write ssl = required, with ssl_cert and ssl_key");
        let modern = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\nauth_allow_cleartext = yes\nprotocols = imap\n";
        let told = dovecot(modern);
        assert!(
            told.contains("/dovecot.conf:3: logins are allowed without TLS")
                && told.contains("write auth_allow_cleartext = no"),
            "{told}"
        );
        assert_eq!(dovecot("protocols = imap\ndisable_plaintext_auth = no\nssl = required\n"), "");
        assert_eq!(dovecot("protocols = imap\n"), "");
        assert_eq!(dovecot("protocols = lmtp\nssl = no\n"), "", "nobody logs in");
    }

    #[test]
    fn submission_without_tls_is_told() {
        let postfix = |main: &str| {
            let master = "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n -o smtpd_tls_security_level=encrypt\nsmtps inet n - n - - smtpd\n -o smtpd_tls_wrappermode=yes\n";
            say(&[("postfix/main.cf", main), ("postfix/master.cf", master)], find)
        };
        insta::assert_snapshot!(postfix("smtpd_sasl_auth_enable = yes\nsmtpd_tls_security_level = may\n"), @"Warning /postfix/main.cf:1: smtp takes logins without TLS: a password can be read on its way; write smtpd_tls_auth_only = yes");
        assert_eq!(postfix("smtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = yes\n"), "");
        insta::assert_snapshot!(postfix("smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\nsmtp_tls_security_level = may\n"), @"Warning /postfix/main.cf:1: the password for the relay host is sent without TLS when the relay host does not offer it; write smtp_tls_security_level = encrypt");
    }
}
