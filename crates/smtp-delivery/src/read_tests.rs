//! Each setting that the register says is obeyed changes what a service is told; what is wrong is told with its line.

use std::path::Path;

use config::files::Memory;
use config::postfix::Host;

use super::*;

const MAIN: &str = "myhostname = mail.example.com\ncompatibility_level = 3.6\nqueue_directory = /q\nalias_maps =\n\
    inet_interfaces = 127.0.0.1\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/p\n\
    lmtp_sasl_auth_enable = yes\nlmtp_sasl_password_maps = hash:/p\nsmtp_sender_dependent_authentication = yes\n\
    smtp_generic_maps = inline:{a=b}\nlmtp_generic_maps = inline:{a=b}\n";
const MASTER: &str = "smtp unix - - n - - smtp\nlmtp unix - - n - - lmtp\n";

fn read(main: &str, master: &str) -> (String, String) {
    let ca = rcgen_free_certificate();
    let files = Memory::with([
        ("/p/main.cf", format!("{MAIN}{main}\n")),
        ("/p/master.cf", master.to_owned()),
        ("/ca.pem", ca.to_owned()),
    ]);
    let mut problems = Problems::default();
    let host = Host::read(&files, Path::new("/p"), &mut problems);
    let mut shown = String::new();
    for service in host.services() {
        let read = Reader::new(&host, service, &files, &mut problems).read();
        shown.push_str(&format!("{read:?}\n"));
    }
    (shown, problems.to_string())
}

/// Any text: it is read as PEM by the worker.
fn rcgen_free_certificate() -> &'static str {
    "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
}

/// Of both programs, without their prefix.
const BOTH: &[&str] = &[
    "address_preference = ipv4",
    "address_verify_target = data",
    "balance_inet_protocols = no",
    "body_checks = regexp:/x",
    "bind_address = 192.0.2.1",
    "bind_address6 = 2001:db8::1",
    "bind_address_enforce = yes",
    "connect_timeout = 7s",
    "connection_cache_destinations = example.org",
    "connection_cache_on_demand = no",
    "connection_cache_time_limit = 7s",
    "connection_reuse_count_limit = 7",
    "connection_reuse_time_limit = 7s",
    "data_done_timeout = 7s",
    "data_init_timeout = 7s",
    "data_xfer_timeout = 7s",
    "delivery_status_filter = regexp:/x",
    "defer_if_no_mx_address_found = yes",
    "dns_support_level = disabled",
    "enforce_tls = yes",
    "fallback_relay = [x]",
    "generic_maps = inline:{x=y}",
    "header_checks = regexp:/x",
    "host_lookup = native",
    "line_length_limit = 77",
    "mail_timeout = 7s",
    "mime_header_checks = regexp:/x",
    "mx_address_limit = 7",
    "mx_session_limit = 7",
    "nested_header_checks = regexp:/x",
    "quit_timeout = 7s",
    "quote_rfc821_envelope = no",
    "randomize_addresses = no",
    "rcpt_timeout = 7s",
    "reply_filter = regexp:/x",
    "rset_timeout = 7s",
    "sasl_auth_enable = no",
    "sasl_auth_soft_bounce = no",
    "sasl_mechanism_filter = plain",
    "sasl_password_maps = hash:/x",
    "sasl_security_options = noanonymous",
    "sasl_tls_security_options = noanonymous",
    "sasl_tls_verified_security_options = noanonymous",
    "send_dummy_mail_auth = yes",
    "send_xforward_command = yes",
    "skip_5xx_greeting = no",
    "starttls_timeout = 7s",
    "tcp_port = 2525",
    "tls_CAfile = /ca.pem",
    "tls_cert_file = /cert",
    "tls_chain_files = /chain",
    "tls_connection_reuse = yes",
    "tls_eccert_file = /cert",
    "tls_exclude_ciphers = aRSA",
    "tls_fingerprint_cert_match = aa:bb",
    "tls_fingerprint_digest = sha1",
    "tls_force_insecure_host_tlsa_lookup = yes",
    "tls_loglevel = 1",
    "tls_mandatory_exclude_ciphers = aRSA",
    "tls_mandatory_protocols = >=TLSv1.3",
    "tls_note_starttls_offer = yes",
    "tls_policy_maps = hash:/x",
    "tls_protocols = >=TLSv1.3",
    "tls_secure_cert_match = hostname",
    "tls_security_level = may",
    "tls_servername = hostname",
    "tls_session_cache_database = btree:/x",
    "tls_verify_cert_match = nexthop",
    "tls_wrappermode = yes",
    "use_tls = yes",
    "xforward_timeout = 7s",
];

