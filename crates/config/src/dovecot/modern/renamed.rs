//! What a setting of one language is in the other, for the messages about a file that mixes them.

/// A setting of 2.3, in which block (`""`: any place outside one), and what to write in 2.4; `VALUE` is what stood there.
const CHANGED: &[(&str, &str, &str)] = &[
    ("", "auth_debug_passwords", "write log_debug = category=auth"),
    ("", "auth_default_realm", "write auth_default_domain = VALUE"),
    ("", "auth_worker_max_count", "write service auth-worker { process_limit = VALUE }"),
    ("", "dict", "write dict_server { dict NAME { … } }"),
    ("", "disable_plaintext_auth", "write auth_allow_cleartext, with the opposite of VALUE"),
    (
        "",
        "imap_id_log",
        "remove it: what clients say of themselves goes to the event imap_id_received",
    ),
    (
        "",
        "mail_location",
        "write mail_driver, mail_path and, where INBOX is elsewhere, mail_inbox_path",
    ),
    ("", "mail_debug", "write log_debug = category=mail"),
    ("", "mdbox_purge_preserve_alt", "remove it"),
    ("", "metric_group_by", "write metric_group_by inside a metric block"),
    ("", "plugin", "write its settings outside any block; their names are often others"),
    ("", "ssl_alt_cert", "write ssl_server_alt_cert_file, without <"),
    ("", "ssl_alt_key", "write ssl_server_alt_key_file, without <"),
    ("", "ssl_ca", "write ssl_server_ca_file, without <"),
    ("", "ssl_cert", "write ssl_server_cert_file, without <"),
    ("", "ssl_cert_username_field", "write ssl_server_cert_username_field = VALUE"),
    ("", "ssl_client_cert", "write ssl_client_cert_file, without <"),
    ("", "ssl_client_key", "write ssl_client_key_file, without <"),
    ("", "ssl_dh", "write ssl_server_dh_file, without <"),
    ("", "ssl_key", "write ssl_server_key_file, without <"),
    ("", "ssl_key_password", "write ssl_server_key_password = VALUE"),
    ("", "ssl_prefer_server_ciphers", "write ssl_server_prefer_ciphers = server or client"),
    ("", "ssl_protocols", "write ssl_min_protocol"),
    ("", "ssl_require_crl", "write ssl_server_require_crl = VALUE"),
    ("", "ssl_verify_client_cert", "write ssl_server_request_client_cert = VALUE"),
    ("", "stats_http_rawlog_dir", "remove it"),
    ("", "verbose_ssl", "write log_debug = category=ssl"),
    ("", "default_idle_kill", "write default_idle_kill_interval = VALUE"),
    ("", "lda_mailbox_autocreate", "write lda_mailbox_autocreate = VALUE outside any block"),
    ("namespace", "location", "write mail_driver and mail_path in this block"),
    ("passdb", "args", "write the driver's own settings, such as passwd_file_path or service_name"),
    ("passdb", "default_fields", "write fields { NAME:default = VALUE }"),
    ("passdb", "mechanisms", "write mechanisms_filter = VALUE"),
    ("passdb", "override_fields", "write fields { NAME = VALUE }"),
    ("passdb", "pass", "remove it, and write result_success = continue"),
    (
        "userdb",
        "args",
        "write the driver's own settings, such as passwd_file_path, or fields { NAME = VALUE }",
    ),
    ("userdb", "default_fields", "write fields { NAME:default = VALUE }"),
    ("userdb", "override_fields", "write fields { NAME = VALUE }"),
    ("service", "idle_kill", "write idle_kill_interval = VALUE"),
    ("service", "service_count", "write restart_request_count = VALUE"),
    ("inet_listener", "address", "write listen = VALUE"),
    ("plugin", "quota", "write quota NAME { … }"),
    ("plugin", "quota_rule", "write storage_size = SIZE in the quota block"),
    ("plugin", "sieve", "write sieve_script NAME { path = … }"),
];

/// Names of 2.4 with no row above, and what 2.3 has for them.
const BEFORE: &[(&str, &str)] = &[
    ("auth_allow_cleartext", "write disable_plaintext_auth, with the opposite value"),
    ("auth_default_domain", "write auth_default_realm"),
    ("dovecot_storage_version", "remove it"),
    ("mail_control_path", "write mail_location = …:CONTROL=PATH"),
    ("mail_driver", "write mail_location = DRIVER:PATH"),
    ("mail_inbox_path", "write mail_location = …:INBOX=PATH"),
    ("mail_index_path", "write mail_location = …:INDEX=PATH"),
    ("mail_path", "write mail_location = DRIVER:PATH"),
    ("mailbox_list_layout", "write mail_location = …:LAYOUT=NAME"),
    ("mailbox_list_utf8", "write mail_location = …:UTF-8"),
    ("passwd_file_path", "write args = PATH in the passdb or userdb block"),
    ("quota", "write plugin { quota = count:NAME }"),
    ("quota_storage_size", "write plugin { quota_rule = *:storage=SIZE }"),
    ("ssl_server_alt_cert_file", "write ssl_alt_cert = <PATH"),
    ("ssl_server_alt_key_file", "write ssl_alt_key = <PATH"),
    ("ssl_server_ca_file", "write ssl_ca = <PATH"),
    ("ssl_server_cert_file", "write ssl_cert = <PATH"),
    ("ssl_server_dh_file", "write ssl_dh = <PATH"),
    ("ssl_server_key_file", "write ssl_key = <PATH"),
    ("ssl_server_prefer_ciphers", "write ssl_prefer_server_ciphers = yes or no"),
    ("ssl_server_request_client_cert", "write ssl_verify_client_cert"),
];

/// What to write in a file of 2.4 for a setting or block of 2.3.
pub fn today(block: &str, name: &str, value: &str) -> Option<String> {
    let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let known = CHANGED
        .iter()
        .find(|(of, known, _)| *of == block && *known == name)
        .or_else(|| CHANGED.iter().find(|(of, known, _)| of.is_empty() && *known == name))
        .or_else(|| CHANGED.iter().find(|(of, known, _)| *of == "plugin" && *known == numbered))
        .map(|(.., text)| text.replace("VALUE", if value.is_empty() { "VALUE" } else { value }));
    let path = if block.is_empty() { String::new() } else { format!("{block}/") };
    known.or_else(|| {
        let old = |name: String| {
            crate::register::find(super::FACTS, &name).is_some_and(|fact| fact.until == "2.3")
        };
        old(format!("{path}{name}")).then(|| "remove it, or see what 2.4 has instead".to_owned())
    })
}

/// What to write in a file of 2.3 for a setting of 2.4.
pub fn before(name: &str) -> &'static str {
    let known = BEFORE.iter().find(|(known, _)| *known == name);
    known.map_or("write the 2.3 setting", |(_, instead)| instead)
}
