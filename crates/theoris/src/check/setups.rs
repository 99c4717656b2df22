//! No setting of widely used mail set-ups is left without a mark. Only names are here: what they set them to is theirs.

use std::collections::BTreeSet;

use config::files::Memory;
use config::inventory::{Meaning, Written};
use config::{Problems, dovecot, opendkim, postfix, register};

/// main.cf and `-o` of mailcow-dockerized, docker-mailserver, iRedMail, Mail-in-a-Box, Modoboa and Mailu.
const POSTFIX: &[(&str, &str)] = &[
    (
        "mailcow-dockerized",
        "alias_database alias_maps append_dot_mydomain biff bounce_queue_lifetime broken_sasl_auth_clients compatibility_level
         delay_warning_time disable_vrfy_command inet_interfaces inet_protocols lmtp_tls_mandatory_protocols lmtp_tls_protocols
         mail_name mailbox_size_limit maximal_backoff_time maximal_queue_lifetime message_size_limit milter_default_action
         milter_mail_macros milter_protocol minimal_backoff_time mydestination mynetworks non_smtpd_milters plaintext_reject_code
         postscreen_access_list postscreen_bare_newline_enable postscreen_blacklist_action postscreen_cache_cleanup_interval
         postscreen_cache_map postscreen_discard_ehlo_keywords postscreen_dnsbl_action postscreen_dnsbl_sites
         postscreen_dnsbl_threshold postscreen_dnsbl_ttl postscreen_greet_action postscreen_greet_banner postscreen_greet_ttl
         postscreen_greet_wait postscreen_non_smtp_command_enable postscreen_pipelining_enable proxy_read_maps queue_run_delay
         recipient_bcc_maps recipient_canonical_classes recipient_canonical_maps recipient_delimiter relay_domains
         relay_recipient_maps relayhost sender_bcc_maps sender_dependent_default_transport_maps smtp_address_preference
         smtp_dns_support_level smtp_header_checks smtp_sasl_auth_enable smtp_sasl_auth_soft_bounce smtp_sasl_mechanism_filter
         smtp_sasl_password_maps smtp_sasl_security_options smtp_sender_dependent_authentication smtp_tls_CAfile smtp_tls_cert_file
         smtp_tls_key_file smtp_tls_loglevel smtp_tls_mandatory_protocols smtp_tls_policy_maps smtp_tls_protocols
         smtp_tls_security_level smtp_tls_session_cache_database smtpd_data_restrictions smtpd_delay_reject smtpd_error_sleep_time
         smtpd_hard_error_limit smtpd_helo_required smtpd_milters smtpd_proxy_timeout smtpd_recipient_restrictions
         smtpd_relay_restrictions smtpd_sasl_auth_enable smtpd_sasl_authenticated_header smtpd_sasl_path smtpd_sasl_type
         smtpd_sender_login_maps smtpd_sender_restrictions smtpd_soft_error_limit smtpd_tls_auth_only smtpd_tls_cert_file
         smtpd_tls_dh1024_param_file smtpd_tls_eecdh_grade smtpd_tls_exclude_ciphers smtpd_tls_key_file smtpd_tls_loglevel
         smtpd_tls_mandatory_ciphers smtpd_tls_mandatory_protocols smtpd_tls_protocols smtpd_tls_received_header
         smtpd_tls_security_level smtpd_tls_session_cache_database smtpd_use_tls smtputf8_enable tls_preempt_cipherlist
         tls_server_sni_maps tls_ssl_options transport_maps virtual_alias_maps virtual_gid_maps virtual_mailbox_base
         virtual_mailbox_domains virtual_mailbox_maps virtual_minimum_uid virtual_transport virtual_uid_maps
         local_transport mynetworks_style parent_domain_matches_subdomains postscreen_denylist_action
         postscreen_upstream_proxy_protocol queue_service_name rewrite_service_name smtp_delivery_status_filter
         smtpd_upstream_proxy_protocol",
    ),
    (
        "docker-mailserver",
        "header_checks postscreen_bare_newline_action postscreen_dnsbl_whitelist_threshold readme_directory smtp_tls_CApath
         smtpd_banner smtpd_client_restrictions smtpd_discard_ehlo_keywords smtpd_helo_restrictions smtpd_sasl_local_domain
         smtpd_sasl_security_options smtpd_tls_CApath smtpd_tls_chain_files tls_high_cipherlist
         content_filter milter_macro_daemon_name postscreen_dnsbl_allowlist_threshold receive_override_options",
    ),
    (
        "iRedMail",
        "allow_min_user allow_percent_hack body_checks command_directory daemon_directory data_directory debug_peer_level
         debugger_command enable_long_queue_ids enable_original_recipient mail_owner mailq_path mydomain myhostname myorigin
         newaliases_path queue_directory sendmail_path setgid_group show_user_unknown_table_name smtp_tls_note_starttls_offer
         smtpd_command_filter smtpd_end_of_data_restrictions smtpd_reject_unlisted_recipient smtpd_reject_unlisted_sender
         smtpd_tls_CAfile smtpd_tls_dh512_param_file swap_bangpath tls_random_source unknown_local_recipient_reject_code
         virtual_alias_domains
         dovecot_destination_recipient_limit local_header_rewrite_clients mlmmj_destination_recipient_limit
         postscreen_dnsbl_reply_map sender_dependent_relayhost_maps smtp-amavis_destination_recipient_limit
         smtpd_client_connection_count_limit smtpd_client_connection_rate_limit smtpd_restriction_classes
         strict_rfc821_envelopes",
    ),
    (
        "Mail-in-a-Box",
        "cleanup_service_name lmtp_destination_recipient_limit local_recipient_maps nested_header_checks smtp_bind_address
         smtp_bind_address6 smtp_tls_ciphers smtp_tls_exclude_ciphers smtp_tls_mandatory_ciphers smtpd_forbid_bare_newline
         smtpd_tls_ciphers smtpd_tls_mandatory_exclude_ciphers smtpd_tls_wrappermode syslog_name tls_medium_cipherlist",
    ),
    (
        "Modoboa",
        "address_verify_map milter_content_timeout proxy_write_maps smtpd_forbid_unauth_pipelining
         unverified_recipient_reject_code",
    ),
    (
        "Mailu",
        "lmtp_host_lookup maillog_file notify_classes polite_destination_concurrency_failed_cohort_limit
         polite_destination_concurrency_limit polite_destination_rate_delay polite_destination_recipient_limit
         sender_canonical_classes sender_canonical_maps smtp_host_lookup smtp_sasl_tls_security_options
         smtp_tls_dane_insecure_mx_policy smtpd_authorized_xclient_hosts
         turtle_destination_concurrency_failed_cohort_limit turtle_destination_concurrency_limit
         turtle_destination_rate_delay turtle_destination_recipient_limit unverified_recipient_reject_reason",
    ),
    (
        "what their scripts add",
        "max_use policyd-spf_time_limit postscreen_non_smtp_command_action postscreen_pipelining_action
         smtp-amavis_destination_recipient_limit smtp_data_done_timeout smtp_send_xforward_command smtp_tls_wrappermode
         smtpd_authorized_xforward_hosts smtpd_proxy_filter smtpd_proxy_options virtual_mailbox_limit",
    ),
];