const REST: &[&str] = &[
    "smtp_always_send_ehlo = no",
    "smtp_never_send_ehlo = yes",
    "smtp_discard_ehlo_keywords = dsn",
    "smtp_discard_ehlo_keyword_address_maps = hash:/x",
    "smtp_helo_name = x",
    "smtp_helo_timeout = 7s",
    "smtp_skip_quit_response = no",
    "smtp_sender_dependent_authentication = no",
    "smtp_tls_dane_insecure_mx_policy = encrypt",
    "lmtp_discard_lhlo_keywords = dsn",
    "lmtp_discard_lhlo_keyword_address_maps = hash:/x",
    "lmtp_lhlo_name = x",
    "lmtp_lhlo_timeout = 7s",
    "lmtp_skip_quit_response = yes",
    "address_verify_negative_cache = no",
    "address_verify_service_name = x",
    "bounce_service_name = x",
    "default_delivery_status_filter = regexp:/x",
    "default_process_limit = 7",
    "defer_service_name = x",
    "disable_dns_lookups = yes",
    "disable_mime_output_conversion = yes",
    "enable_long_queue_ids = yes",
    "flush_service_name = x",
    "hash_queue_depth = 2",
    "hash_queue_names = x",
    "ignore_mx_lookup_error = yes",
    "inet_protocols = ipv4",
    "ipc_timeout = 7s",
    "mail_version = 3.10.1",
    "mime_boundary_length_limit = 7",
    "mime_nesting_limit = 7",
    "minimal_backoff_time = 7s",
    "propagate_unmatched_extensions = generic",
    "proxy_interfaces = 192.0.2.7",
    "queue_directory = /x",
    "relayhost = [x]",
    "soft_bounce = yes",
    "syslog_name = x",
    "tls_wildcard_matches_multiple_labels = no",
    "trace_service_name = x",
];

#[test]
fn every_setting_that_is_obeyed_is_read() {
    let (plain, problems) = read("", MASTER);
    assert_eq!(problems, "");
    let both = BOTH.iter().flat_map(|line| [format!("smtp_{line}"), format!("lmtp_{line}")]);
    for line in both.chain(REST.iter().map(|line| (*line).to_owned())) {
        let (changed, problems) = read(&line, MASTER);
        assert_ne!(changed, plain, "{line}");
        let overridden = problems.lines().all(|told| told.contains("overrides its earlier value"));
        assert!(overridden, "{line}: {problems}");
    }
    // Some only matter beside another.
    for (line, base) in [
        ("smtp_tls_enforce_peername = no", "smtp_enforce_tls = yes"),
        ("lmtp_tls_enforce_peername = no", "lmtp_enforce_tls = yes"),
        ("smtp_tls_key_file = /key", "smtp_tls_cert_file = /cert"),
        ("lmtp_tls_key_file = /key", "lmtp_tls_cert_file = /cert"),
        ("smtp_tls_eckey_file = /key", "smtp_tls_eccert_file = /cert"),
        ("lmtp_tls_eckey_file = /key", "lmtp_tls_eccert_file = /cert"),
        ("smtp_tls_session_cache_timeout = 7s", "smtp_tls_session_cache_database = btree:/x"),
        ("lmtp_tls_session_cache_timeout = 7s", "lmtp_tls_session_cache_database = btree:/x"),
    ] {
        assert_ne!(read(&format!("{base}\n{line}"), MASTER).0, read(base, MASTER).0, "{line}");
    }
    let (flags, _) = read("", "smtp unix - - n - 3 smtp\nlmtp unix - - n - - lmtp flags=DORX\n");
    assert!(flags.contains("limit: 3") && flags.contains("delivered_to: true"));
}

