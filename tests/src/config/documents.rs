//! Fragments of real hosts' files, as administrators print them in their notes: all are read, and each setting in
//! them is obeyed or marked.

use ::config::files::Memory;
use ::config::{Problems, dovecot, opendkim, postfix};

/// main.cf of a VPS, a guide, a lab host and a sending host, one after the other.
const MAIN: &[&str] = &[
    "myhostname = mail.example.com\nmydomain = example.com\nmyorigin = $mydomain\ninet_interfaces = all\n\
     mydestination = $myhostname, localhost.$mydomain, localhost, example.com\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = private/auth\n\
     smtpd_sasl_auth_enable = yes\nsmtpd_sasl_security_options = noanonymous\nsmtpd_sasl_local_domain = $myhostname\n\
     smtpd_tls_security_level = may\nsmtpd_tls_cert_file = /etc/letsencrypt/live/example.com-0001/fullchain.pem\n\
     smtpd_tls_key_file = /etc/letsencrypt/live/example.com-0001/privkey.pem\nsmtpd_milters = inet:localhost:8891\n\
     non_smtpd_milters = $smtpd_milters\nmilter_default_action = accept\n",
    "myhostname = mail.example.com\nmydomain = example.com\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8, 10.0.0.0/24\n\
     smtpd_banner = $myhostname ESMTP\nhome_mailbox = Maildir/\nmessage_size_limit = 52428800\nmailbox_size_limit = 1073741824\n\
     smtpd_tls_session_cache_database = btree:${data_directory}/smtpd_scache\nsmtp_tls_security_level = may\nsmtp_tls_loglevel = 1\n\
     smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache\nsmtpd_recipient_restrictions =\n permit_mynetworks,\n\
     \x20permit_sasl_authenticated,\n reject_unauth_destination,\n reject_invalid_hostname,\n reject_non_fqdn_hostname,\n\
     \x20reject_non_fqdn_sender,\n reject_rbl_client zen.spamhaus.org,\n permit\nsmtpd_helo_required = yes\n\
     virtual_mailbox_domains = hash:/etc/postfix/virtual_domains\nvirtual_mailbox_base = /var/mail/vhosts\n\
     virtual_minimum_uid = 1000\nvirtual_uid_maps = static:5000\nvirtual_gid_maps = static:5000\n\
     transport_maps = hash:/etc/postfix/transport\nrelayhost = [smtp-relay.example.com]:587\nsmtp_sasl_auth_enable = yes\n\
     smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd\nsmtp_sasl_security_options = noanonymous\n\
     smtpd_tls_exclude_ciphers = aNULL, eNULL, EXPORT, DES, RC4, MD5, PSK, aECDH, EDH-DSS-DES-CBC3-SHA, KRB5-DES, CBC3-SHA\n\
     smtpd_tls_dh1024_param_file = /etc/postfix/dh2048.pem\nsmtp_tls_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1\n\
     smtpd_tls_session_cache_timeout = 3600s\nheader_checks = regexp:/etc/postfix/header_checks\n\
     milter_protocol = 6\nsmtpd_milters = unix:opendkim/opendkim.sock, unix:spamass/spamass.sock\n\
     postscreen_access_list = permit_mynetworks, cidr:/etc/postfix/postscreen_access.cidr\npostscreen_blacklist_action = drop\n\
     postscreen_dnsbl_sites =\n  zen.spamhaus.org*2\n  bl.spamcop.net*1\npostscreen_dnsbl_threshold = 3\n\
     postscreen_dnsbl_whitelist_threshold = -1\npostscreen_greet_action = enforce\n\
     postscreen_cache_map = btree:$data_directory/postscreen_cache\npostscreen_greet_wait = ${stress?2}${stress:6}s\n",
    "mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain\nmynetworks = 127.0.0.0/8, 192.168.0.0/16\n\
     smtpd_tls_session_cache_database = btree:/var/lib/postfix/smtpd_scache\nsmtpd_tls_received_header = yes\n\
     smtpd_tls_mandatory_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1\n",
    "broken_sasl_auth_clients = yes\nsmtpd_client_connection_rate_limit = 10\nsmtpd_client_message_rate_limit = 30\n\
     initial_destination_concurrency = 2\ndefault_destination_rate_delay = 1s\ndefault_destination_concurrency_limit = 5\n\
     maximal_queue_lifetime = 1d\nbounce_queue_lifetime = 1d\nmailbox_size_limit = 51200000\n",
];

const MASTER: &[&str] = &[
    "submission inet n - n - - smtpd\n -o syslog_name=postfix/submission\n -o smtpd_tls_security_level=encrypt\n\
     \x20-o smtpd_sasl_auth_enable=yes\n -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject\n\
     \x20-o milter_macro_daemon_name=ORIGINATING\nsmtps inet n - n - - smtpd\n -o smtpd_tls_wrappermode=yes\n",
    "smtp inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n",
    "smtp      inet  n       -       n       -       -       smtpd\n  -o smtpd_client_connection_count_limit=10\n\
     \x20-o smtpd_error_sleep_time=1s\n",
];