/// dovecot.conf of the same; `service/unix_listener/mode` is the setting in such a block.
const DOVECOT: &[(&str, &str)] = &[
    (
        "mailcow-dockerized",
        "auth_master_user_separator auth_mechanisms auth_socket_path default_client_limit default_vsz_limit disable_plaintext_auth
         doveadm_port imap_max_line_length imap_metadata listen log_path log_timestamp login_log_format_elements
         mail_attachment_dir mail_attachment_fs mail_attachment_min_size mail_attribute_dict mail_home mail_location
         mail_max_userip_connections mail_plugins mail_prefetch_count mail_shared_explicit_inbox maildir_very_dirty_syncs
         managesieve_logout_format passdb/args passdb/driver passdb/master passdb/result_failure passdb/result_internalfail
         passdb/result_success passdb/skip plugin/acl plugin/acl_anyone plugin/acl_shared_dict plugin/acl_user plugin/fts
         plugin/fts_autoindex plugin/fts_solr plugin/imapsieve_mailbox1_before plugin/imapsieve_mailbox1_causes
         plugin/imapsieve_mailbox1_name plugin/imapsieve_mailbox2_from plugin/imapsieve_mailbox7_name plugin/listescape_char
         plugin/mail_crypt_global_private_key plugin/mail_crypt_global_public_key plugin/mail_crypt_save_version
         plugin/mail_log_cached_only plugin/mail_log_events plugin/mail_log_fields plugin/master_user plugin/quota plugin/quota_rule2
         plugin/quota_warning plugin/quota_warning2 plugin/sieve plugin/sieve_after plugin/sieve_after2 plugin/sieve_before
         plugin/sieve_before2 plugin/sieve_duplicate_default_period plugin/sieve_duplicate_max_period plugin/sieve_extensions
         plugin/sieve_global_extensions plugin/sieve_max_actions plugin/sieve_max_redirects plugin/sieve_max_script_size
         plugin/sieve_pipe_bin_dir plugin/sieve_plugins plugin/sieve_quota_max_scripts plugin/sieve_quota_max_storage
         plugin/sieve_redirect_envelope_from plugin/sieve_vacation_default_period plugin/sieve_vacation_max_period
         plugin/sieve_vacation_min_period plugin/sieve_vacation_send_from_recipient plugin/zlib_save protocols recipient_delimiter
         replication_dsync_parameters replication_max_conns service/executable service/fifo_listener/user
         service/inet_listener/haproxy service/inet_listener/port service/inet_listener/ssl service/process_limit
         service/process_min_avail service/service_count service/unix_listener/group service/unix_listener/mode
         service/unix_listener/user service/user service/vsz_limit ssl_cert ssl_cipher_list ssl_dh ssl_key ssl_min_protocol
         ssl_options ssl_prefer_server_ciphers submission_host userdb/args userdb/driver userdb/skip
         auth_cache_negative_ttl auth_cache_size auth_cache_ttl auth_cache_verify_password_with_worker auth_verbose_passwords
         plugin/fts_autoindex_exclude plugin/fts_autoindex_exclude2 plugin/fts_autoindex_max_recent_msgs
         plugin/fts_filters plugin/fts_filters_en plugin/fts_index_timeout plugin/fts_languages
         plugin/fts_tokenizer_email_address plugin/fts_tokenizer_generic plugin/fts_tokenizers
         plugin/imapsieve_mailbox2_before plugin/imapsieve_mailbox2_causes plugin/imapsieve_mailbox2_name
         plugin/mail_replica",
    ),
    (
        "iRedMail",
        "deliver_log_format first_valid_uid imap_client_workarounds last_valid_uid lda_mailbox_autocreate lda_mailbox_autosubscribe
         lmtp_save_to_detail_mailbox mail_gid mail_uid namespace/inbox namespace/list namespace/location namespace/prefix
         namespace/separator namespace/subscriptions namespace/type namespace/mailbox/auto namespace/mailbox/special_use
         plugin/last_login_dict plugin/last_login_key plugin/mailbox_alias_new plugin/mailbox_alias_new2 plugin/mailbox_alias_old
         plugin/mailbox_alias_old2 plugin/quota_grace plugin/quota_status_nouser plugin/quota_status_overquota
         plugin/quota_status_success plugin/quota_warning4 plugin/sieve_dir plugin/sieve_global_dir pop3_client_workarounds
         pop3_uidl_format service/client_limit service/fifo_listener/mode service/inet_listener/address ssl syslog_facility
         verbose_ssl
         plugin/quota_warning3",
    ),
    (
        "Mail-in-a-Box",
        "default_process_limit imap_idle_notify_interval mail_privileged_group postmaster_address ssl_dh_parameters_length
         userdb/default_fields
         mail_access_groups plugin/antispam_allow_append_to_spam plugin/antispam_backend plugin/antispam_pipe_program
         plugin/antispam_pipe_program_notspam_args plugin/antispam_pipe_program_spam_args
         plugin/antispam_spam_pattern_ignorecase plugin/antispam_trash_pattern_ignorecase ssl_client_ca_dir",
    ),
    (
        "Modoboa",
        "auth_username_format passdb/mechanisms passdb/pass",
    ),
    (
        "Mailu",
        "auth_username_chars default_internal_group default_internal_user default_login_user first_valid_gid
         haproxy_trusted_networks imap_urlauth_host lmtp_client_workarounds lmtp_proxy mail_debug
         plugin/fts_autoindex_exclude1 plugin/fts_enforced plugin/fts_filters_fr plugin/fts_header_excludes
         plugin/fts_tika plugin/quota_clone_dict plugin/quota_vsizes plugin/sieve_execute_bin_dir
         plugin/sieve_spamtest_max_value plugin/sieve_spamtest_status_header plugin/sieve_spamtest_status_type
         plugin/sieve_vacation_dont_check_recipient plugin/sieve_vacation_to_header_ignore_envelope
         plugin/zlib_save_level service/group ssl_alt_cert ssl_alt_key submission_backend_capabilities
         submission_client_workarounds submission_max_mail_size submission_relay_host submission_relay_port
         submission_relay_ssl submission_relay_trusted",
    ),
];

