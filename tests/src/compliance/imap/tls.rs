//! Which TLS a client gets: Debian's openssl asks Dovecot and ours, each with the same settings.

use std::process::{Command, Stdio};

use harness::certificates::Authority;
use harness::client::Client;
use harness::proof;

use super::Both;

/// Settings; then the words of `openssl s_client`, and how what it tells begins.
type Case = (&'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

const CASES: &[Case] = &[
    (&[("ssl", "no")], &[("", "nothing")]),
    (
        &[("ssl_min_protocol", "TLSv1.3")],
        &[("-verify_return_error", "TLSv1.3 "), ("-tls1_2", "nothing")],
    ),
    (
        &[
            ("ssl_cipher_list", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"),
            ("ssl_prefer_server_ciphers", "yes"),
        ],
        &[
            ("-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "nothing"),
            (
                "-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384",
                "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384",
            ),
        ],
    ),
];

/// Version and cipher of a connection whose certificate is good, or `nothing`.
fn asked(port: u16, ca: &str, words: &str) -> String {
    let mut client = Command::new("timeout");
    client.args(["10", "openssl", "s_client", "-starttls", "imap", "-brief", "-CAfile", ca]);
    client.args(["-connect", &format!("127.0.0.1:{port}")]).args(words.split_whitespace());
    let output = client.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (line("Protocol version:"), line("Ciphersuite:"), line("Verification:")) {
        (Some(version), Some(cipher), Some("OK")) => format!("{version} {cipher}"),
        _ => "nothing".to_owned(),
    }
}

#[test]
fn the_settings_of_tls_count() {
    let mut cases = CASES.to_vec();
    proof::keep_concerned(&mut cases, |(settings, _), forgotten| {
        settings.iter().any(|(name, _)| *name == forgotten)
    });
    for (settings, questions) in cases {
        let mut ca = String::new();
        let both = Both::start_with(|scratch| {
            let authority = Authority::new(&scratch.directory("tls"));
            let identity = authority.issue("imap", &["localhost"]);
            ca = authority.ca_file().display().to_string();
            let (cert, key) = (identity.chain.display(), identity.key.display());
            let set = settings.iter().map(|(name, value)| format!("{name} = {value}\n"));
            format!("ssl = yes\nssl_cert = <{cert}\nssl_key = <{key}\n{}", set.collect::<String>())
        });
        let Some(both) = both else { return };
        let ports = [both.dovecot.imap, both.port];
        for (words, wanted) in questions {
            let [theirs, ours] = ports.map(|port| asked(port, &ca, words));
            assert!(theirs.starts_with(wanted), "{settings:?} {words}: Dovecot gives {theirs}");
            assert_eq!(ours, theirs, "{settings:?} {words}");
        }
        let offered = ports.map(|port| Client::tcp(port).line().contains(" STARTTLS "));
        assert_eq!(offered, [settings[0] != ("ssl", "no"); 2], "{settings:?}");
    }
}