const DOVECOT: &[&str] = &[
    "mail_location = maildir:~/Maildir\nmail_privileged_group = mail\nprotocols = imap pop3\nauth_mechanisms = plain login\n\
     disable_plaintext_auth = no\nssl_cert = </etc/x/fullchain.pem\nssl_key = </etc/x/privkey.pem\nservice auth {\n\
       unix_listener /var/spool/postfix/private/auth {\n    mode = 0660\n    user = postfix\n    group = postfix\n  }\n}\n",
    "protocols = imap pop3 lmtp\nlisten = *, ::\nservice lmtp {\n  unix_listener /var/spool/postfix/private/dovecot-lmtp {\n\
         mode = 0600\n    user = postfix\n  }\n}\nservice auth {\n  unix_listener auth-userdb {\n    mode = 0600\n    user = vmail\n  }\n\
       user = dovecot\n}\nservice auth-worker {\n  user = vmail\n}\nmail_location = maildir:/var/mail/vhosts/%d/%n/Maildir\n\
     namespace inbox {\n  inbox = yes\n  mailbox \"Sent Messages\" {\n    special_use = \\Sent\n  }\n}\nmail_uid = vmail\nmail_gid = vmail\n\
     mail_max_userip_connections = 20\nplugin {\n  quota = maildir:User quota\n  quota_rule = *:storage=1G\n}\n",
    "ssl = yes\nssl_cipher_list = high:!aNULL:!RC4:!MD5:!kDH:!DH:!SRP:!DSS:!CAMELLIA:!3DES:!TLSv1:!TLSv1.1\n\
     ssl_protocols = !SSLv2 !SSLv3 !TLSv1 !TLSv1.1\n",
];

const OPENDKIM: &[&str] = &[
    "Mode sv\nSyslog yes\nSyslogSuccess yes\nLogWhy yes\nCanonicalization relaxed/simple\nDomain example.com\nSelector mail2026\n\
     KeyFile /etc/opendkim/keys/example.com/mail2026.private\nSocket local:/var/spool/postfix/opendkim/opendkim.sock\n\
     PidFile /run/opendkim/opendkim.pid\nOversignHeaders From\nTrustAnchorFile /usr/share/dns/root.key\n\
     KeyTable refile:/etc/opendkim/KeyTable\nSigningTable refile:/etc/opendkim/SigningTable\n\
     InternalHosts refile:/etc/opendkim/TrustedHosts\nExternalIgnoreList refile:/etc/opendkim/TrustedHosts\n",
    "Domain                  example.com\nKeyFile                 /etc/opendkim/keys/example.com/default.private\n\
     Selector                default\nSocket                  inet:8891@localhost\n",
];

#[test]
fn fragments_of_real_hosts_are_read() {
    for main in MAIN {
        for master in MASTER {
            let files = Memory::with([("/p/main.cf", *main), ("/p/master.cf", *master)]);
            let mut problems = Problems::default();
            postfix::Host::read(&files, "/p".as_ref(), &mut problems);
            assert_eq!(problems.to_string(), "", "{main}{master}");
        }
    }
    for text in DOVECOT {
        let mut problems = Problems::default();
        dovecot::Config::read(&Memory::with([("/d", *text)]), "/d".as_ref(), &mut problems);
        let told: Vec<String> = problems
            .iter()
            .map(ToString::to_string)
            .filter(|line| !line.contains("ssl_protocols is obsolete"))
            .collect();
        assert_eq!(told, Vec::<String>::new());
    }
    for text in OPENDKIM {
        let mut problems = Problems::default();
        opendkim::Config::read(&Memory::with([("/o", *text)]), "/o".as_ref(), &mut problems);
        assert_eq!(problems.to_string(), "");
    }
}

/// A mark written with `=` as in some notes is not OpenDKIM's language: it refuses it, and so do we.
#[test]
fn opendkim_settings_with_an_equals_sign_are_told() {
    let mut problems = Problems::default();
    let files = Memory::with([("/o", "Mode = sv\nUMask = 007\n")]);
    let config = opendkim::Config::read(&files, "/o".as_ref(), &mut problems);
    assert_eq!(config.value("Mode").map(|entry| entry.value.as_str()), None);
    assert_eq!(
        problems.to_string(),
        "/o:1: Mode: a value does not begin with =; write: Mode sv\n/o:2: UMask: a value does not begin with =; write: UMask 007\n"
    );
}

/// A filter that we do not call would let mail pass unseen: smtpd must not start on it; a limit is only told.
#[test]
fn ignoring_a_setting_that_matters_is_an_error() {
    let files = Memory::with([
        (
            "/p/main.cf",
            "smtpd_proxy_filter = inet:localhost:10025\nqmqpd_timeout = 5s\nsmtpd_dns_reply_filter =\npostscreen_greet_action = drop\n",
        ),
        ("/p/master.cf", ""),
    ]);
    let mut problems = Problems::default();
    let host = postfix::Host::read(&files, "/p".as_ref(), &mut problems);
    assert!(problems.is_empty());
    host.report_unsupported(&["smtpd"], &mut problems);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{problems}");
    assert!(told[0].starts_with("/p/main.cf:1: smtpd_proxy_filter: "), "{problems}");
    assert!(problems.has_errors());
}