/// dovecot.conf of 2.4, with the names in full: `passdb_driver` is `driver` in a passdb block.
const MODERN: &[(&str, &str)] = &[
    (
        "docker-mailserver",
        "auth_mechanisms auth_username_format auth_verbose auth_verbose_passwords dovecot_config_version
         dovecot_storage_version execute_args inet_listener_port listen mail_driver mail_home mail_path mail_plugins
         mail_privileged_group mailbox_auto mailbox_list_index mailbox_special_use maildir_stat_dirs namespace_inbox
         passdb_default_password_scheme passdb_driver passdb_mechanisms_filter passwd_file_path protocols quota_driver
         quota_mail_size quota_storage_extra quota_storage_grace quota_storage_percentage quota_storage_size
         quota_warning_threshold service_chroot service_client_limit service_executable service_user sieve_extensions
         sieve_filter_bin_dir sieve_global_extensions sieve_pipe_bin_dir sieve_plugins ssl_cipher_list
         ssl_min_protocol ssl_server_cert_file ssl_server_dh_file ssl_server_key_file ssl_server_prefer_ciphers
         stats_writer_socket_path unix_listener_group unix_listener_mode unix_listener_user userdb_driver
         userdb_fields",
    ),
    (
        "iRedMail",
        "acl_driver acl_globals_only auth_allow_cleartext auth_master_user_separator default_client_limit default_process_limit
         default_vsz_limit dict_driver dict_file_path dict_map_key_field_value dict_map_sql_table
         dict_map_username_field dict_map_value_field_type dict_proxy_name first_valid_uid fts_autoindex
         imap_client_workarounds imap_max_line_length imap_metadata inet_listener_name inet_listener_ssl
         last_login_key last_valid_uid lda_mailbox_autocreate lda_mailbox_autosubscribe ldap_auth_dn
         ldap_auth_dn_password ldap_base ldap_debug_level ldap_deref ldap_scope ldap_starttls ldap_uris ldap_version
         lmtp_save_to_detail_mailbox log_path login_trusted_networks mail_gid mail_index_path mail_index_private_path
         mail_log_events mail_log_fields mail_max_userip_connections mail_uid mail_vsize_bg_after_count
         mailbox_list_index_very_dirty_syncs mysql_dbname mysql_password mysql_port mysql_user namespace_list
         namespace_prefix namespace_separator namespace_subscriptions namespace_type passdb_fields passdb_ldap_filter
         passdb_master passdb_result_success passdb_sql_query pgsql_connection_limit pgsql_host pgsql_parameters
         pop3_client_workarounds pop3_uidl_format quota_status_nouser quota_status_overquota quota_status_success
         recipient_delimiter service_process_min_avail sieve_duplicate_default_period sieve_duplicate_max_period
         sieve_max_redirects sieve_redirect_envelope_from sieve_script_driver sieve_script_path sieve_script_type
         sieve_vacation_send_from_recipient sql_driver ssl syslog_facility userdb_ldap_filter
         userdb_ldap_iterate_fields userdb_ldap_iterate_filter userdb_sql_iterate_query userdb_sql_query",
    ),
    (
        "Modoboa",
        "hostname lmtp_rcpt_check_quota oauth2_introspection_mode oauth2_introspection_url oauth2_username_attribute
         postmaster_address",
    ),
    (
        "what their scripts add",
        "fts_autoindex_max_recent_msgs fts_search_add_missing sieve_script_cause sieve_script_name",
    ),
];