#[test]
fn a_directory_of_authorities_is_read() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("0123abcd.0"), "one").unwrap();
    std::fs::write(directory.path().join("README"), "two").unwrap();
    let shown = directory.path().display().to_string();
    assert_eq!(super::directory(&shown), [directory.path().join("0123abcd.0")]);
    for prefix in ["smtp", "lmtp"] {
        let files = Memory::with([
            ("/p/main.cf", format!("{MAIN}{prefix}_tls_CApath = {shown}\n")),
            ("/p/master.cf", MASTER.to_owned()),
            (&*format!("{shown}/0123abcd.0"), "one".to_owned()),
        ]);
        let mut problems = Problems::default();
        let host = Host::read(&files, Path::new("/p"), &mut problems);
        let service = host.services().find(|service| service.name == prefix).unwrap();
        let read = Reader::new(&host, service, &files, &mut problems).read().unwrap();
        assert_eq!(read.tls.authorities, "\none");
    }
}

#[test]
fn what_cannot_be_obeyed_is_an_error_with_its_line() {
    for (main, master, told) in [
        (
            "smtp_tls_security_level = dano",
            MASTER,
            "main.cf:13: smtp_tls_security_level: \"dano\" is not a possible value",
        ),
        ("smtp_tls_ciphers = null", MASTER, "null asks for TLS without encryption"),
        ("lmtp_tls_mandatory_ciphers = null", MASTER, "null asks for TLS without encryption"),
        ("smtp_tls_mandatory_ciphers = null", MASTER, "null asks for TLS without encryption"),
        ("lmtp_tls_ciphers = null", MASTER, "null asks for TLS without encryption"),
        ("smtp_sasl_password_maps =", MASTER, "without a password table"),
        (
            "smtp_sasl_security_options = noplain",
            MASTER,
            "unknown SASL security option \"noplain\"",
        ),
        ("smtp_tcp_port = mail", MASTER, "unknown service \"mail\""),
        ("smtp_bind_address = ::1", MASTER, "is no IPv4 address"),
        ("smtp_address_verify_target = mail", MASTER, "bad protocol stage"),
        ("smtp_dns_support_level = some", MASTER, "invalid value \"some\""),
        ("smtp_tls_CAfile = /nope", MASTER, "/nope: "),
        ("", "smtp unix - - n - - smtp flags=Z\n", "unknown flag \"Z\""),
        ("", "smtp unix - - n - - smtp what\n", "unknown argument \"what\""),
    ] {
        let (_, problems) = read(main, master);
        assert!(problems.contains(told), "{main}: {problems}");
    }
}

/// Each of them would fail at the first message; `proxy:` and what is made of others hide nothing.
#[test]
fn a_table_that_nobody_here_can_ask_is_told_with_its_line() {
    for (table, why) in [
        ("socketmap:inet:127.0.0.1:8461:postfix", "table type socketmap is not supported yet"),
        ("proxy:mysql:/etc/postfix/policy.cf", "table type mysql is not supported yet"),
        ("unionmap:{hash:/x, ldap:/l}", "table type ldap is not supported yet"),
        ("hsah:/x", "unsupported dictionary type: hsah"),
    ] {
        let told = read(&format!("smtp_tls_policy_maps = hash:/x, {table}"), MASTER).1;
        let line = MAIN.lines().count() + 1;
        let wanted = format!("/p/main.cf:{line}: {table}: {why}");
        assert!(told.contains(&wanted), "{told}");
    }
    assert_eq!(
        read("smtp_tls_policy_maps = proxy:hash:/x, unionmap:{cdb:/x, static:y}", MASTER).1,
        ""
    );
}