/// opendkim.conf of docker-mailserver, Mail-in-a-Box and Modoboa.
const OPENDKIM: &str = "AlwaysAddARHeader AutoRestart AutoRestartRate Canonicalization ExternalIgnoreList InternalHosts KeyTable LogResults \
     LogWhy MinimumKeyBits Mode OmitHeaders OverSignHeaders PidFile RemoveOldSignatures RequireSafeKeys SignatureAlgorithm SigningTable \
     Socket SubDomains Syslog SyslogSuccess UMask UserID";

/// The services of theirs for which main.cf has settings.
const MASTER: &str = "lmtp unix - - n - - lmtp\ndovecot unix - n n - - pipe\nmlmmj unix - n n - - pipe\n\
                      smtp-amavis unix - - n - 2 smtp\npolicyd-spf unix - n n - 0 spawn\npolite unix - - n - - smtp\n\
                      turtle unix - - n - - smtp\n";

fn unmarked(written: &[Written]) -> Vec<String> {
    let unknown = written.iter().filter(|one| one.meaning() == Meaning::Unknown);
    unknown.map(|one| format!("{}/{}", one.of, one.name)).collect()
}

#[test]
fn every_name_of_postfix_is_marked() {
    for (setup, names) in POSTFIX {
        let main: String = names.split_whitespace().map(|name| format!("{name} = \n")).collect();
        let files = Memory::with([("/p/main.cf", main.as_str()), ("/p/master.cf", MASTER)]);
        let host = postfix::Host::read(&files, "/p".as_ref(), &mut Problems::default());
        let written = host.inventory();
        assert_eq!(unmarked(&written), Vec::<String>::new(), "{setup}");
        assert_eq!(
            written.len(),
            names.split_whitespace().collect::<BTreeSet<_>>().len(),
            "{setup}"
        );
    }
}

#[test]
fn every_name_of_dovecot_is_marked() {
    for (setup, names) in DOVECOT {
        for name in names.split_whitespace() {
            let mut parts: Vec<&str> = name.split('/').collect();
            let last = parts.pop().unwrap_or_default();
            let open: String = parts.iter().map(|block| format!("{block} x {{\n")).collect();
            let open = open
                .replace("plugin x", "plugin")
                .replace("passdb x", "passdb")
                .replace("userdb x", "userdb");
            // All plugins are loaded: what they read is then not idle.
            let loaded = "mail_plugins = acl fts imap_sieve sieve quota last_login mail_log mail_crypt mailbox_alias master zlib listescape \
                          replication antispam\n";
            let loaded = if last == "mail_plugins" { "" } else { loaded };
            let text = format!("{loaded}{open}{last} = 1\n{}", "}\n".repeat(parts.len()));
            let files = Memory::with([("/d", text.as_str())]);
            let config = dovecot::Config::read(&files, "/d".as_ref(), &mut Problems::default());
            let written = config.inventory();
            assert_eq!(unmarked(&written), Vec::<String>::new(), "{setup}: {text}");
            assert!(written.iter().any(|one| one.name == last), "{setup}: {last} is not listed");
        }
    }
}

#[test]
fn every_name_of_dovecot_2_4_is_marked() {
    for (setup, names) in MODERN {
        for name in names.split_whitespace() {
            let fact = register::find(dovecot::FACTS, name);
            assert!(fact.is_some_and(|fact| fact.until != "2.3"), "{setup}: {name}");
        }
    }
}

#[test]
fn every_name_of_opendkim_is_marked() {
    let text: String = OPENDKIM.split_whitespace().map(|name| format!("{name} 1\n")).collect();
    let names = OPENDKIM.split_whitespace().count();
    let mut problems = Problems::default();
    let config =
        opendkim::Config::read(&Memory::with([("/o", text)]), "/o".as_ref(), &mut problems);
    assert_eq!((config.inventory().len(), problems.to_string()), (names, String::new()));
}

/// Each row has one of the four marks, and a sentence where one is needed.
#[test]
fn every_mark_is_explained() {
    let facts = postfix::FACTS.iter().chain(dovecot::FACTS).chain(opendkim::names::FACTS);
    for fact in facts {
        assert!(
            fact.mark == register::Mark::Supported || !fact.sentence.is_empty(),
            "{}",
            fact.name
        );
    }
}
